//! The record of a task, as it is printed and written: one flat object of stable names.

use super::{Accuracy, Prediction, Questions, TaskData, TaskName, TaskOptions, TaskRun};
use crate::config::{HistoryKind, Method, PruneConfig};
use crate::eval::report::{CalibrationRecord, DeviceRecord, ModelRecord};
use crate::prune::ProbeSize;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The version of lm-eval whose prompts, cuts and metrics these are.
pub const PROTOCOL: &str = "lm-eval 0.4.13";

/// Accuracies of a task and everything they depend on. Floating-point operations are those of the transformer layers of
/// all batches, padding included, a multiplication and an addition as two; embedding, output head and calibration are left
/// out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// The task.
    pub task: TaskName,
    /// Share of questions whose right answer has the largest log likelihood.
    pub acc: f64,
    /// Its standard error; `null` for a single question.
    pub acc_stderr: Option<f64>,
    /// Share of questions whose right answer has the largest log likelihood by character; `null` where lm-eval has none.
    pub acc_norm: Option<f64>,
    /// Its standard error.
    pub acc_norm_stderr: Option<f64>,
    /// Questions asked.
    pub rows: usize,
    /// The most that were asked for; `null` = all of the file.
    pub limit: Option<usize>,
    /// Answers scored.
    pub answers: usize,
    /// Sequences run: answers that differ in their last token alone share one.
    pub requests: usize,
    /// Answers whose context lost its beginning.
    pub truncated: usize,
    /// Whose prompts, cuts and metrics these are.
    pub protocol: String,
    /// Examples before every question.
    pub few_shot: usize,
    /// The file they were drawn from; `null` where there are none, or they come from the questions' own.
    pub few_shot_data: Option<String>,
    /// SHA-256 of that file.
    pub few_shot_data_sha256: Option<String>,
    /// The seed given; the examples are drawn with it, nothing else is.
    pub seed: u64,
    /// Whether a special token opens each sequence.
    pub bos: bool,
    /// Most tokens of a sequence: the model's context.
    pub context: usize,
    /// Tokens of the longest sequence.
    pub longest: usize,
    /// Tokens run, padding left out.
    pub tokens: usize,
    /// Batches run.
    pub batches: usize,
    /// Sequences of a full batch.
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
    /// Samples of the first batch's probe of MLP channels; 0 where nothing is probed.
    pub probe_samples: usize,
    /// Tokens of each; 0 where nothing is probed.
    pub probe_tokens: usize,
    /// Samples of the first batch's probe of heads; 0 where nothing is probed.
    pub probe_head_samples: usize,
    /// Tokens of each; 0 where nothing is probed.
    pub probe_head_tokens: usize,
    /// What Probe Pruning remembers; `null` for other methods.
    pub history: Option<HistoryKind>,
    /// What was measured before the first batch.
    pub calibration: Option<CalibrationRecord>,
    /// All settings of pruning.
    pub prune: PruneConfig,
    /// Seconds of the batches; the first run on a machine compiles its shaders in the first batch.
    pub seconds: f64,
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
    /// The device.
    #[serde(flatten)]
    pub device: DeviceRecord,
    /// Version of the program.
    pub version: String,
}

/// What a run was asked for and on what, beside its options and outcome.
#[derive(Debug, Clone)]
pub struct Circumstances {
    /// The model.
    pub model: ModelRecord,
    /// The device.
    pub device: DeviceRecord,
    /// The calibration, where there was one.
    pub calibration: Option<CalibrationRecord>,
    /// Rows asked for.
    pub limit: Option<usize>,
    /// The model's context, in tokens.
    pub context: usize,
    /// Whether a special token opens each sequence.
    pub bos: bool,
    /// Seconds of opening the device and uploading the model.
    pub seconds_load: f64,
    /// Seconds of the calibration, where it was measured in this run.
    pub seconds_calibration: f64,
}

impl TaskReport {
    /// Puts the record together.
    pub fn new(
        options: &TaskOptions,
        run: &TaskRun,
        (data, questions): (&TaskData, &Questions),
        circumstances: Circumstances,
    ) -> TaskReport {
        let Circumstances { model, device, calibration, limit, context, bos, seconds_load, seconds_calibration } =
            circumstances;
        let remembers = options.prune.method == Method::Pp && run.plan.prunes();
        let none = ProbeSize { samples: 0, tokens: 0 };
        let (heads, channels) = run.probe.map_or((none, none), |probe| (probe.heads, probe.channels));
        let Accuracy { value: acc, stderr: acc_stderr } = run.outcome.acc;
        let shown = |path: &Path| path.display().to_string();
        TaskReport {
            task: data.task,
            acc,
            acc_stderr,
            acc_norm: run.outcome.acc_norm.map(|accuracy| accuracy.value),
            acc_norm_stderr: run.outcome.acc_norm.and_then(|accuracy| accuracy.stderr),
            rows: questions.len(),
            limit,
            answers: questions.answers(),
            requests: questions.requests.len(),
            truncated: questions.truncated,
            protocol: PROTOCOL.to_string(),
            few_shot: data.few_shot.count,
            few_shot_data: data.few_shot_sha256.as_ref().and(data.few_shot.data.as_deref()).map(shown),
            few_shot_data_sha256: data.few_shot_sha256.clone(),
            seed: data.few_shot.seed,
            bos,
            context,
            longest: questions.longest(),
            tokens: run.tokens,
            batches: run.batches,
            batch: options.batch,
            method: options.prune.method,
            ratio: options.prune.ratio,
            layer_ratio: run.plan.layer_ratio,
            kept_mlp: run.plan.layers.iter().map(|layer| layer.channels).collect(),
            kept_heads: run.plan.layers.iter().map(|layer| layer.heads).collect(),
            flops: run.flops.pass + run.flops.probe,
            flops_dense: run.flops.dense,
            flops_probe: run.flops.probe,
            probe_samples: channels.samples,
            probe_tokens: channels.tokens,
            probe_head_samples: heads.samples,
            probe_head_tokens: heads.tokens,
            history: remembers.then_some(options.prune.history),
            calibration,
            prune: options.prune.clone(),
            seconds: run.seconds,
            seconds_load,
            seconds_calibration,
            seconds_prepare: run.seconds_prepare,
            tokens_per_second: if run.seconds > 0.0 { run.tokens as f64 / run.seconds } else { 0.0 },
            model,
            data: shown(&data.path),
            data_sha256: data.sha256.clone(),
            device,
            version: env!("CARGO_PKG_VERSION").to_string(),
        }
    }
}

/// How one row was answered: a line of `--predictions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictionLine {
    /// The task.
    pub task: TaskName,
    /// The row, from 0.
    pub row: usize,
    /// Sum over the ending's tokens for every answer, in nats.
    pub log_likelihoods: Vec<f64>,
    /// Index of the likeliest answer.
    pub prediction: usize,
    /// Index of the answer that is likeliest by character; left out where lm-eval has no `acc_norm`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub prediction_norm: Option<usize>,
    /// Index of the right answer.
    pub gold: usize,
}

impl PredictionLine {
    /// The line of a row.
    pub fn new(task: TaskName, row: usize, prediction: &Prediction) -> PredictionLine {
        PredictionLine {
            task,
            row,
            log_likelihoods: prediction.log_likelihoods.clone(),
            prediction: prediction.chosen,
            prediction_norm: task.has_acc_norm().then_some(prediction.chosen_norm),
            gold: prediction.gold,
        }
    }
}

/// Means over tasks: of `acc`, as lm-eval's and the paper's tables of accuracies are read, and of `acc_norm` where a task
/// has one, of `acc` where it has none. `None` of no task.
pub fn means(reports: &[TaskReport]) -> Option<(f64, f64)> {
    let count = reports.len() as f64;
    let mean = |of: fn(&TaskReport) -> f64| reports.iter().map(of).sum::<f64>() / count;
    (!reports.is_empty()).then(|| (mean(|report| report.acc), mean(|report| report.acc_norm.unwrap_or(report.acc))))
}
