//! The record of an evaluation, as it is printed and written: one flat object of stable names.

use super::continuation::{ContinuationOptions, Continued};
use super::data::{Chunks, TextData};
use super::perplexity::{Outcome, PerplexityOptions};
use crate::config::{HistoryKind, Method, PruneConfig};
use crate::prune::{Calibration, ProbeSize, Recipe};
use serde::{Deserialize, Serialize};

/// The device that a run used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// The driver's name of the device.
    pub adapter: String,
    /// "Vulkan", "Metal" or "Dx12".
    pub backend: String,
    /// The driver and its version.
    pub driver: String,
    /// Largest storage binding used, bytes.
    pub max_binding_bytes: u64,
    /// Largest buffer, bytes.
    pub max_buffer_bytes: u64,
}

/// The model that a run used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// What the user named.
    pub model: String,
    /// SHA-256 of the model's file (of a folder: of its list of hashes); with an adapter, of both.
    pub model_sha256: String,
    /// Format of the file.
    pub model_format: String,
    /// The adapter.
    #[serde(flatten)]
    pub lora: LoraRecord,
}

/// The LoRA adapter of a run; `null` where the model ran without one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LoraRecord {
    /// What the user named.
    #[serde(default)]
    pub lora: Option<String>,
    /// SHA-256 of the adapter's scale and factors.
    #[serde(default)]
    pub lora_sha256: Option<String>,
}

/// The calibration of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationRecord {
    /// The file.
    pub data: String,
    /// SHA-256 of the whole file.
    pub data_sha256: String,
    /// Samples measured.
    pub samples: usize,
    /// Tokens of each.
    pub seq_len: usize,
    /// Seed that drew them; `null` = the first of the text.
    pub seed: Option<u64>,
    /// Which positions share a row of the statistics.
    pub positions: HistoryKind,
}

impl From<&Calibration> for CalibrationRecord {
    fn from(calibration: &Calibration) -> CalibrationRecord {
        calibration.recipe().into()
    }
}

impl From<&Recipe> for CalibrationRecord {
    fn from(recipe: &Recipe) -> CalibrationRecord {
        CalibrationRecord {
            data: recipe.data.clone(),
            data_sha256: recipe.data_sha256.clone(),
            samples: recipe.samples,
            seq_len: recipe.seq_len,
            seed: recipe.seed,
            positions: recipe.positions,
        }
    }
}

/// A perplexity and everything it depends on. Floating-point operations are those of the transformer layers of all
/// scored batches, a multiplication and an addition as two; embedding, output head and calibration are left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PerplexityReport {
    /// `exp(nll)`, per token of this model's vocabulary.
    pub perplexity: f64,
    /// Mean negative log likelihood of the scored tokens, in nats.
    pub nll: f64,
    /// Scored tokens: all but the first of every chunk.
    pub tokens: usize,
    /// Batches run.
    pub batches: usize,
    /// Batches asked for.
    pub batches_asked: usize,
    /// Chunks run.
    pub chunks: usize,
    /// Tokens of a chunk.
    pub seq_len: usize,
    /// Tokens from the start of one chunk to the start of the next.
    pub stride: usize,
    /// Whether a special token opens each chunk.
    pub bos: bool,
    /// Chunks of a full batch.
    pub batch: usize,
    /// Which units were computed.
    pub method: Method,
    /// Wished mean pruning ratio.
    pub ratio: f64,
    /// Ratio that each pruned layer uses, so that the wished one is the mean.
    pub layer_ratio: f64,
    /// Kept MLP channels by layer.
    pub kept_mlp: Vec<usize>,
    /// Kept query heads by layer.
    pub kept_heads: Vec<usize>,
    /// What was computed, probes included.
    pub flops: f64,
    /// What a dense run computes.
    pub flops_dense: f64,
    /// The probes' part of `flops`.
    pub flops_probe: f64,
    /// Samples of a full batch's probe of MLP channels; 0 where nothing is probed.
    pub probe_samples: usize,
    /// Tokens of each; 0 where nothing is probed.
    pub probe_tokens: usize,
    /// Samples of a full batch's probe of heads; 0 where nothing is probed.
    pub probe_head_samples: usize,
    /// Tokens of each; 0 where nothing is probed.
    pub probe_head_tokens: usize,
    /// What Probe Pruning remembers; `null` for other methods.
    pub history: Option<HistoryKind>,
    /// What was measured before the first batch.
    pub calibration: Option<CalibrationRecord>,
    /// All settings of pruning.
    pub prune: PruneConfig,
    /// Seconds of the scored batches; the first run on a machine compiles its shaders in the first batch.
    pub seconds: f64,
    /// The same by batch.
    pub seconds_by_batch: Vec<f64>,
    /// Seconds of opening the device and uploading the model.
    pub seconds_load: f64,
    /// Seconds of the calibration, where it was measured in this run.
    pub seconds_calibration: f64,
    /// Seconds of preparing the method.
    pub seconds_prepare: f64,
    /// `tokens / seconds`.
    pub tokens_per_second: f64,
    /// The model.
    #[serde(flatten)]
    pub model: ModelRecord,
    /// The data file.
    pub data: String,
    /// SHA-256 of the whole data file.
    pub data_sha256: String,
    /// Characters of it that were used.
    pub data_chars: usize,
    /// Tokens of those characters.
    pub data_tokens: usize,
    /// The device.
    #[serde(flatten)]
    pub device: DeviceRecord,
    /// The seed given; nothing in this run is drawn at random.
    pub seed: u64,
    /// Version of the program.
    pub version: String,
}

/// What a run was asked for and on what, beside its options and outcome.
pub struct Circumstances {
    /// The model.
    pub model: ModelRecord,
    /// The device.
    pub device: DeviceRecord,
    /// The calibration, where there was one.
    pub calibration: Option<CalibrationRecord>,
    /// Batches asked for.
    pub batches_asked: usize,
    /// Seconds of opening the device and uploading the model.
    pub seconds_load: f64,
    /// Seconds of the calibration, where it was measured in this run.
    pub seconds_calibration: f64,
    /// The seed given.
    pub seed: u64,
}

impl PerplexityReport {
    /// Puts the record together.
    pub fn new(
        options: &PerplexityOptions,
        outcome: &Outcome,
        (data, chunks): (&TextData, &Chunks),
        circumstances: Circumstances,
    ) -> PerplexityReport {
        let Circumstances { model, device, calibration, batches_asked, seconds_load, seconds_calibration, seed } =
            circumstances;
        let remembers = options.prune.method == Method::Pp && outcome.plan.prunes();
        let seconds = outcome.seconds();
        let none = ProbeSize { samples: 0, tokens: 0 };
        let (heads, channels) = outcome.probe.map_or((none, none), |probe| (probe.heads, probe.channels));
        PerplexityReport {
            perplexity: outcome.perplexity(),
            nll: outcome.nll,
            tokens: outcome.tokens,
            batches: outcome.batches,
            batches_asked,
            chunks: outcome.chunks,
            seq_len: options.seq_len,
            stride: options.seq_len,
            bos: false,
            batch: options.batch,
            method: options.prune.method,
            ratio: options.prune.ratio,
            layer_ratio: outcome.plan.layer_ratio,
            kept_mlp: outcome.plan.layers.iter().map(|layer| layer.channels).collect(),
            kept_heads: outcome.plan.layers.iter().map(|layer| layer.heads).collect(),
            flops: outcome.flops.pass + outcome.flops.probe,
            flops_dense: outcome.flops.dense,
            flops_probe: outcome.flops.probe,
            probe_samples: channels.samples,
            probe_tokens: channels.tokens,
            probe_head_samples: heads.samples,
            probe_head_tokens: heads.tokens,
            history: remembers.then_some(options.prune.history),
            calibration,
            prune: options.prune.clone(),
            seconds,
            seconds_by_batch: outcome.seconds_by_batch.clone(),
            seconds_load,
            seconds_calibration,
            seconds_prepare: outcome.seconds_prepare,
            tokens_per_second: if seconds > 0.0 { outcome.tokens as f64 / seconds } else { 0.0 },
            model,
            data: data.path.display().to_string(),
            data_sha256: data.sha256.clone(),
            data_chars: data.text.chars().count(),
            data_tokens: chunks.tokens,
            device,
            seed,
            version: env!("CARGO_PKG_VERSION").to_string(),
        }
    }
}

/// Perplexity of continuations and everything it depends on. Floating-point operations are those of the transformer layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContinuationReport {
    /// `exp(nll)`, per token of this model's vocabulary.
    pub perplexity: f64,
    /// Mean negative log likelihood of the continuations' tokens, in nats.
    pub nll: f64,
    /// The same by passage.
    pub nll_by_passage: Vec<f64>,
    /// Tokens scored.
    pub tokens: usize,
    /// Passages run.
    pub passages: usize,
    /// Passages left out at the start of the text.
    pub skipped: usize,
    /// Tokens of a prompt.
    pub prompt_tokens: usize,
    /// Tokens of a continuation.
    pub answer_tokens: usize,
    /// Which units were computed.
    pub method: Method,
    /// Wished mean pruning ratio.
    pub ratio: f64,
    /// Choices of units in all passages.
    pub choices: usize,
    /// What the continuations computed, probes included.
    pub flops_answer: f64,
    /// What they compute dense.
    pub flops_answer_dense: f64,
    /// What the prompts computed, probes included.
    pub flops_prompt: f64,
    /// What they compute dense.
    pub flops_prompt_dense: f64,
    /// Of the prompts.
    pub prompt_tokens_per_second: f64,
    /// Of the continuations.
    pub answer_tokens_per_second: f64,
    /// What was measured before the first passage.
    pub calibration: Option<CalibrationRecord>,
    /// All settings of pruning.
    pub prune: PruneConfig,
    /// Seconds of opening the device and uploading the model.
    pub seconds_load: f64,
    /// The model.
    #[serde(flatten)]
    pub model: ModelRecord,
    /// The data file.
    pub data: String,
    /// SHA-256 of the whole data file.
    pub data_sha256: String,
    /// The device.
    #[serde(flatten)]
    pub device: DeviceRecord,
    /// Version of the program.
    pub version: String,
}

/// On what continuations were run.
pub struct ContinuationCircumstances {
    /// The model.
    pub model: ModelRecord,
    /// The device.
    pub device: DeviceRecord,
    /// The calibration, where there was one.
    pub calibration: Option<CalibrationRecord>,
    /// Seconds of opening the device and uploading the model.
    pub seconds_load: f64,
    /// Passages left out at the start of the text.
    pub skipped: usize,
}

impl ContinuationReport {
    /// Puts the record together.
    pub fn new(
        options: &ContinuationOptions,
        continued: &Continued,
        data: &TextData,
        circumstances: ContinuationCircumstances,
    ) -> ContinuationReport {
        let ContinuationCircumstances { model, device, calibration, seconds_load, skipped } = circumstances;
        let passages = continued.nll_by_passage.len();
        let rate = |tokens: usize, seconds: f64| if seconds > 0.0 { (passages * tokens) as f64 / seconds } else { 0.0 };
        let (prompt, answer) = (continued.flops_prompt, continued.flops_answer);
        ContinuationReport {
            perplexity: continued.perplexity(),
            nll: continued.nll,
            nll_by_passage: continued.nll_by_passage.clone(),
            tokens: continued.tokens,
            passages,
            skipped,
            prompt_tokens: options.prompt_tokens,
            answer_tokens: options.answer_tokens,
            method: options.prune.method,
            ratio: options.prune.ratio,
            choices: continued.choices,
            flops_answer: answer.pass + answer.probe,
            flops_answer_dense: answer.dense,
            flops_prompt: prompt.pass + prompt.probe,
            flops_prompt_dense: prompt.dense,
            prompt_tokens_per_second: rate(options.prompt_tokens, continued.seconds_prompt),
            // The first token of each is scored by its prompt's pass.
            answer_tokens_per_second: rate(options.answer_tokens.saturating_sub(1), continued.seconds_answer),
            calibration,
            prune: options.prune.clone(),
            seconds_load,
            model,
            data: data.path.display().to_string(),
            data_sha256: data.sha256.clone(),
            device,
            version: env!("CARGO_PKG_VERSION").to_string(),
        }
    }
}
