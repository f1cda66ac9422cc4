//! The table of methods by ratios by data sets: its arithmetic, its log, its files. Batches are made up here; the program
//! as a whole is tested in `tests/cli/table.rs`.

#[path = "table/files.rs"]
mod files;
#[path = "table/log.rs"]
mod log;
#[path = "table/numbers.rs"]
mod numbers;

use secateur::config::{HistoryKind, Method, PruneConfig};
use secateur::eval::report::{CalibrationRecord, DeviceRecord, LoraRecord, ModelRecord};
use secateur::eval::table::{
    Arm, BatchLine, BatchResult, DataKind, DataRecord, Fingerprint, Measure, MethodSpec, Protocol, Quality,
    QualityName, Schedule, Spec,
};
use secateur::prune::LayerPlan;
use serde_json::{Map, Value};

/// Batches of the two data sets.
const BATCHES: [usize; 2] = [4, 2];
const LAYERS: usize = 30;

fn protocol() -> Protocol {
    Protocol {
        model: ModelRecord {
            model: "tiny|model".into(),
            model_sha256: "11aa".into(),
            model_format: "GGUF, F32".into(),
            lora: LoraRecord::default(),
        },
        seq_len: 256,
        batch: 10,
        batches_asked: 4,
        rounds: 2,
        seed: 7,
        calibration: Some(CalibrationRecord {
            data: "c4.jsonl".into(),
            data_sha256: "22bb".into(),
            samples: 64,
            seq_len: 256,
            seed: None,
            positions: HistoryKind::Exact,
        }),
        device: DeviceRecord {
            adapter: "made-up \"device\", 3 < 4 & more".into(),
            backend: "Vulkan".into(),
            driver: "none 1.0".into(),
            max_binding_bytes: 1 << 27,
            max_buffer_bytes: 1 << 31,
        },
        version: "0.0.0".into(),
    }
}

/// A text and a task, four methods at two ratios.
fn fingerprint() -> Fingerprint {
    let text = DataRecord {
        data: "wikitext2".into(),
        data_kind: DataKind::Text,
        data_sha256: "33cc".into(),
        data_chars: Some(400_000),
        data_rows: 40,
        data_bos: false,
        data_batches: BATCHES[0],
        data_tokens: Some(10_200),
    };
    let task = DataRecord {
        data: "piqa".into(),
        data_kind: DataKind::Task,
        data_sha256: "44dd".into(),
        data_chars: None,
        data_rows: 20,
        data_bos: false,
        data_batches: BATCHES[1],
        data_tokens: None,
    };
    Fingerprint { protocol: protocol(), data: vec![text, task], arms: arms() }
}

fn arms() -> Vec<Arm> {
    let method = |method, name: &str| MethodSpec {
        method,
        name: Some(name.into()),
        ratios: None,
        options: Map::from_iter([("ema".to_string(), Value::from(0.9))]),
    };
    let methods = vec![
        method(Method::FullBatch, "full-batch"),
        method(Method::Flap, "one choice for all, by fluctuation"),
        method(Method::Pp, "pp"),
        method(Method::Pp, "pp <no history>"),
    ];
    Spec { methods, ..Spec::default() }.arms(&PruneConfig::default()).expect("arms")
}

fn schedule() -> Schedule {
    Schedule { arms: arms().len(), batches: BATCHES.to_vec(), rounds: 2, seed: 7 }
}

/// What a batch of an arm comes to; some numbers that no short decimal is.
fn result(arm: usize, data: usize, batch: usize, memory: f64) -> BatchResult {
    let ratio = arms()[arm].prune.ratio;
    let worse = 1.0 + ratio * (1.0 + arm as f64 / 7.0) + memory * 1e-3;
    let scores = match data {
        0 => vec![2550.0 * 3.8 * worse / 3.0 * 3.0 + batch as f64 / 3.0],
        // Ten questions; of those above a line the likeliest choice is wrong.
        _ => (0..10).map(|question| question as f64 - 8.5 / worse.powi(2)).collect(),
    };
    BatchResult {
        seconds: (1.0 - 0.8 * ratio) * (1.0 + 0.01 * ((arm * 5 + batch * 3) % 7) as f64) + 1e-17,
        tokens: 2560,
        scored: if data == 0 { 2550 } else { 0 },
        scores,
        flops_pass: 1e9 * (1.0 - ratio),
        flops_probe: if arm == 0 { 0.0 } else { 2e7 },
        flops_dense: 1e9,
    }
}

fn lines() -> Vec<BatchLine> {
    let schedule = schedule();
    let of = |step: secateur::eval::table::Step| {
        schedule.order(step).into_iter().map(move |arm| BatchLine {
            round: step.round,
            data: step.data,
            batch: step.batch,
            arm,
            result: result(arm, step.data, step.batch, 0.0),
        })
    };
    schedule.steps().into_iter().flat_map(of).collect()
}

/// Kept units; the second method's layers differ.
fn kept() -> Vec<Vec<LayerPlan>> {
    let full = LayerPlan { heads: 9, channels: 1536 };
    let of = |arm: &Arm| {
        (0..LAYERS)
            .map(|layer| match layer {
                0..3 => full,
                _ if arm.series.contains("fluctuation") => LayerPlan {
                    heads: 9 - (arm.prune.ratio * (layer % 10) as f64 * 2.0) as usize,
                    channels: 1536 - 64 * (arm.prune.ratio * layer as f64) as usize,
                },
                _ => LayerPlan {
                    heads: 9 - (arm.prune.ratio * 9.0) as usize,
                    channels: 1536 - (arm.prune.ratio * 1536.0) as usize,
                },
            })
            .collect()
    };
    arms().iter().map(of).collect()
}

/// Perplexity of a text.
struct Text;

impl Measure for Text {
    fn qualities(&self, batches: &[&BatchResult]) -> secateur::Result<Vec<Quality>> {
        let sum: f64 = batches.iter().flat_map(|batch| &batch.scores).sum();
        let nll = sum / batches.iter().map(|batch| batch.scored as f64).sum::<f64>();
        Ok(vec![Quality { quality: QualityName::Perplexity, value: nll.exp(), stderr: None, nll: Some(nll) }])
    }
}

/// A question is answered where its score is negative; counted in two ways.
struct Task;

impl Measure for Task {
    fn qualities(&self, batches: &[&BatchResult]) -> secateur::Result<Vec<Quality>> {
        let scores: Vec<f64> = batches.iter().flat_map(|batch| batch.scores.clone()).collect();
        let share = |line: f64| scores.iter().filter(|&&score| score < line).count() as f64 / scores.len() as f64;
        let of = |quality, value| Quality { quality, value, stderr: Some(0.03125), nll: None };
        Ok(vec![of(QualityName::Acc, share(0.0)), of(QualityName::AccNorm, share(1.0))])
    }
}
