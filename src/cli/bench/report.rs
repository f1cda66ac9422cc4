//! What `secateur bench` measured, as it is written.

use secateur::bench::per_kernel::KernelRow;
use secateur::bench::{Ceilings, ChoiceCost, Memory, PeerRecord, PeerRun, Run};
use secateur::config::{ModelConfig, PruneConfig};
use secateur::eval::report::{DeviceRecord, LoraRecord};
use secateur::gpu::Gpu;
use secateur::kernels::matrix;
use serde::Serialize;

/// Everything.
#[derive(Serialize)]
pub struct BenchReport {
    /// Prompts and answers, end to end.
    pub runs: Vec<Run>,
    /// What probe and choice cost.
    pub choices: Vec<ChoiceCost>,
    /// Other engines in the same rounds.
    pub peers: Vec<PeerReport>,
    /// What the device can do at most.
    pub ceilings: Ceilings,
    /// Where the device has matrix units: the formats of weights for which matmuls of prompts run on them, by op.
    pub matrix_units: Option<MatrixReport>,
    /// Every kernel alone, with `--kernels`.
    pub kernels: Option<Vec<KernelRow>>,
    /// Memory and loading.
    pub load: LoadReport,
    /// What was named: a model, or a shape.
    pub model: String,
    /// The adapter.
    #[serde(flatten)]
    pub lora: LoraRecord,
    /// The file's format, or that of the random weights.
    pub model_format: String,
    /// Bytes of the weights' files, or of the random matrices.
    pub model_bytes: u64,
    /// Whether the weights are random, of a known shape.
    pub random_weights: bool,
    /// The model's shape.
    pub config: ModelConfig,
    /// Rounds that count.
    pub rounds: usize,
    /// Tokens of each answer.
    pub decode_tokens: usize,
    /// Seconds of everything but loading.
    pub seconds: f64,
    /// The device.
    #[serde(flatten)]
    pub device: DeviceRecord,
    /// Settings of all runs but for method, ratio and phases.
    pub prune: PruneConfig,
    /// Seed of the made-up tokens.
    pub seed: u64,
    /// Version of the program.
    pub version: &'static str,
}

/// What runs on matrix units.
#[derive(Serialize)]
pub struct MatrixReport {
    /// Their sides and type, for people.
    pub kind: String,
    /// Formats of weights by rows (q, k, v; the head where a text is scored).
    pub matmul_rows: Vec<String>,
    /// Formats of gate and up.
    pub gate_up: Vec<String>,
    /// Formats of weights by columns (o, down).
    pub matmul_columns: Vec<String>,
}

impl MatrixReport {
    /// What is in force on a device.
    pub fn of(gpu: &Gpu) -> Option<MatrixReport> {
        let kind = gpu.matrix_units()?.to_string();
        let [matmul_rows, gate_up, matmul_columns] = matrix::choice(gpu);
        Some(MatrixReport { kind, matmul_rows, gate_up, matmul_columns })
    }
}

/// Another engine, and what it gave.
#[derive(Serialize)]
pub struct PeerReport {
    /// What ran.
    #[serde(flatten)]
    pub record: PeerRecord,
    /// Its figures.
    pub runs: Vec<PeerRun>,
}

/// Memory, and what loading took.
#[derive(Serialize)]
pub struct LoadReport {
    /// Seconds of reading every byte of the tensors once; `null` without a file. The load ran after it.
    pub seconds_read: Option<f64>,
    /// Seconds of opening the device and bringing the weights there.
    pub seconds_load: f64,
    /// With the weights alone.
    pub loaded: Memory,
    /// When everything was measured; the caches of all configurations are alive at once.
    pub measured: Memory,
}
