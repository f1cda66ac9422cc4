//! The result of a table: rows of stable names, each with everything it depends on.

use super::tuned::TunedRecord;
use crate::config::{Method, PruneConfig};
use crate::eval::report::{CalibrationRecord, DeviceRecord, ModelRecord};
use serde::{Deserialize, Serialize};

/// Version of the layout of [`Table`].
const FORMAT: u32 = 1;

/// What a number of quality means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QualityName {
    /// `exp` of the mean negative log likelihood of a token; lower is better.
    Perplexity,
    /// Share of questions whose likeliest choice is the right one, in [0, 1]; higher is better.
    Acc,
    /// The same with likelihoods per character of the choice; higher is better.
    AccNorm,
}

impl QualityName {
    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            QualityName::Perplexity => "perplexity",
            QualityName::Acc => "acc",
            QualityName::AccNorm => "acc_norm",
        }
    }

    /// Whether more is worse.
    pub fn lower_is_better(self) -> bool {
        self == QualityName::Perplexity
    }

    /// How much worse `value` is than `dense`; negative where it is better.
    pub fn loss(self, value: f64, dense: f64) -> f64 {
        if self.lower_is_better() { value - dense } else { dense - value }
    }
}

/// One measured quality.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// What it is.
    pub quality: QualityName,
    /// The number.
    pub value: f64,
    /// Its standard error over the questions, where there is one.
    pub stderr: Option<f64>,
    /// Mean negative log likelihood of a scored token, in nats; of texts alone.
    pub nll: Option<f64>,
}

/// What a data set is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataKind {
    /// A text, scored token by token.
    Text,
    /// Multiple-choice questions.
    Task,
}

/// A data set as it was used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataRecord {
    /// Its name in the table.
    pub data: String,
    /// What it is for.
    pub data_kind: DataKind,
    /// SHA-256 of the whole file.
    pub data_sha256: String,
    /// Characters of it that were used; of texts alone.
    pub data_chars: Option<usize>,
    /// Chunks or questions run.
    pub data_rows: usize,
    /// Whether a special token opens each chunk or question.
    pub data_bos: bool,
    /// Batches of a round.
    pub data_batches: usize,
    /// Tokens scored in a round; of texts alone.
    pub data_tokens: Option<usize>,
}

/// What all rows of a table share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Protocol {
    /// The model.
    #[serde(flatten)]
    pub model: ModelRecord,
    /// Tokens of a chunk of text.
    pub seq_len: usize,
    /// Chunks of a full batch, or requests of one.
    pub batch: usize,
    /// Batches of each text asked for.
    pub batches_asked: usize,
    /// Passes over all data sets; qualities are those of the first, times those of all.
    pub rounds: usize,
    /// Seed of the order in which arms take turns.
    pub seed: u64,
    /// What statistics of activations were made from.
    pub calibration: Option<CalibrationRecord>,
    /// The device.
    #[serde(flatten)]
    pub device: DeviceRecord,
    /// Version of the program.
    pub version: String,
}

/// One quality of one arm on one data set, what it cost, and everything it depends on.
///
/// Runtimes are shares of what the dense arm took for the same batch of the same round; both ran within one step. The
/// first batch of each arm on each data set, which compiles shaders, runs once more beforehand and does not count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Name of the arm, unique within the table.
    pub name: String,
    /// Arms that differ by their ratio alone share it.
    pub series: String,
    /// Which units were computed.
    pub method: Method,
    /// Wished mean pruning ratio.
    pub ratio: f64,
    /// The data set.
    #[serde(flatten)]
    pub data: DataRecord,
    /// The quality.
    #[serde(flatten)]
    pub quality: Quality,
    /// The dense arm's value on the same data.
    pub value_dense: f64,
    /// Quality lost per share of runtime saved, both against dense: the paper's PRR, lower is better. `null` where no
    /// runtime was saved.
    pub prr: Option<f64>,
    /// Quality lost per share of FLOPs saved, probes counted as cost. `null` where none were saved.
    pub prr_flops: Option<f64>,
    /// Median over batches and rounds of the share of the dense runtime; 1 for dense.
    pub runtime: f64,
    /// First quartile of the same.
    pub runtime_low: f64,
    /// Third quartile of the same.
    pub runtime_high: f64,
    /// Median over batches and rounds of the tokens run in a second.
    pub tokens_per_second: f64,
    /// Seconds by batch, round after round.
    pub seconds_by_batch: Vec<f64>,
    /// Floating-point operations of the transformer layers in one round, probes included.
    pub flops: f64,
    /// What a dense run computes.
    pub flops_dense: f64,
    /// The probes' part of `flops`.
    pub flops_probe: f64,
    /// Kept query heads by layer.
    pub kept_heads: Vec<usize>,
    /// Kept MLP channels by layer.
    pub kept_mlp: Vec<usize>,
    /// Whether all rounds scored alike to the last bit; `null` with one round.
    pub rounds_agree: Option<bool>,
    /// All settings of pruning.
    pub prune: PruneConfig,
    /// The files of units and adapter that ran; `null` where a method chose.
    #[serde(default)]
    pub tuned: Option<TunedRecord>,
    /// What all rows share.
    #[serde(flatten)]
    pub protocol: Protocol,
}

/// A whole table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Version of this layout.
    pub format: u32,
    /// The rows: data set by data set, quality by quality, arms in the order of the spec, dense first.
    pub rows: Vec<Row>,
}

impl From<Vec<Row>> for Table {
    fn from(rows: Vec<Row>) -> Table {
        Table { format: FORMAT, rows }
    }
}

impl Row {
    /// Share of the dense FLOPs that was computed, probes included.
    pub fn flops_share(&self) -> f64 {
        self.flops / self.flops_dense
    }

    /// Whether this is the dense arm, which the others are measured against.
    pub fn is_dense(&self) -> bool {
        self.method == Method::Dense
    }
}

/// The performance to runtime ratio: `loss` of quality per share saved, where `share` of the dense cost was left; `None`
/// where nothing was saved.
pub fn loss_per_saving(loss: f64, share: f64) -> Option<f64> {
    let saved = 1.0 - share;
    (saved > 0.0).then(|| loss / saved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_positive_where_it_is_worse() {
        assert_eq!(QualityName::Perplexity.loss(16.8, 6.0), 16.8 - 6.0);
        assert_eq!(QualityName::Acc.loss(0.5, 0.75), 0.25);
        assert_eq!(QualityName::AccNorm.loss(0.75, 0.5), -0.25);
    }

    #[test]
    fn the_ratio_is_undefined_where_nothing_is_saved() {
        // 10.8 of perplexity for a quarter of the runtime.
        assert_eq!(loss_per_saving(10.8, 0.75), Some(43.2));
        assert_eq!(loss_per_saving(-1.0, 0.5), Some(-2.0));
        assert_eq!(loss_per_saving(10.8, 1.0), None);
        assert_eq!(loss_per_saving(10.8, 1.2), None);
        assert_eq!(loss_per_saving(10.8, f64::NAN), None);
    }
}
