//! From `--model` and `--device` to an engine that is ready.

use super::options::ModelOptions;
use super::progress::{Unit, bar};
use anyhow::Result;
use secateur::Error;
use secateur::engine::Engine;
use secateur::engine::needs::{self, Purpose};
use secateur::eval::report::{DeviceRecord, LoraRecord, ModelRecord};
use secateur::gpu::Gpu;
use secateur::model::adapter::Adapter;
use secateur::model::{ModelFiles, pull};
use secateur::text::{ChatTemplate, Tokenizer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// A model's files, checked, with its text side. No device yet.
pub struct Opened {
    /// What the user named.
    pub name: String,
    /// The adapter that the user named.
    pub lora: Option<PathBuf>,
    /// The files, with the adapter.
    pub files: ModelFiles,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
}

/// A model on a device.
pub struct Loaded {
    /// The engine.
    pub engine: Arc<Engine>,
    /// Seconds of opening the device and uploading the weights.
    pub seconds: f64,
}

/// The file that `--data` or `--calibration` means: a path, or the name of a pulled data set.
pub fn data_file(name_or_path: &Path) -> secateur::Result<PathBuf> {
    pull::resolve_data(name_or_path, &pull::data_dir()?)
}

/// The model with an adapter, where one is given.
pub fn adapted(files: ModelFiles, lora: Option<&Path>) -> secateur::Result<ModelFiles> {
    match lora {
        None => Ok(files),
        Some(folder) => {
            let adapter = Adapter::open(folder, &files)?;
            files.adapted(&adapter)
        }
    }
}

impl Opened {
    /// Finds and opens the model.
    pub fn open(options: &ModelOptions) -> Result<Opened> {
        let path = pull::resolve(&options.model, &pull::models_dir()?)?;
        let files = adapted(ModelFiles::open(&path)?, options.lora.as_deref())?;
        let tokenizer = Tokenizer::new(&files.text)?;
        Ok(Opened { name: options.model.clone(), lora: options.lora.clone(), files, tokenizer })
    }

    /// The model's name, with its adapter's.
    pub fn title(&self) -> String {
        match &self.lora {
            None => self.name.clone(),
            Some(lora) => format!("{} with {}", self.name, lora.display()),
        }
    }

    /// The model's chat template.
    pub fn template(&self) -> Result<ChatTemplate> {
        Ok(ChatTemplate::new(&self.files.text, &self.tokenizer)?)
    }

    /// Opens the device and uploads the weights.
    pub fn load(&self, options: &ModelOptions) -> Result<Loaded> {
        self.load_for(options, None)
    }

    /// [`Opened::load`], and on the same device the same model with other adapters.
    pub fn load_with(&self, options: &ModelOptions, others: &[ModelFiles]) -> Result<(Loaded, Vec<Arc<Engine>>)> {
        let started = Instant::now();
        let gpu = Gpu::open(&options.gpu())?;
        needs::check(&gpu, &self.files, None)?;
        needs::check_together(&gpu, &std::iter::once(&self.files).chain(others).collect::<Vec<_>>())?;
        let engine = self.upload(&gpu, &self.files)?;
        let others = others.iter().map(|files| self.upload(&gpu, files)).collect::<Result<_>>()?;
        Ok((Loaded { engine, seconds: started.elapsed().as_secs_f64() }, others))
    }

    /// [`Opened::load`] for a conversation, which has to fit the device's memory too.
    pub fn load_for(&self, options: &ModelOptions, purpose: Option<Purpose<'_>>) -> Result<Loaded> {
        let started = Instant::now();
        let gpu = Gpu::open(&options.gpu())?;
        needs::check(&gpu, &self.files, purpose)?;
        tracing::info!(adapter = gpu.info().name, backend = gpu.info().backend, "device opened");
        let (engine, seconds) = (self.upload(&gpu, &self.files)?, started.elapsed().as_secs_f64());
        tracing::info!(model = self.name, seconds, bytes = engine.gpu().allocated(), "model loaded");
        Ok(Loaded { engine, seconds })
    }

    fn upload(&self, gpu: &Arc<Gpu>, files: &ModelFiles) -> Result<Arc<Engine>> {
        let bar = bar(&format!("loading {}", self.title()), 1000, Unit::Share);
        let engine = Engine::load(gpu.clone(), files, &mut |share| {
            bar.set_position((share * 1000.0) as u64);
            Ok(())
        });
        bar.finish_and_clear();
        Ok(engine?)
    }

    /// The record of this model; reads its files once to hash them.
    pub fn record(&self) -> Result<ModelRecord> {
        Ok(ModelRecord {
            model: self.name.clone(),
            model_sha256: self.files.sha256()?,
            model_format: self.files.format_name(),
            lora: self.lora_record(),
        })
    }

    /// The record of the adapter.
    pub fn lora_record(&self) -> LoraRecord {
        LoraRecord {
            lora: self.lora.as_ref().map(|lora| lora.display().to_string()),
            lora_sha256: self.files.adapter_sha256().map(str::to_owned),
        }
    }

    /// The context to run with: `asked`, or `wished` as far as the model was trained for it.
    pub fn context(&self, asked: Option<usize>, wished: usize) -> Result<usize> {
        let trained = self.files.config.max_position_embeddings;
        match asked {
            None => Ok(wished.clamp(1, trained)),
            Some(context) if (1..=trained).contains(&context) => Ok(context),
            Some(context) => {
                let what =
                    format!("--context is {context}; the model was trained on {trained} tokens: use 1 to {trained}");
                Err(Error::Setting(what).into())
            }
        }
    }

    /// Refuses a prompt that a context cannot hold, before anything is loaded.
    pub fn check_prompt(&self, prompt_tokens: usize, context: usize) -> Result<()> {
        let trained = self.files.config.max_position_embeddings;
        match prompt_tokens {
            0 => Err(Error::Setting("the prompt is empty".into()).into()),
            tokens if tokens > context => Err(Error::PromptTooLong { prompt_tokens, context, trained }.into()),
            _ => Ok(()),
        }
    }
}

impl Loaded {
    /// The record of this device.
    pub fn record(&self) -> DeviceRecord {
        let (gpu, info) = (self.engine.gpu(), self.engine.gpu().info());
        DeviceRecord {
            adapter: info.name.clone(),
            backend: info.backend.clone(),
            driver: info.driver.clone(),
            max_binding_bytes: gpu.max_binding(),
            max_buffer_bytes: info.max_buffer_bytes,
        }
    }
}
