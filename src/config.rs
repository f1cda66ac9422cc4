//! Settings of a model, of pruning and of sampling: plain data, one type each for every face of the program, stored in
//! every result so that a run can be repeated.

mod family;
mod prune;

pub use family::{Blocks, Defaults, FAMILIES, Family, MlpKind, Norms, SlidingLayers};
pub use prune::{
    Fusion, HistoryKind, LayerRatios, Method, ProbeShares, PruneBlocks, PruneConfig, PrunePhases, ScoreKind, Statistic,
};

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// How rotary position embedding pairs the elements of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RopeLayout {
    /// Elements `2i` and `2i + 1` (GGUF's LLaMA files, whose q and k rows are permuted for it).
    Adjacent,
    /// Elements `i` and `i + head_dim / 2` (Hugging Face files).
    Halves,
}

/// Scaling of the rotary frequencies for contexts longer than the trained one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum RopeScaling {
    /// Every frequency is divided by `factor`.
    Linear {
        /// Ratio of the new context to the trained one.
        factor: f32,
    },
    /// LLaMA-3.1: low frequencies divided by `factor`, high ones kept, a linear ramp between.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f32,
        /// Wavelengths above `original / low_freq_factor` are scaled fully.
        low_freq_factor: f32,
        /// Wavelengths below `original / high_freq_factor` are kept.
        high_freq_factor: f32,
        /// The context length the model was first trained with, in tokens.
        original_max_position_embeddings: f32,
    },
    /// One divisor per frequency, as GGUF's `rope_freqs.weight` holds them. Length `head_dim / 2`.
    Factors(Vec<f32>),
}

/// The shape and constants of a model of one of the [`FAMILIES`], in Hugging Face's names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Name of the architecture in the file, such as "llama": GGUF's `general.architecture`, or Hugging Face's `model_type`.
    pub architecture: String,
    /// Human name of the model, where the file has one.
    pub name: Option<String>,
    /// Width of the residual stream (`H`). A multiple of 64.
    pub hidden_size: usize,
    /// Channels of an MLP (`C`).
    pub intermediate_size: usize,
    /// Transformer layers (`L`).
    pub num_hidden_layers: usize,
    /// Query heads (`A`).
    pub num_attention_heads: usize,
    /// Key/value heads (`K`); divides the query heads.
    pub num_key_value_heads: usize,
    /// Elements of a head (`d`); even.
    pub head_dim: usize,
    /// Tokens of the vocabulary, padding rows included.
    pub vocab_size: usize,
    /// Added to the mean square (of layer norms: to the variance) inside the norm.
    pub rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Scaling of the rotary frequencies, if any.
    pub rope_scaling: Option<RopeScaling>,
    /// How rope pairs elements in this file's q and k.
    pub rope_layout: RopeLayout,
    /// Longest context the model was trained for, in tokens.
    pub max_position_embeddings: usize,
    /// Whether the output head is the token embedding.
    pub tie_word_embeddings: bool,
    /// Rows of the table of learned positions before that of position 0; `None` = the model learns none.
    #[serde(default)]
    pub position_offset: Option<usize>,
    /// Width of the token embedding where it is not `hidden_size`: then one matrix widens it, and another narrows the last state.
    #[serde(default)]
    pub word_embed_proj_dim: Option<usize>,
    /// What its blocks have that LLaMA's lack.
    #[serde(default)]
    pub blocks: Blocks,
}

impl ModelConfig {
    /// Refuses shapes that no kernel can run, each with its numbers.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let positive = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        for (name, value) in positive {
            // Far above every real model; keeps products of two fields within u32 indices where kernels need it.
            if value == 0 || value > 1 << 24 {
                return Err(Error::Setting(format!("the model's {name} is {value}; it must lie in 1..=16777216")));
            }
        }
        let bad = |what: String| Err(Error::Setting(what));
        if !self.hidden_size.is_multiple_of(64) {
            return bad(format!("the model's hidden_size is {}; kernels need a multiple of 64", self.hidden_size));
        }
        if let Some(width) = self.word_embed_proj_dim
            && (width == 0 || width > 1 << 24 || !width.is_multiple_of(64))
        {
            return bad(format!("the model's word_embed_proj_dim is {width}; kernels need a multiple of 64"));
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return bad(format!(
                "{} query heads cannot share {} key/value heads evenly",
                self.num_attention_heads, self.num_key_value_heads
            ));
        }
        if !self.head_dim.is_multiple_of(4) || self.head_dim > 256 {
            return bad(format!("head_dim is {}; kernels need a multiple of 4, at most 256", self.head_dim));
        }
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 1.0) {
            return bad(format!("rms_norm_eps is {}; it must lie in (0, 1)", self.rms_norm_eps));
        }
        if self.blocks.sliding_window == Some(0) {
            return bad("the model's sliding window is 0 tokens; it must hold one at least".into());
        }
        if !(self.rope_theta > 0.0 && self.rope_theta.is_finite()) {
            return bad(format!("rope_theta is {}; it must be positive and finite", self.rope_theta));
        }
        Ok(())
    }

    /// The model's family.
    pub fn family(&self) -> Option<&'static Family> {
        Family::by_gguf(&self.architecture).or(Family::by_class(None, Some(&self.architecture)))
    }

    /// The family's name, for people.
    pub fn family_name(&self) -> &str {
        self.family().map_or(&self.architecture, |family| family.name)
    }

    /// Width of the token embedding and of the output head.
    pub fn embedding_width(&self) -> usize {
        self.word_embed_proj_dim.unwrap_or(self.hidden_size)
    }

    /// Query heads that share one key/value head.
    pub fn group_size(&self) -> usize {
        self.num_attention_heads / self.num_key_value_heads
    }

    /// What every rotary frequency is divided by where some are divided more than others. Length `head_dim / 2`.
    pub fn rope_factors(&self) -> Option<Vec<f32>> {
        let scaling = match &self.rope_scaling {
            None | Some(RopeScaling::Linear { .. }) => return None,
            Some(scaling) => scaling,
        };
        let factor = |i: usize| {
            let base = 1.0 / f64::from(self.rope_theta).powf(2.0 * i as f64 / self.head_dim as f64);
            (base / scaled_frequency(base, i, Some(scaling))) as f32
        };
        Some((0..self.head_dim / 2).map(factor).collect())
    }

    /// Rotary frequencies with scaling applied. Length `head_dim / 2`, radians per position.
    pub fn rope_frequencies(&self) -> Vec<f32> {
        let half = self.head_dim / 2;
        (0..half)
            .map(|i| {
                let base = 1.0 / f64::from(self.rope_theta).powf(2.0 * i as f64 / self.head_dim as f64);
                scaled_frequency(base, i, self.rope_scaling.as_ref()) as f32
            })
            .collect()
    }
}

fn scaled_frequency(base: f64, i: usize, scaling: Option<&RopeScaling>) -> f64 {
    match scaling {
        None => base,
        Some(RopeScaling::Linear { factor }) => base / f64::from(*factor),
        Some(RopeScaling::Factors(factors)) => base / factors.get(i).copied().map_or(1.0, f64::from),
        Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings }) => {
            let (low, high) = (f64::from(*low_freq_factor), f64::from(*high_freq_factor));
            let turns = f64::from(*original_max_position_embeddings) * base / std::f64::consts::TAU;
            let slow = base / f64::from(*factor);
            if turns < low {
                slow
            } else if turns > high {
                base
            } else {
                let ramp = (turns - low) / (high - low);
                (1.0 - ramp) * slow + ramp * base
            }
        }
    }
}

/// How the next token is drawn. The order is: repetition penalty, temperature, top-k, top-p, min-p, draw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SamplingConfig {
    /// Divides the logits; 0 = greedy.
    pub temperature: f32,
    /// Keep the `top_k` likeliest tokens; 0 = all.
    pub top_k: usize,
    /// Keep the smallest set whose probability reaches `top_p`; 1 = all.
    pub top_p: f32,
    /// Drop tokens less likely than `min_p` times the likeliest; 0 = none.
    pub min_p: f32,
    /// Divides (or multiplies, where negative) the logits of recent tokens; 1 = off.
    pub repetition_penalty: f32,
    /// How many recent tokens are penalised.
    pub repetition_window: usize,
    /// Seed of the draw.
    pub seed: u64,
}

impl Default for SamplingConfig {
    fn default() -> Self {
        SamplingConfig {
            temperature: 0.0,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repetition_penalty: 1.0,
            repetition_window: 64,
            seed: 0,
        }
    }
}

impl SamplingConfig {
    /// Refuses values outside their ranges.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the option and the value.
    pub fn validate(&self) -> Result<()> {
        let check = |ok: bool, name: &str, value: f32, range: &str| {
            if ok { Ok(()) } else { Err(Error::Setting(format!("{name} is {value}; it must lie in {range}"))) }
        };
        check(self.temperature >= 0.0 && self.temperature.is_finite(), "--temperature", self.temperature, "[0, inf)")?;
        check(self.top_p > 0.0 && self.top_p <= 1.0, "--top-p", self.top_p, "(0, 1]")?;
        check((0.0..1.0).contains(&self.min_p), "--min-p", self.min_p, "[0, 1)")?;
        let penalty = self.repetition_penalty;
        check(penalty > 0.0 && penalty.is_finite(), "--repetition-penalty", penalty, "(0, inf)")
    }
}

/// What a model's files say about text, as plain data: filled by `model`, turned into a tokenizer by `text`.
#[derive(Debug, Clone, PartialEq)]
pub struct TextSource {
    /// The vocabulary and how text is cut into it.
    pub tokenizer: TokenizerSource,
    /// The Jinja template of a conversation, where the model has one.
    pub chat_template: Option<String>,
    /// Where that template stands, for errors: a file, or an entry of one.
    pub chat_template_file: Option<String>,
    /// Token that opens a text, where the model has one.
    pub bos_token_id: Option<u32>,
    /// Tokens that end an answer; may be empty.
    pub eos_token_ids: Vec<u32>,
    /// Whether the model wants `bos_token_id` before every text; `None` = the files do not say.
    pub add_bos_token: Option<bool>,
}

/// Where a tokenizer comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenizerSource {
    /// The bytes of a Hugging Face `tokenizer.json`.
    Json(Vec<u8>),
    /// The vocabulary in GGUF metadata, or one of other files in the same form.
    Gguf(GgufVocabulary),
}

/// A vocabulary as GGUF metadata holds it (`tokenizer.ggml.*`).
#[derive(Debug, Clone, PartialEq)]
pub struct GgufVocabulary {
    /// `tokenizer.ggml.model`: "llama" (SentencePiece BPE by scores) or "gpt2" (byte-level BPE by merges).
    pub model: String,
    /// `tokenizer.ggml.pre`: name of the pre-tokenizer's splitting rules; "default" where absent.
    pub pre: String,
    /// The tokens by id.
    pub tokens: Vec<String>,
    /// SentencePiece scores by id; empty where absent.
    pub scores: Vec<f32>,
    /// Kinds by id (1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte); empty where absent.
    pub token_types: Vec<i32>,
    /// Merges in order of rank, each "left right"; empty where absent.
    pub merges: Vec<String>,
    /// Id of the unknown token.
    pub unknown_token_id: Option<u32>,
    /// Whether a space is put before the text; `None` = the kind's default.
    pub add_space_prefix: Option<bool>,
    /// Whether special tokens of a SentencePiece vocabulary take the white space behind them.
    pub special_rstrip: bool,
}
