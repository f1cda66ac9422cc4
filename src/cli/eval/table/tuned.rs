//! The files of `--tuned`: units, and the model with the adapters that run with them.

use crate::cli::load::{Opened, adapted};
use anyhow::Result;
use secateur::Error;
use secateur::engine::Engine;
use secateur::eval::table::{Arm, Place, TunedRecord, TunedSpec, check_names};
use secateur::model::{MappedFile, ModelFiles};
use secateur::prune::{Knowledge, UnitSets};
use std::path::Path;
use std::sync::Arc;

/// What was opened.
#[derive(Default)]
pub struct Tuned {
    /// The model with each of the adapters.
    pub models: Vec<ModelFiles>,
    /// Units of each arm that has some, and which of the models runs them; without one, the model itself.
    rows: Vec<(Arc<UnitSets>, Option<usize>)>,
}

impl Tuned {
    /// Opens everything, and adds an arm for each to those that there are, of which the first is dense.
    pub fn open(specs: &[TunedSpec], opened: &Opened, arms: &mut Vec<Arm>) -> Result<Tuned> {
        let mut tuned = Tuned::default();
        if specs.is_empty() {
            return Ok(tuned);
        }
        let (config, base) = (&opened.files.config, arms[0].prune.clone());
        let mut hashes = vec![opened.files.sha256()?];
        if opened.files.adapter_sha256().is_some() {
            hashes.push(opened.files.base_sha256()?);
        }
        for spec in specs {
            let model = spec.lora.as_deref().map(|lora| tuned.model(lora, opened)).transpose()?;
            // Units that were chosen of the model with its adapter run with it too.
            let own = model.map(|index| tuned.models[index].sha256()).transpose()?;
            let known: Vec<&str> = hashes.iter().chain(&own).map(String::as_str).collect();
            let units = UnitSets::open_any(&spec.masks, config, &known)?;
            let record = TunedRecord {
                masks: spec.masks.display().to_string(),
                masks_sha256: MappedFile::open(&spec.masks)?.sha256(),
                lora: spec.lora.as_ref().map(|lora| lora.display().to_string()),
                lora_sha256: model.and_then(|index| tuned.models[index].adapter_sha256().map(str::to_owned)),
            };
            arms.push(spec.arm(&base, &units, config, record)?);
            tuned.rows.push((Arc::new(units), model));
        }
        check_names(arms)?;
        Ok(tuned)
    }

    /// The index of the model with an adapter, of which there is one for all rows that have the same.
    fn model(&mut self, lora: &Path, opened: &Opened) -> Result<usize> {
        if let Some(own) = &opened.lora {
            let what = format!(
                "--tuned has the adapter {} and --lora {}: a row runs with one, leave --lora out",
                lora.display(),
                own.display()
            );
            return Err(Error::Setting(what).into());
        }
        let files = adapted(ModelFiles::open(&opened.files.path)?, Some(lora))?;
        let same = |other: &ModelFiles| other.adapter_sha256() == files.adapter_sha256();
        Ok(self.models.iter().position(same).unwrap_or_else(|| {
            self.models.push(files);
            self.models.len() - 1
        }))
    }

    /// What each arm runs on: methods on the model itself with what they build on, rows of files on their own.
    pub fn places(
        &self,
        arms: &[Arm],
        known: &Knowledge,
        (own, adapted): (&Arc<Engine>, &[Arc<Engine>]),
    ) -> Vec<Place> {
        let methods = arms.len() - self.rows.len();
        let of_methods = (0..methods).map(|_| Place { engine: own.clone(), known: known.clone() });
        let of_files = self.rows.iter().map(|(units, model)| Place {
            engine: model.map_or(own, |index| &adapted[index]).clone(),
            known: Knowledge { calibration: None, masks: Some(units.clone()) },
        });
        of_methods.chain(of_files).collect()
    }
}
