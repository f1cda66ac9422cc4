//! From a name to a model that is ready, with its text side; cancellable at every step.

use super::talk::Talk;
#[cfg(not(target_arch = "wasm32"))]
use crate::config::PruneConfig;
use crate::engine::Engine;
#[cfg(not(target_arch = "wasm32"))]
use crate::engine::needs::{self, Purpose};
#[cfg(target_arch = "wasm32")]
use crate::error::Error;
use crate::error::Result;
use crate::gpu::{self, Gpu, GpuOptions};
use crate::model::catalogue::Catalogue;
#[cfg(not(target_arch = "wasm32"))]
use crate::model::pull::{self, PullOptions};
#[cfg(target_arch = "wasm32")]
use crate::model::shelf;
use crate::model::{ModelFiles, TensorType};
use crate::protocol::{Device, Load, ModelInfo};
use crate::prune::{Calibration, Knowledge};
use crate::text::{ChatTemplate, Tokenizer};
use std::collections::BTreeMap;
use std::sync::Arc;
use web_time::Instant;

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
pub(super) async fn load(load: &Load, progress: &mut Progress<'_>) -> Result<Model> {
    let started = Instant::now();
    progress("opening", None)?;
    let files = open(&load.model).await?;
    let tokenizer = Tokenizer::new(&files.text)?;
    let template = ChatTemplate::new(&files.text, &tokenizer)?;
    progress("opening the device", None)?;
    let (gpu, engine);
    #[cfg(not(target_arch = "wasm32"))]
    {
        gpu = Gpu::open(&GpuOptions {
            adapter: load.device.clone(),
            cache: gpu::cache_folder(),
            memory: gpu::memory_limit()?,
            no_matrix_units: gpu::matrix_units_refused(),
            ..GpuOptions::default()
        })?;
        let context = load.context.clamp(1, files.config.max_position_embeddings);
        needs::check(&gpu, &files, Some(Purpose { context, prune: &PruneConfig::default(), live: true }))?;
        engine = Engine::load(gpu, &files, &mut |share| progress("loading", Some(share)))?;
    }
    #[cfg(target_arch = "wasm32")]
    {
        gpu = Gpu::open_async(&GpuOptions::default()).await?;
        engine = Engine::load(gpu, &files, &mut |share| progress("loading", Some(share))).await?;
    }
    #[cfg(target_arch = "wasm32")]
    match shelf::keep(&load.model, progress).await {
        Err(Error::Cancelled) => return Err(Error::Cancelled),
        // It runs as well without a copy.
        Err(error) => tracing::warn!(%error, "the model is not kept"),
        Ok(()) => {}
    }
    progress("looking for a calibration", None)?;
    let calibration = calibration(&files);
    let config = files.config.clone();
    let info = ModelInfo {
        name: load.model.clone(),
        path: files.path.clone(),
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

#[cfg(not(target_arch = "wasm32"))]
async fn open(model: &str) -> Result<ModelFiles> {
    ModelFiles::open(&pull::resolve(model, &pull::models_dir()?)?)
}

#[cfg(target_arch = "wasm32")]
async fn open(model: &str) -> Result<ModelFiles> {
    ModelFiles::begin(&shelf::find(model).await?).await
}

/// The calibration that `secateur calibrate` has made of this model. One that cannot be read is no reason not to talk.
#[cfg(not(target_arch = "wasm32"))]
fn calibration(files: &ModelFiles) -> Option<Calibration> {
    Calibration::of_model(files).unwrap_or_else(|error| {
        tracing::warn!(%error, "the calibration of this model cannot be used");
        None
    })
}

/// A browser has none.
#[cfg(target_arch = "wasm32")]
fn calibration(_: &ModelFiles) -> Option<Calibration> {
    None
}

/// Downloads a model of the catalogue.
#[cfg(not(target_arch = "wasm32"))]
pub(super) async fn download(name: &str, progress: &mut Progress<'_>) -> Result<()> {
    let catalogue = Catalogue::builtin()?;
    let mut hear = |at: pull::Progress| {
        let share = (at.total > 0 && at.done > 0).then(|| at.done as f32 / at.total as f32);
        progress(&at.step.to_string(), share)
    };
    pull::pull(catalogue.get(name)?, &mut PullOptions::new(pull::models_dir()?, &mut hear)).map(|_| ())
}

/// Downloads a model of the catalogue.
#[cfg(target_arch = "wasm32")]
pub(super) async fn download(name: &str, progress: &mut Progress<'_>) -> Result<()> {
    shelf::download(Catalogue::builtin()?.get(name)?, progress).await
}

/// Deletes what was downloaded of a model of the catalogue; a model that is loaded runs on.
#[cfg(not(target_arch = "wasm32"))]
pub(super) async fn delete(name: &str) -> Result<()> {
    pull::delete(Catalogue::builtin()?.get(name)?, &pull::models_dir()?)
}

/// Deletes what the page keeps of a model.
#[cfg(target_arch = "wasm32")]
pub(super) async fn delete(name: &str) -> Result<()> {
    shelf::delete(name).await
}

/// The devices of this machine, the default first.
pub(super) async fn devices() -> Vec<Device> {
    let device = |info: gpu::AdapterInfo| Device {
        index: info.index,
        name: info.name,
        kind: format!("{}, {}", info.backend, info.kind),
    };
    gpu::adapters_async().await.into_iter().map(device).collect()
}

/// The type that most weights have, by bytes.
fn weight_types(files: &ModelFiles) -> &'static str {
    let mut bytes: BTreeMap<&'static str, usize> = BTreeMap::new();
    for (kind, size) in files.types() {
        *bytes.entry(TensorType::name(kind)).or_default() += size;
    }
    bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map_or("no weights", |(name, _)| name)
}
