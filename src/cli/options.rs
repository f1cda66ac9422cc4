//! Options that commands share, and what they mean together.

use super::output::note;
use anyhow::Result;
use clap::{Args, ValueEnum};
use secateur::Error;
use secateur::config::{
    Fusion, HistoryKind, LayerRatios, Method, ProbeShares, PruneBlocks, PruneConfig, PrunePhases, SamplingConfig,
    ScoreKind, Statistic,
};
use secateur::gpu::{GpuOptions, MEGABYTE, cache_folder, matrix_units_refused};
use std::path::PathBuf;

/// The ratio where a method is named without one.
pub const DEFAULT_RATIO: f64 = 0.1;

/// Which model, on which device.
#[derive(Debug, Clone, Args)]
pub struct ModelOptions {
    /// A GGUF file, a Hugging Face folder, or the name of a pulled model
    #[arg(long, short, value_name = "MODEL", env = "SECATEUR_MODEL", default_value = "smollm2-135m")]
    pub model: String,
    /// Run the model with the LoRA adapter in FOLDER, in the form of Hugging Face's PEFT
    #[arg(long, value_name = "FOLDER")]
    pub lora: Option<PathBuf>,
    /// Part of a GPU's name, or its number in `secateur devices`
    #[arg(long, value_name = "NAME", env = "SECATEUR_DEVICE")]
    pub device: Option<String>,
    /// Take no more than MB megabytes of the device's memory, as where a graphics card does not say what it has
    #[arg(long, value_name = "MB", env = "SECATEUR_MEMORY")]
    pub memory: Option<u32>,
    /// Leave the GPU's matrix units alone; SECATEUR_NO_MATRIX_UNITS=1 does too
    #[arg(long)]
    pub no_matrix_units: bool,
}

impl ModelOptions {
    /// What to ask of the device.
    pub fn gpu(&self) -> GpuOptions {
        GpuOptions {
            adapter: self.device.clone(),
            cache: cache_folder(),
            memory: self.memory.map(|megabytes| u64::from(megabytes) * MEGABYTE),
            no_matrix_units: self.no_matrix_units || matrix_units_refused(),
            ..GpuOptions::default()
        }
    }
}

/// Names of methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MethodName {
    /// Every unit
    Dense,
    /// Probe every token and sample: the upper bound of probing
    FullBatch,
    /// Probe Pruning
    Pp,
    /// Wanda for structures: one choice for all inputs, from calibrated energies
    WandaSp,
    /// FLAP: one choice for all inputs, from calibrated fluctuations; means are put back
    Flap,
    /// The choice of a file, for all inputs (--masks-in)
    Masks,
}

/// Names of histories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HistoryName {
    /// By position: from the calibration (empty without one), then following the batches
    Exact,
    /// By ranges of positions that double
    Buckets,
    /// One for all positions
    Collapsed,
    /// Never
    Off,
}

/// Names of scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScoreName {
    /// The paper's: activations and weights by their squares
    Ppsp,
    /// Wanda's: by their sizes
    Wanda,
    /// FLAP's: meant for fluctuations
    Flap,
}

/// Names of statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StatisticName {
    /// Squared activations
    Energy,
    /// Squared distances from the calibrated mean
    Fluctuation,
}

/// Names of distributions over layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LayerRatiosName {
    /// All alike
    Uniform,
    /// One threshold over all layers' calibrated scores, at the same FLOPs
    Threshold,
}

/// Names of phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Phase {
    /// The prompt, or the evaluated batch
    Prefill,
    /// The answer
    Decode,
}

/// Names of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BlockName {
    /// Query heads
    Attention,
    /// MLP channels
    Mlp,
}

/// What to prune.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Pruning")]
pub struct PruneOptions {
    /// Which units are computed; `pp` where only a ratio is given
    #[arg(long, value_enum)]
    pub method: Option<MethodName>,
    /// Wished mean pruning ratio, in [0, 1); 0.1 where only a method is given
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    pub ratio: Option<f64>,
    /// Run the kept units of FILE, as `secateur masks` writes them, for all inputs; means --method masks
    #[arg(long, value_name = "FILE", conflicts_with = "ratio")]
    pub masks_in: Option<PathBuf>,
    /// When to prune [default: decode; `eval` always prunes the batch, which is a prefill]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PHASES")]
    pub prune: Option<Vec<Phase>>,
    #[command(flatten)]
    pub probe: ProbeOptions,
}

/// How the choice of units is made.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Pruning")]
pub struct ProbeOptions {
    /// Wished mean pruning ratio of heads alone, in [0, 1) [default: as --ratio]
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    pub head_ratio: Option<f64>,
    /// Share of the tokens that a probe runs, in (0, 1] [default: 0.5]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub probe_tokens: Option<f64>,
    /// Share of the samples that a probe runs, in (0, 1] [default: 0.05]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub probe_samples: Option<f64>,
    /// The same for the probes of heads alone [default: as --probe-tokens]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub probe_head_tokens: Option<f64>,
    /// The same for the probes of heads alone [default: as --probe-samples]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub probe_head_samples: Option<f64>,
    /// Where a single prompt is pruned, run at least N of its first tokens whole (and what is beyond tiles of 64) and choose from them for
    /// the others. 0 lets a probe of the whole prompt run ahead, as before a batch [default: 32]
    #[arg(long, value_name = "N")]
    pub lead_tokens: Option<usize>,
    /// What Probe Pruning remembers of earlier text [default: exact]
    #[arg(long, value_enum)]
    pub history: Option<HistoryName>,
    /// How probe and history become one: `scaled` by their own sizes, or the probe's fixed weight in [0, 1] [default: scaled]
    #[arg(long, value_name = "scaled|WEIGHT", value_parser = fusion, allow_negative_numbers = true)]
    pub fusion: Option<Fusion>,
    /// How units are scored [default: ppsp]
    #[arg(long, value_enum)]
    pub score: Option<ScoreName>,
    /// What of the activations is measured [default: energy]
    #[arg(long, value_enum)]
    pub statistic: Option<StatisticName>,
    /// Which layers are pruned how much [default: uniform]
    #[arg(long, value_enum)]
    pub layer_ratios: Option<LayerRatiosName>,
    /// Put the calibrated mean of what is dropped back, as FLAP does
    #[arg(long)]
    pub compensate: bool,
    /// Keep or drop all query heads of a key/value head together
    #[arg(long)]
    pub whole_groups: bool,
    /// What to prune [default: both]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "BLOCKS")]
    pub blocks: Option<Vec<BlockName>>,
    /// While decoding, choose anew every N tokens; 0 = never [default: 32]
    #[arg(long, value_name = "N")]
    pub reprobe_every: Option<usize>,
    /// Of those tokens, N show what the dropped units would have done [default: 4]
    #[arg(long, value_name = "N")]
    pub reprobe_tokens: Option<usize>,
    /// Kept channels are a multiple of this [default: 64]
    #[arg(long, value_name = "CHANNELS")]
    pub tile: Option<usize>,
    /// The first layers that are never pruned [default: 3]
    #[arg(long, value_name = "LAYERS")]
    pub dense_layers: Option<usize>,
    /// Weight of the old history in its running mean, in [0, 1] [default: 0.99]
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true)]
    pub ema: Option<f32>,
}

/// How the next token is drawn.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingOptions {
    /// Divides the logits; 0 = always the likeliest token [default: 0; chat: 0.2]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub temperature: Option<f32>,
    /// Draw among the K likeliest tokens; 0 = all [default: 40]
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Draw among the likeliest tokens that reach this probability together [default: 0.95]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub top_p: Option<f32>,
    /// Leave out tokens less likely than this share of the likeliest [default: 0.05]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub min_p: Option<f32>,
    /// Makes tokens of the answer so far less likely; 1 = off [default: 1; chat: 1.1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub repetition_penalty: Option<f32>,
    /// How many of the answer's last tokens are made less likely [default: 64]
    #[arg(long, value_name = "N")]
    pub repetition_window: Option<usize>,
}

impl From<MethodName> for Method {
    fn from(name: MethodName) -> Method {
        match name {
            MethodName::Dense => Method::Dense,
            MethodName::FullBatch => Method::FullBatch,
            MethodName::Pp => Method::Pp,
            MethodName::WandaSp => Method::WandaSp,
            MethodName::Flap => Method::Flap,
            MethodName::Masks => Method::Masks,
        }
    }
}

/// Parses a count.
pub fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a whole number from 1 on".into()),
        Ok(number) => Ok(number),
    }
}

fn fusion(text: &str) -> Result<Fusion, String> {
    match (text, text.parse()) {
        ("scaled", _) => Ok(Fusion::Scaled),
        (_, Ok(weight)) => Ok(Fusion::Fixed(weight)),
        _ => Err("`scaled`, or a weight in [0, 1]".into()),
    }
}

impl PruneOptions {
    /// The settings these options ask for; `default` is the method where neither method nor ratio is given.
    ///
    /// # Errors
    /// [`Error::Setting`] for a value outside its range.
    pub fn config(&self, default: Method) -> Result<PruneConfig> {
        if self.masks_in.is_some() && self.method.is_some_and(|method| method != MethodName::Masks) {
            return Err(Error::Setting(
                "--masks-in holds the choice of units: it goes with --method masks alone".into(),
            )
            .into());
        }
        let method = match (self.method, self.ratio) {
            (Some(method), _) => method.into(),
            (None, None) if self.masks_in.is_some() => Method::Masks,
            (None, Some(0.0)) => Method::Dense,
            (None, Some(_)) => Method::Pp,
            (None, None) => default,
        };
        let unset = if matches!(method, Method::Dense | Method::Masks) { 0.0 } else { DEFAULT_RATIO };
        let ratio = self.ratio.unwrap_or(unset);
        let mut config = self.probe.config();
        (config.method, config.ratio) = (method, ratio);
        if let Some(phases) = &self.prune {
            let has = |phase| phases.contains(&phase);
            config.phases = PrunePhases { prefill: has(Phase::Prefill), decode: has(Phase::Decode) };
        }
        config.validate()?;
        if method == Method::Dense && ratio > 0.0 {
            note(&format!("--method dense prunes nothing: --ratio {ratio} has no effect"));
            config.ratio = 0.0;
        }
        Ok(config)
    }

    /// The settings for whole batches, which are prefills.
    ///
    /// # Errors
    /// As [`PruneOptions::config`], and where `--prune` asks for anything else.
    pub fn batch_config(&self, default: Method) -> Result<PruneConfig> {
        if self.prune.as_ref().is_some_and(|phases| phases.as_slice() != [Phase::Prefill]) {
            return Err(
                Error::Setting("an evaluated batch is a prefill: --prune can only be `prefill` here".into()).into()
            );
        }
        let mut config = self.config(default)?;
        config.phases = PrunePhases { prefill: true, decode: false };
        Ok(config)
    }
}

impl ProbeOptions {
    /// Shares of the probes of heads, where they differ.
    fn heads_shares(&self, base: &PruneConfig) -> Option<ProbeShares> {
        let of_channels = ProbeShares {
            tokens: self.probe_tokens.unwrap_or(base.probe_tokens),
            samples: self.probe_samples.unwrap_or(base.probe_samples),
        };
        let of_heads = ProbeShares {
            tokens: self.probe_head_tokens.unwrap_or(of_channels.tokens),
            samples: self.probe_head_samples.unwrap_or(of_channels.samples),
        };
        (of_heads != of_channels).then_some(of_heads)
    }

    /// Settings with these options and no pruning; not validated.
    pub fn config(&self) -> PruneConfig {
        let base = PruneConfig::default();
        PruneConfig {
            probe_tokens: self.probe_tokens.unwrap_or(base.probe_tokens),
            probe_samples: self.probe_samples.unwrap_or(base.probe_samples),
            lead_tokens: self.lead_tokens.unwrap_or(base.lead_tokens),
            reprobe_every: self.reprobe_every.unwrap_or(base.reprobe_every),
            reprobe_tokens: self.reprobe_tokens.unwrap_or(base.reprobe_tokens),
            blocks: self.blocks.as_ref().map_or(base.blocks, |blocks| PruneBlocks {
                attention: blocks.contains(&BlockName::Attention),
                mlp: blocks.contains(&BlockName::Mlp),
            }),
            tile: self.tile.unwrap_or(base.tile),
            dense_layers: self.dense_layers.unwrap_or(base.dense_layers),
            ema: self.ema.unwrap_or(base.ema),
            head_ratio: self.head_ratio,
            probe_heads: self.heads_shares(&base),
            history: match self.history {
                None => base.history,
                Some(HistoryName::Exact) => HistoryKind::Exact,
                Some(HistoryName::Buckets) => HistoryKind::Buckets,
                Some(HistoryName::Collapsed) => HistoryKind::Collapsed,
                Some(HistoryName::Off) => HistoryKind::Off,
            },
            fusion: self.fusion.unwrap_or(base.fusion),
            score: match self.score {
                None => base.score,
                Some(ScoreName::Ppsp) => ScoreKind::Ppsp,
                Some(ScoreName::Wanda) => ScoreKind::Wanda,
                Some(ScoreName::Flap) => ScoreKind::Flap,
            },
            statistic: match self.statistic {
                None => base.statistic,
                Some(StatisticName::Energy) => Statistic::Energy,
                Some(StatisticName::Fluctuation) => Statistic::Fluctuation,
            },
            layer_ratios: match self.layer_ratios {
                None => base.layer_ratios,
                Some(LayerRatiosName::Uniform) => LayerRatios::Uniform,
                Some(LayerRatiosName::Threshold) => LayerRatios::Threshold,
            },
            compensate: self.compensate,
            whole_groups: self.whole_groups,
            ..base
        }
    }
}

impl SamplingOptions {
    /// These options over `base`.
    ///
    /// # Errors
    /// [`Error::Setting`] for a value outside its range.
    pub fn config(&self, base: SamplingConfig) -> Result<SamplingConfig> {
        let config = SamplingConfig {
            temperature: self.temperature.unwrap_or(base.temperature),
            top_k: self.top_k.unwrap_or(base.top_k),
            top_p: self.top_p.unwrap_or(base.top_p),
            min_p: self.min_p.unwrap_or(base.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(base.repetition_penalty),
            repetition_window: self.repetition_window.unwrap_or(base.repetition_window),
            seed: base.seed,
        };
        config.validate()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        prune: PruneOptions,
    }

    fn config(line: &str, default: Method) -> Result<PruneConfig> {
        let words = std::iter::once("x").chain(line.split_whitespace());
        Line::try_parse_from(words)?.prune.config(default)
    }

    #[test]
    fn a_ratio_alone_means_probe_pruning_and_a_method_alone_the_default_ratio() {
        let of = |line: &str, default| config(line, default).map(|c| (c.method, c.ratio)).unwrap();
        assert_eq!(of("", Method::Dense), (Method::Dense, 0.0));
        assert_eq!(of("", Method::Pp), (Method::Pp, DEFAULT_RATIO));
        assert_eq!(of("--ratio 0.3", Method::Dense), (Method::Pp, 0.3));
        assert_eq!(of("--ratio 0", Method::Pp), (Method::Dense, 0.0));
        assert_eq!(of("--method full-batch", Method::Dense), (Method::FullBatch, DEFAULT_RATIO));
        assert_eq!(of("--method dense --ratio 0.3", Method::Pp), (Method::Dense, 0.0));
    }

    #[test]
    fn ratios_outside_their_range_are_refused() {
        for ratio in ["1.0", "1.5", "-0.1", "NaN", "inf"] {
            let error = config(&format!("--ratio {ratio}"), Method::Dense).unwrap_err();
            assert!(error.downcast_ref::<Error>().is_some_and(Error::is_user_fault), "{ratio}: {error}");
        }
    }

    #[test]
    fn blocks_are_a_list() {
        let blocks = |line: &str| config(line, Method::Pp).unwrap().blocks;
        assert_eq!(blocks(""), PruneBlocks { attention: true, mlp: true });
        assert_eq!(blocks("--blocks mlp"), PruneBlocks { attention: false, mlp: true });
        assert_eq!(blocks("--blocks attention,mlp"), PruneBlocks::default());
    }

    #[test]
    fn phases_are_a_list() {
        let phases = |line: &str| config(line, Method::Pp).unwrap().phases;
        assert_eq!(phases(""), PrunePhases { prefill: false, decode: true });
        assert_eq!(phases("--prune prefill"), PrunePhases { prefill: true, decode: false });
        assert_eq!(phases("--prune prefill,decode"), PrunePhases { prefill: true, decode: true });
    }
}
