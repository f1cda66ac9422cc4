//! What methods build on: calibrations, from their files or measured on the way, and units of a file.

use super::load::{Opened, data_file};
use super::options::{PruneOptions, positive};
use super::output::note;
use super::progress::{Unit, bar};
use anyhow::Result;
use clap::Args;
use secateur::config::{HistoryKind, Method, PruneConfig};
use secateur::engine::Engine;
use secateur::eval::calibrate::{self, CalibrateOptions};
use secateur::eval::data::TextData;
use secateur::eval::report::CalibrationRecord;
use secateur::prune::{Calibration, Knowledge, UnitSets};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// How a text is run where a conversation is calibrated on the way: samples of a pass, and tokens of each.
const TALK_BATCH: usize = 8;
const TALK_SEQ_LEN: usize = 256;

/// Options of commands whose methods may build on a calibration.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Pruning")]
pub struct KnowledgeOptions {
    /// What to build on: a file of `secateur calibrate`, or a text whose first chunks are run dense before anything else
    #[arg(long, value_name = "FILE")]
    pub calibration: Option<PathBuf>,
    /// How many chunks of such a text
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive)]
    pub calibration_samples: usize,
}

/// Knowledge as far as it goes without a device.
pub struct Prepared {
    known: Knowledge,
    text: Option<(TextData, CalibrateOptions, Vec<Vec<u32>>)>,
}

/// Knowledge, and what is to be said of it in results.
pub struct Known {
    /// For methods.
    pub knowledge: Knowledge,
    /// For results.
    pub record: Option<CalibrationRecord>,
    /// Seconds of measuring it in this run.
    pub seconds: f64,
}

impl KnowledgeOptions {
    /// Opens and checks everything that `prune` builds on, for samples of `seq_len` tokens in batches of `batch`.
    pub fn prepare(
        &self,
        opened: &Opened,
        sha256: &str,
        (options, prune): (&PruneOptions, &[&PruneConfig]),
        (batch, seq_len): (usize, usize),
    ) -> Result<Prepared> {
        let model = &opened.files.config;
        let masks = match &options.masks_in {
            Some(path) => {
                // Units that were chosen before the adapter was trained run with it.
                let base = opened.files.adapter_sha256().map(|_| opened.files.base_sha256()).transpose()?;
                let hashes: Vec<&str> = [Some(sha256), base.as_deref()].into_iter().flatten().collect();
                Some(Arc::new(UnitSets::open_any(path, model, &hashes)?))
            }
            None => None,
        };
        let mut prepared = Prepared { known: Knowledge { calibration: None, masks }, text: None };
        let used = prune.iter().any(|prune| prune.uses_calibration());
        match &self.calibration {
            Some(_) if !used => note("no method of this run builds on a calibration: --calibration is not used"),
            Some(path) if is_statistics(path) => {
                let calibration = Calibration::open(path)?;
                calibration.check_model(model, sha256)?;
                prepared.known.calibration = Some(Arc::new(calibration));
            }
            Some(path) => {
                let data = TextData::read(&data_file(path)?, None)?;
                let positions = finest(prune);
                let samples = self.calibration_samples;
                let options = CalibrateOptions { samples, seq_len, batch, seed: None, positions };
                let chunks = samples_of(&data, opened, &options)?;
                prepared.text = Some((data, options, chunks));
            }
            None => {}
        }
        Ok(prepared)
    }
}

impl KnowledgeOptions {
    /// The same for conversations, which find the calibration of their model by themselves.
    pub fn prepare_talk(&self, opened: &Opened, options: &PruneOptions, prune: &PruneConfig) -> Result<Prepared> {
        if self.calibration.is_none() && options.masks_in.is_none() {
            let calibration = Calibration::of_model(&opened.files)?.map(Arc::new);
            return Ok(Prepared { known: Knowledge { calibration, masks: None }, text: None });
        }
        let sha256 = opened.files.sha256()?;
        // A method may be chosen on the way: what is given is opened whatever the first one is.
        let prune =
            PruneConfig { method: if prune.method.is_static() { prune.method } else { Method::Pp }, ..prune.clone() };
        self.prepare(opened, &sha256, (options, &[&prune]), (TALK_BATCH, TALK_SEQ_LEN))
    }
}

fn is_statistics(path: &std::path::Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors"))
}

/// The finest positions that any of the settings wants to remember.
fn finest(prune: &[&PruneConfig]) -> HistoryKind {
    let wants = |kind| prune.iter().any(|prune| prune.history == kind && !prune.method.is_static());
    match (wants(HistoryKind::Exact), wants(HistoryKind::Buckets)) {
        (true, _) => HistoryKind::Exact,
        (false, true) => HistoryKind::Buckets,
        (false, false) => HistoryKind::Collapsed,
    }
}

/// The samples of a text; says so where there are fewer than asked for.
pub fn samples_of(data: &TextData, opened: &Opened, options: &CalibrateOptions) -> Result<Vec<Vec<u32>>> {
    let samples = calibrate::samples(data, &opened.tokenizer, options)?;
    let (found, wanted) = (samples.len(), options.samples);
    if found < wanted {
        note(&format!("the calibration text is enough for {found} of the {wanted} samples of {}", options.seq_len));
    }
    Ok(samples)
}

impl Prepared {
    /// What results will say of the calibration, before it is measured.
    pub fn record(&self, opened: &Opened) -> Result<Option<CalibrationRecord>> {
        let Some((data, options, samples)) = &self.text else {
            return Ok(self.known.calibration.as_deref().map(CalibrationRecord::from));
        };
        let recipe = calibrate::recipe((&opened.name, &opened.files.sha256()?), data, options, samples.len());
        Ok(Some(CalibrationRecord::from(&recipe)))
    }

    /// Measures what has to be measured.
    pub fn finish(self, opened: &Opened, engine: &Arc<Engine>) -> Result<Known> {
        let Prepared { mut known, text } = self;
        let started = Instant::now();
        if let Some((data, options, samples)) = text {
            let recipe = calibrate::recipe((&opened.name, &opened.files.sha256()?), &data, &options, samples.len());
            let bar = bar("calibrating", samples.len() as u64, Unit::Steps);
            let measured = calibrate::measure(engine, recipe, (&samples, options.batch), None, &mut |step| {
                bar.set_position(step.done as u64);
                Ok(())
            });
            bar.finish_and_clear();
            known.calibration = Some(Arc::new(measured?));
        }
        let record = known.calibration.as_deref().map(CalibrationRecord::from);
        Ok(Known { knowledge: known, record, seconds: started.elapsed().as_secs_f64() })
    }
}
