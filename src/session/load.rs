//! From a name to a model that is ready, with its text side; cancellable at every step.

use super::talk::Talk;
use crate::engine::Engine;
use crate::error::Result;
use crate::gpu::{self, Gpu, GpuOptions, cache_folder, matrix_units_refused};
use crate::model::catalogue::Catalogue;
use crate::model::pull::{self, PullOptions};
use crate::model::{ModelFiles, TensorType};
use crate::protocol::{Device, Load, ModelInfo};
use crate::prune::{Calibration, Knowledge};
use crate::text::{ChatTemplate, Tokenizer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// A model at work.
pub(super) struct Model {
    /// What faces are told of it.
    pub info: ModelInfo,
    pub tokenizer: Tokenizer,
    pub template: ChatTemplate,
    pub engine: Arc<Engine>,
    /// What methods may build on: the calibration of this model, where one was made.
    pub known: Knowledge,
    /// The conversation in its cache.
    pub talk: Option<Talk>,
}

/// Who hears how far it is: a stage in words, and the share done of it, where known. An error ends the work.
pub(super) type Progress<'p> = dyn FnMut(&str, Option<f32>) -> Result<()> + 'p;

/// Loads a model.
pub(super) fn load(load: &Load, progress: &mut Progress<'_>) -> Result<Model> {
    let started = Instant::now();
    progress("opening", None)?;
    let path = pull::resolve(&load.model, &pull::models_dir()?)?;
    let files = ModelFiles::open(&path)?;
    let tokenizer = Tokenizer::new(&files.text)?;
    let template = ChatTemplate::new(&files.text, &tokenizer)?;
    progress("opening the device", None)?;
    let gpu = Gpu::open(&GpuOptions {
        adapter: load.device.clone(),
        cache: cache_folder(),
        no_matrix_units: matrix_units_refused(),
        ..GpuOptions::default()
    })?;
    let engine = Engine::load(gpu, &files, &mut |share| progress("loading", Some(share)))?;
    progress("looking for a calibration", None)?;
    let calibration = calibration(&files);
    let config = files.config.clone();
    let info = ModelInfo {
        name: load.model.clone(),
        path,
        format: format!("{}, {}", files.format_name(), weight_types(&files)),
        context: load.context.clamp(1, config.max_position_embeddings),
        config,
        device: engine.gpu().info().name.clone(),
        seconds: started.elapsed().as_secs_f64(),
        memory: engine.gpu().allocated(),
        calibration: calibration.as_ref().map(|calibration| calibration.recipe().to_string()),
    };
    tracing::info!(model = info.name, device = info.device, seconds = info.seconds, "model loaded");
    let known = Knowledge { calibration: calibration.map(Arc::new), masks: None };
    Ok(Model { info, tokenizer, template, engine, known, talk: None })
}

/// The calibration that `secateur calibrate` has made of this model. One that cannot be read is no reason not to talk.
fn calibration(files: &ModelFiles) -> Option<Calibration> {
    Calibration::of_model(files).unwrap_or_else(|error| {
        tracing::warn!(%error, "the calibration of this model cannot be used");
        None
    })
}

/// Downloads a model of the catalogue.
pub(super) fn download(name: &str, progress: &mut Progress<'_>) -> Result<()> {
    let catalogue = Catalogue::builtin()?;
    let mut hear = |at: pull::Progress| {
        let share = (at.total > 0 && at.done > 0).then(|| at.done as f32 / at.total as f32);
        progress(&at.step.to_string(), share)
    };
    pull::pull(catalogue.get(name)?, &mut PullOptions::new(pull::models_dir()?, &mut hear)).map(|_| ())
}

/// The devices of this machine, the default first.
pub(super) fn devices() -> Vec<Device> {
    let device = |info: gpu::AdapterInfo| Device {
        index: info.index,
        name: info.name,
        kind: format!("{}, {}", info.backend, info.kind),
    };
    gpu::adapters().into_iter().map(device).collect()
}

/// The type that most weights have, by bytes.
fn weight_types(files: &ModelFiles) -> &'static str {
    let mut bytes: BTreeMap<&'static str, usize> = BTreeMap::new();
    for tensor in files.tensors() {
        *bytes.entry(TensorType::name(tensor.kind)).or_default() += tensor.bytes.len();
    }
    bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map_or("no weights", |(name, _)| name)
}
