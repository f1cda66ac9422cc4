//! What crosses between a face of the program and an engine at work: plain data, nothing of a device and nothing of a
//! window.
//!
//! A face sends [`Command`]s and drains [`Event`]s. Invariants: events of one [`Request`] carry its `id`, begin with
//! [`Event::Started`] and end with exactly one [`Event::Finished`] or [`Event::Failed`] (a comparison's: with a complete
//! [`Event::Compared`] or [`Event::Failed`]); tokens and probes are never left out; whatever fails is told in words that say
//! what to do.

mod heat;

pub use heat::{Cause, Heat, LayerHeat, UnitHeat};

use crate::config::{ModelConfig, PruneConfig, SamplingConfig};
use crate::text::Message;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// What a face asks for. Commands run one after another; [`crate::session::Handle::stop`] ends the running one early.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// List the devices: [`Event::Devices`].
    Devices,
    /// Load a model in place of the one that is loaded: [`Event::Loading`], then [`Event::Loaded`] or
    /// [`Event::LoadFailed`].
    Load(Load),
    /// Download a model of the catalogue, then load it: the same events.
    Pull {
        /// Its name in the catalogue.
        name: String,
        /// What to load afterwards; its `model` is the same name.
        load: Load,
    },
    /// Delete what was downloaded of a model of the catalogue: [`Event::Deleted`].
    Delete(String),
    /// Answer a prompt.
    Answer(Box<Request>),
    /// Answer the same prompt without pruning, and measure what pruning costs and saves on that very answer.
    Compare(Box<Request>),
    /// Prune an answer that has not ended like this, from its next prompt or re-probe on.
    Prune {
        /// The request's.
        id: u64,
        /// What to prune.
        prune: PruneConfig,
    },
    /// Read the masks that a headless evaluation saved: [`Event::Masks`] or [`Event::MasksFailed`].
    ReadMasks(PathBuf),
}

/// Which model, where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// A GGUF file, a Hugging Face folder, or a name of the catalogue.
    pub model: String,
    /// Part of a device's name, or its number; `None` = the fastest kind.
    pub device: Option<String>,
    /// Slots of the context, in tokens; cut down to what the model was trained on.
    pub context: usize,
}

/// What happens when a conversation outgrows the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// Nothing more is sent or written.
    #[default]
    Stop,
    /// The oldest messages are left out; the system message stays.
    DropOldest,
    /// The first question and its answer stay, and the newest messages; what lies between is left out.
    KeepEnds,
}

/// One answer to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Chosen by the face; comes back in every event of this answer.
    pub id: u64,
    /// The conversation up to the question, system message first where there is one.
    pub messages: Vec<Message>,
    /// The beginning of the answer, to be continued; empty = a new answer.
    pub begun: String,
    /// What to prune.
    pub prune: PruneConfig,
    /// How tokens are drawn.
    pub sampling: SamplingConfig,
    /// Longest answer, in tokens; `begun` does not count.
    pub max_tokens: usize,
    /// What to leave out of a conversation that is too long.
    pub overflow: Overflow,
}

/// What an engine tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The devices of this machine, the default first.
    Devices(Vec<Device>),
    /// A model is on its way.
    Loading {
        /// As it was named.
        model: String,
        /// What is done now: "downloading", "loading".
        stage: String,
        /// The share done of this stage, 0 to 1; `None` = not known.
        share: Option<f32>,
    },
    /// A model is ready.
    Loaded(Box<ModelInfo>),
    /// No model is loaded now.
    LoadFailed {
        /// As it was named.
        model: String,
        /// What happened and what to do; `None` = it was cancelled.
        error: Option<String>,
    },
    /// The prompt is about to run.
    Started {
        /// The request's.
        id: u64,
        /// What the model reads.
        prompt: Prompt,
    },
    /// The conversation was cut, before the answer or in the middle of it.
    Cut {
        /// The request's.
        id: u64,
        /// Places in the request's `messages` that are left out, ascending.
        left_out: Vec<usize>,
    },
    /// The next piece of the answer; empty while the prompt has just been read, or half a character is waiting.
    Token {
        /// The request's.
        id: u64,
        /// Whole characters.
        text: String,
        /// So far.
        figures: Figures,
    },
    /// Units were chosen.
    Heat(Arc<Heat>),
    /// The answer is complete.
    Finished {
        /// The request's.
        id: u64,
        /// Why it ended.
        stop: Stop,
        /// In all.
        figures: Figures,
    },
    /// The answer ended in an error. What came before stays; the engine has started anew if it had to.
    Failed {
        /// The request's.
        id: u64,
        /// What happened and what to do.
        error: String,
    },
    /// A comparison, growing: the last one of a request is complete.
    Compared {
        /// The request's.
        id: u64,
        /// So far.
        comparison: Comparison,
    },
    /// The engine lost its device and loads the model anew.
    DeviceLost {
        /// The driver's words.
        error: String,
    },
    /// Masks from a file.
    Masks(Box<MasksFile>),
    /// The files of a model were deleted, or could not be.
    Deleted {
        /// The model's name.
        name: String,
        /// Why they are still there.
        error: Option<String>,
    },
    /// Masks could not be read.
    MasksFailed {
        /// What happened and what to do.
        error: String,
    },
}

/// A device that can compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its number, accepted by [`Load::device`].
    pub index: usize,
    /// The driver's name of it.
    pub name: String,
    /// Backend and kind, such as "Vulkan, DiscreteGpu".
    pub kind: String,
}

/// A loaded model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// As it was named.
    pub name: String,
    /// The file or folder.
    pub path: PathBuf,
    /// Format of the file and of its weights, such as "GGUF, Q4_1".
    pub format: String,
    /// Its shape.
    pub config: ModelConfig,
    /// Slots of the context, in tokens.
    pub context: usize,
    /// The device's name.
    pub device: String,
    /// Seconds of loading.
    pub seconds: f64,
    /// Bytes on the device.
    pub memory: u64,
    /// What its calibration was measured on, in words; `None` = it has none, and choices know the conversation alone.
    pub calibration: Option<String>,
}

/// A prompt as the model reads it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    /// The text of every token, template included; together they are the rendered conversation.
    pub pieces: Vec<String>,
    /// How many of the first tokens were in the cache already.
    pub cached: usize,
    /// Places in the request's `messages` that were left out, ascending.
    pub left_out: Vec<usize>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// The model said so.
    End,
    /// A string came that ends an answer.
    Phrase,
    /// As many tokens as were asked for.
    Length,
    /// The context is full.
    Context,
    /// The user stopped it.
    Stopped,
}

/// What an answer took, so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that were run; the others were in the cache.
    pub prefilled: usize,
    /// Seconds that took.
    pub prefill_seconds: f64,
    /// Seconds from the request to the first token.
    pub first_token_seconds: f64,
    /// Tokens of the answer.
    pub answer_tokens: usize,
    /// Tokens that were run while decoding, without the one that the prompt's pass gives.
    pub decoded: usize,
    /// Seconds of decoding.
    pub decode_seconds: f64,
    /// Slots of the context in use, in tokens.
    pub context_used: usize,
    /// Bytes on the device.
    pub memory: u64,
    /// What the prompt cost.
    pub prefill: Cost,
    /// What the answer cost.
    pub decode: Cost,
}

/// What was computed and read, against a dense run of the same tokens. Embedding and output head count only in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// FLOPs of the transformer layers.
    pub flops: f64,
    /// The same, dense.
    pub flops_dense: f64,
    /// FLOPs of probes on top of `flops`.
    pub flops_probe: f64,
    /// Bytes of weights that were read, probes included.
    pub bytes: f64,
    /// The same, dense.
    pub bytes_dense: f64,
}

/// A dense run of a prompt beside the pruned one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The dense answer.
    pub text: String,
    /// Its tokens so far.
    pub tokens: usize,
    /// Tokens a second of the dense answer.
    pub dense_rate: f64,
    /// Tokens a second of the pruned model on the same tokens; `None` until it has run.
    pub pruned_rate: Option<f64>,
    /// Perplexity of the dense answer under the dense model.
    pub dense_perplexity: f64,
    /// Perplexity of the dense answer under the pruned model; `None` until it has run.
    pub pruned_perplexity: Option<f64>,
    /// Whether everything has run.
    pub complete: bool,
}

/// The masks of a headless evaluation: one [`Heat`] a batch, without scores.
#[derive(Debug, Clone, PartialEq)]
pub struct MasksFile {
    /// Where they lie.
    pub path: PathBuf,
    /// One line about the run: method, ratio, shape of a batch.
    pub title: String,
    /// In order.
    pub batches: Vec<Arc<Heat>>,
}

impl Figures {
    /// Tokens of the prompt a second; 0 where nothing ran.
    pub fn prefill_rate(&self) -> f64 {
        rate(self.prefilled, self.prefill_seconds)
    }

    /// Tokens of the answer a second; 0 before the second token.
    pub fn decode_rate(&self) -> f64 {
        rate(self.decoded, self.decode_seconds)
    }
}

impl Cost {
    /// The share of dense FLOPs that was saved, probes counted as cost; negative where probes cost more than was saved.
    pub fn removed(&self) -> f64 {
        if self.flops_dense > 0.0 { 1.0 - (self.flops + self.flops_probe) / self.flops_dense } else { 0.0 }
    }
}

impl std::ops::Add for Cost {
    type Output = Cost;

    fn add(self, other: Cost) -> Cost {
        Cost {
            flops: self.flops + other.flops,
            flops_dense: self.flops_dense + other.flops_dense,
            flops_probe: self.flops_probe + other.flops_probe,
            bytes: self.bytes + other.bytes,
            bytes_dense: self.bytes_dense + other.bytes_dense,
        }
    }
}

/// Tokens a second; 0 where nothing was timed.
pub fn rate(tokens: usize, seconds: f64) -> f64 {
    if tokens > 0 && seconds > 0.0 { tokens as f64 / seconds } else { 0.0 }
}
