//! What a model needs of a disk and of a device, in its own format and in those that `secateur convert` writes.

use crate::cli::load::Opened;
use crate::cli::options::ModelOptions;
use crate::cli::output::bytes;
use anyhow::Result;
use secateur::config::PruneConfig;
use secateur::engine::needs::Needs;
use secateur::gpu::{Gpu, Tier};
use secateur::model::convert::{RECIPES, Recipe};
use serde::Serialize;
use std::sync::Arc;

/// The shorter context that is looked at, in tokens.
const CONTEXT: usize = 4096;
/// Formats that people see; JSON has all.
const SHOWN: [&str; 8] = ["F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K"];

/// The device, and what is needed of it.
#[derive(Serialize)]
pub struct Demand {
    /// The adapter's name; `null` where there is none.
    device: Option<String>,
    /// Bytes of its memory that are free; `null` where nobody says.
    available: Option<u64>,
    /// The file as it is first, then every format.
    formats: Vec<Format>,
}

#[derive(Serialize)]
struct Format {
    /// `null` = the file as it is.
    format: Option<&'static str>,
    /// Bytes of the tensors in a file.
    file: u64,
    contexts: Vec<AtContext>,
}

#[derive(Serialize)]
struct AtContext {
    context: usize,
    #[serde(flatten)]
    needs: Needs,
    total: u64,
    /// `null` where nobody knows what is free.
    fits: Option<bool>,
}

impl Demand {
    /// For one conversation that is pruned by `prune`.
    pub fn new(opened: &Opened, options: &ModelOptions, prune: &PruneConfig) -> Result<Demand> {
        let gpu = device(options)?;
        let available = gpu.as_ref().and_then(|gpu| gpu.memory_available());
        let tier = gpu.as_ref().map_or(Tier::Gpu, |gpu| gpu.tier());
        let config = &opened.files.config;
        let trained = config.max_position_embeddings;
        let contexts = if trained > CONTEXT { vec![CONTEXT, trained] } else { vec![trained] };
        let mut formats = Vec::new();
        for recipe in std::iter::once(None).chain(RECIPES.iter().map(Some)) {
            let sizes = opened.files.sizes(recipe)?;
            let at = |&context: &usize| {
                let needs = Needs::new(config, sizes.device, context, (prune, false), tier);
                let total = needs.total();
                AtContext { context, needs, total, fits: available.map(|available| total <= available) }
            };
            let contexts = contexts.iter().map(at).collect();
            formats.push(Format { format: recipe.map(|recipe: &Recipe| recipe.name), file: sizes.file, contexts });
        }
        Ok(Demand { device: gpu.map(|gpu| gpu.info().name.clone()), available, formats })
    }

    /// For people: a line for the device, one for every format.
    pub fn lines(&self) -> Vec<String> {
        let device = match (&self.device, self.available) {
            (Some(device), Some(available)) => format!("of {device}, where {} are free", bytes(available)),
            (Some(device), None) => format!("of {device}, which does not say what is free (--memory MB does)"),
            (None, _) => "of a device (none is here)".into(),
        };
        let mut lines = vec![format!("memory {device}, for weights, a context, the longest pass and pruning:")];
        for Format { format, file, contexts } in &self.formats {
            if format.is_some_and(|format| !SHOWN.contains(&format)) {
                continue;
            }
            let at = |at: &AtContext| {
                let fits = match at.fits {
                    Some(true) => ", fits",
                    Some(false) => ", DOES NOT FIT",
                    None => "",
                };
                format!("{} at {} tokens{fits}", bytes(at.total), at.context)
            };
            let contexts: Vec<String> = contexts.iter().map(at).collect();
            lines.push(format!(
                "{:<9} {:>9} of tensors; {}",
                format.unwrap_or("this file"),
                bytes(*file),
                contexts.join("; ")
            ));
        }
        lines
    }
}

/// The device, where there is one; one that was asked for by name must be there.
fn device(options: &ModelOptions) -> Result<Option<Arc<Gpu>>> {
    match Gpu::open(&options.gpu()) {
        Ok(gpu) => Ok(Some(gpu)),
        Err(error) if options.device.is_some() => Err(error.into()),
        Err(error) => {
            tracing::info!(%error, "no device");
            Ok(None)
        }
    }
}
