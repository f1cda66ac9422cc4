//! The engine against an independent PyTorch implementation on the real model: dense and pruned, batch and chat.
//!
//! Needs the default model (`secateur pull`) and a Vulkan, Metal or DX12 adapter, and fails without them.
//!
//! Tolerances. Both sides compute in float32 and differ in the order of sums only. Measured: the residual stream agrees to
//! a relative 2e-6 (30 layers, sums of up to 1536 terms: eps * sqrt(1536) = 4.7e-6), logits (|x| up to 30) to 6e-5. A
//! logit is a sum of 576 products of magnitude up to 30, so eps * sqrt(576) * 30 = 9e-5 is what reordering may cost, times
//! two for the state's own error: 2e-4.

#[path = "common/calibrations.rs"]
mod calibrations;
#[path = "golden/matrix.rs"]
mod matrix;
#[path = "golden/statics.rs"]
mod statics;

use secateur::Result;
use secateur::config::{HistoryKind, Method, PruneConfig, PrunePhases};
use secateur::engine::{Engine, Scorer, SequenceOptions, Sequences};
use secateur::gpu::{Buffer, Gpu, GpuOptions, Recorder};
use secateur::kernels::Rows;
use secateur::model::{Added, LayerTensor, ModelFiles, TensorRole, pull};
use secateur::prune::{
    Block, Calibration, Dense, Frozen, Half, History, Knowledge, LayerMasks, Mask, Plan, ProbeTrace, Selector,
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

const LOGIT_TOLERANCE: f32 = 2e-4;
/// Scores are sums of squares: twice the relative error of a state, over 32 tokens whose largest dominates.
const SCORE_TOLERANCE: f32 = 2e-4;
const SAMPLES: usize = 4;
const LENGTH: usize = 64;
const FIRST: usize = 3;
const LAYERS: usize = 30;

struct Golden {
    bytes: Vec<u8>,
    meta: serde_json::Value,
}

impl Golden {
    fn floats(&self, name: &str) -> Vec<f32> {
        self.array(name).chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    fn indices(&self, name: &str) -> Vec<u32> {
        self.array(name).chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    fn array(&self, name: &str) -> Vec<u8> {
        let tensors = safetensors::SafeTensors::deserialize(&self.bytes).expect("a readable fixture");
        tensors.tensor(name).unwrap_or_else(|_| panic!("the fixture has no {name}")).data().to_vec()
    }

    fn samples(&self, name: &str) -> Vec<Vec<u32>> {
        self.indices(name).chunks_exact(LENGTH).map(<[u32]>::to_vec).collect()
    }

    fn perplexity(&self, name: &str) -> f64 {
        self.meta["ppl"][name].as_f64().expect("a perplexity")
    }
}

struct Shared {
    engine: Arc<Engine>,
    files: ModelFiles,
    golden: Golden,
}

/// One engine for all tests; they take turns, for they share one device.
fn shared() -> (&'static Shared, MutexGuard<'static, ()>) {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let shared = SHARED.get_or_init(|| {
        let folder = pull::models_dir().expect("a models folder");
        let path = pull::resolve("smollm2-135m", &folder).expect("the default model: run `secateur pull`");
        let files = ModelFiles::open(&path).expect("the default model opens");
        let gpu = Gpu::open(&GpuOptions::default()).expect("a GPU adapter; Debian: apt install mesa-vulkan-drivers");
        let engine = Engine::load(gpu, &files, &mut |_| Ok(())).expect("the default model loads");
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/golden");
        let bytes = std::fs::read(format!("{fixtures}/golden.safetensors")).expect("the golden arrays");
        let meta = std::fs::read(format!("{fixtures}/meta.json")).expect("the golden scalars");
        let meta = serde_json::from_slice(&meta).expect("valid JSON");
        Shared { engine, files, golden: Golden { bytes, meta } }
    });
    (shared, turn)
}

fn perplexity(nll: impl IntoIterator<Item = f64>) -> f64 {
    let nll: Vec<f64> = nll.into_iter().collect();
    (nll.iter().sum::<f64>() / nll.len() as f64).exp()
}

/// Asserts that every value agrees within `tolerance` of the larger of 1 and its magnitude.
fn assert_close(what: &str, got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        let allowed = tolerance * want.abs().max(1.0);
        assert!((got - want).abs() <= allowed, "{what}[{index}]: {got}, golden {want}, allowed difference {allowed}");
    }
}

/// Asserts that every value agrees within a share of its own magnitude.
fn assert_relative(what: &str, got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= tolerance * want.abs(), "{what}[{index}]: {got}, golden {want}");
    }
}

/// Notes the norms of the residual stream entering every layer, and passes every question on.
struct Noting<'s> {
    inner: &'s mut dyn Selector,
    norms: Vec<Buffer>,
    scratch: Buffer,
    powers: Vec<[Vec<f32>; 2]>,
}

impl<'s> Noting<'s> {
    fn new(gpu: &Gpu, width: usize, inner: &'s mut dyn Selector) -> Noting<'s> {
        let rows = SAMPLES * LENGTH;
        let norms = (0..LAYERS).map(|_| gpu.zeros("noted norms", rows).expect("room")).collect();
        Noting { inner, norms, scratch: gpu.zeros("unused", rows * width).expect("room"), powers: Vec::new() }
    }
}

impl Selector for Noting<'_> {
    fn heads(&mut self, rec: &mut Recorder<'_>, block: &Block<'_>) -> Result<Option<Arc<Mask>>> {
        let shape = (SAMPLES * LENGTH, block.weights.qkv.cols, 1e-5);
        let (x, y) = (block.residual.into(), (&self.scratch).into());
        block.weights.attention_norm.record(rec, x, Added::default(), y, &self.norms[block.layer], shape)?;
        let gpu = rec.gpu();
        let (o, down) = (&block.weights.o_power, &block.weights.down_power);
        self.powers.push([gpu.read(o, block.weights.o.cols)?, gpu.read(down, block.weights.down.cols)?]);
        self.inner.heads(rec, block)
    }

    fn attended(&mut self, rec: &mut Recorder<'_>, block: &Block<'_>, mixed: Rows<'_>) -> Result<()> {
        self.inner.attended(rec, block, mixed)
    }

    fn channels(&mut self, rec: &mut Recorder<'_>, block: &Block<'_>) -> Result<Option<Arc<Mask>>> {
        self.inner.channels(rec, block)
    }

    fn activated(&mut self, rec: &mut Recorder<'_>, block: &Block<'_>, active: Rows<'_>) -> Result<()> {
        self.inner.activated(rec, block, active)
    }
}

/// Norms of the residual stream entering every layer and leaving the last: relative, for position 0 is a thousand times
/// larger than the others.
fn assert_residuals(shared: &Shared, name: &str, scorer: &Scorer, noted: &Noting<'_>) {
    let want = shared.golden.floats(&format!("{name}.hidden_norm"));
    let (gpu, rows) = (shared.engine.gpu(), SAMPLES * LENGTH);
    for (layer, norms) in noted.norms.iter().enumerate() {
        let got: Vec<f32> = gpu.read(norms, rows).expect("norms");
        assert_relative(&format!("{name} norms entering layer {layer}"), &got, &want[layer * rows..][..rows], 2e-5);
    }
    let width = shared.engine.config().hidden_size;
    let last = scorer.residual(rows).expect("the residual stream");
    let got: Vec<f32> = last.chunks_exact(width).map(|row| row.iter().map(|v| v * v).sum::<f32>().sqrt()).collect();
    assert_relative(&format!("{name} norms at the end"), &got, &want[LAYERS * rows..], 2e-5);
}

/// The golden likelihoods carry their own error of up to 3e-4 (see the test of that name).
fn assert_likelihoods(shared: &Shared, name: &str, nll: &[Vec<f32>], relative: f64) {
    assert_close(&format!("{name}.nll"), &nll.concat(), &shared.golden.floats(&format!("{name}.nll")), 4e-4);
    let (got, want) = (perplexity(nll.concat().into_iter().map(f64::from)), shared.golden.perplexity(name));
    assert!((got / want - 1.0).abs() < relative, "{name}: perplexity {got}, golden {want}");
}

fn assert_last_logits(shared: &Shared, name: &str, logits: &[Vec<f32>]) {
    let (ids, values) =
        (shared.golden.indices(&format!("{name}.top32_ids")), shared.golden.floats(&format!("{name}.top32_logits")));
    for (sample, logits) in logits.iter().enumerate() {
        let got: Vec<f32> = ids[sample * 32..][..32].iter().map(|&id| logits[id as usize]).collect();
        assert_close(&format!("{name} logits of sample {sample}"), &got, &values[sample * 32..][..32], LOGIT_TOLERANCE);
    }
}

#[test]
fn dense_passes_agree() {
    let (shared, _turn) = shared();
    let (golden, width) = (&shared.golden, shared.engine.config().hidden_size);
    let batch = golden.samples("eval_ids");
    let mut scorer = Scorer::new(&shared.engine, SAMPLES, LENGTH).expect("room");
    let mut dense = Dense;
    let mut noting = Noting::new(shared.engine.gpu(), width, &mut dense);
    let nll = scorer.nll(&batch, &mut noting).expect("a pass");
    assert_likelihoods(shared, "dense", &nll, 1e-3);
    assert_residuals(shared, "dense", &scorer, &noting);
    let residual = scorer.residual(LENGTH).expect("the residual stream");
    // Elements beside values of 2500: relative to the row, hence to its largest.
    for (t, (got, want)) in
        residual.chunks_exact(width).zip(golden.floats("dense.h_l30_b0").chunks_exact(width)).enumerate()
    {
        let largest = want.iter().fold(0.0f32, |a, b| a.max(b.abs()));
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() <= 1e-5 * largest, "residual of token {t}: {got}, golden {want}");
        }
    }
    let logits = scorer.last_logits(&batch, &mut Dense).expect("a pass");
    assert_last_logits(shared, "dense", &logits);
    assert_close("all logits", &logits[0], &golden.floats("dense.logits_b0_last"), LOGIT_TOLERANCE);
    for (layer, [heads, channels]) in noting.powers.iter().enumerate() {
        let (o, down) = (golden.floats("const.attn_c4"), golden.floats("const.mlp_c4"));
        assert_relative(&format!("o power {layer}"), heads, &o[layer * 576..][..576], 1e-5);
        assert_relative(&format!("down power {layer}"), channels, &down[layer * 1536..][..1536], 1e-5);
    }
}

/// The last norm, the head and the likelihoods in float64 from the golden's own residual stream: the golden likelihoods
/// differ from that by some 1e-4 on average; ours do not.
#[test]
fn the_golden_likelihoods_are_off_by_their_own_states() {
    let (shared, _turn) = shared();
    let (golden, config) = (&shared.golden, shared.engine.config());
    let values = |role| {
        let view = shared.files.tensor(role).expect("a tensor");
        secateur::format::WeightFormat::by_name(view.kind.name()).expect("a known format").dequantise(view.bytes)
    };
    let (norm, head) = (values(TensorRole::OutputNorm), values(TensorRole::TokenEmbedding));
    let states = golden.floats("dense.h_l30_b0");
    let ids = golden.samples("eval_ids").swap_remove(0);
    let mut scorer = Scorer::new(&shared.engine, 1, LENGTH).expect("room");
    let ours = scorer.nll(std::slice::from_ref(&ids), &mut Dense).expect("a pass").swap_remove(0);
    let theirs = golden.floats("dense.nll");
    let (mut our_bias, mut their_bias, tokens) = (0.0, 0.0, 16);
    for t in 0..tokens {
        let state = &states[t * config.hidden_size..][..config.hidden_size];
        let square: f64 = state.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / config.hidden_size as f64;
        let scale = 1.0 / (square + f64::from(config.rms_norm_eps)).sqrt();
        let normed: Vec<f64> = state.iter().zip(&norm).map(|(v, w)| f64::from(*v) * scale * f64::from(*w)).collect();
        let logits: Vec<f64> = head
            .chunks_exact(config.hidden_size)
            .map(|row| row.iter().zip(&normed).map(|(w, v)| f64::from(*w) * v).sum())
            .collect();
        let top = logits.iter().copied().fold(f64::MIN, f64::max);
        let exact = logits.iter().map(|l| (l - top).exp()).sum::<f64>().ln() + top - logits[ids[t + 1] as usize];
        our_bias += (f64::from(ours[t]) - exact) / tokens as f64;
        their_bias += (f64::from(theirs[t]) - exact) / tokens as f64;
    }
    assert!(our_bias.abs() < 4e-5, "our likelihoods are off by {our_bias} on average");
    assert!(their_bias.abs() > 8e-5, "the golden likelihoods are off by {their_bias} only: tighten the tests");
}

fn pp(ratio: f64) -> PruneConfig {
    PruneConfig { method: Method::Pp, ratio, ..PruneConfig::default() }
}

/// Statistics of the golden calibration samples.
fn calibration(shared: &Shared) -> Arc<Calibration> {
    static MEASURED: OnceLock<Arc<Calibration>> = OnceLock::new();
    let measured = || {
        let samples = shared.golden.samples("calib_ids");
        Arc::new(calibrations::measured(&shared.engine, &samples, SAMPLES, HistoryKind::Exact))
    };
    MEASURED.get_or_init(measured).clone()
}

fn calibrated(shared: &Shared) -> Knowledge {
    calibrations::known(&calibration(shared))
}

/// Holds sums over positions of a history's rows against the golden ones.
fn assert_history(shared: &Shared, history: &History, [heads, channels]: [&str; 2]) {
    let (gpu, config) = (shared.engine.gpu(), shared.engine.config());
    for (half, name) in [(Half::Attention, heads), (Half::Mlp, channels)] {
        let (width, golden) = (half.width(config), shared.golden.floats(name));
        for layer in FIRST..LAYERS {
            let all: Vec<f32> = gpu.read(history.values(layer, half), LENGTH * width).expect("a history");
            let sums: Vec<f32> = (0..width).map(|c| all.iter().skip(c).step_by(width).sum()).collect();
            assert_relative(
                &format!("{name} of layer {layer}"),
                &sums,
                &golden[(layer - FIRST) * width..][..width],
                5e-5,
            );
        }
    }
}

fn assert_choices(shared: &Shared, name: &str, traces: &[[Option<ProbeTrace>; 2]]) {
    let golden = &shared.golden;
    for (site, kind, width) in [(0, "attn", 576), (1, "mlp", 1536)] {
        let keep = golden.indices(&format!("{name}.{kind}_keep"));
        let per_layer = keep.len() / (LAYERS - FIRST);
        assert_eq!(traces.len(), LAYERS);
        for (layer, sites) in traces.iter().enumerate().skip(FIRST) {
            let row = layer - FIRST;
            let trace = sites[site].as_ref().expect("a probe");
            let margin = golden.meta["margins"][name][kind][row].as_f64().expect("a margin");
            let case = format!("{name} {kind} layer {layer}");
            // The smallest margin of all is 1.2e-5, above the rounding of a score: no unit may differ.
            assert_eq!(trace.kept, keep[row * per_layer..][..per_layer], "{case}: margin {margin}");
            if name == "pp40" {
                let [tokens, samples] = ["tok", "smp"].map(|list| golden.indices(&format!("pp40.{kind}_{list}")));
                assert_eq!(trace.tokens, tokens[row * 32..][..32], "{case}: probe tokens");
                assert_eq!(trace.samples, samples[row..][..1], "{case}: probe samples");
                let [stat, score] = ["stat", "score"].map(|what| golden.floats(&format!("pp40.{kind}_{what}")));
                assert_relative(&case, &trace.statistic, &stat[row * width..][..width], SCORE_TOLERANCE);
                let units = trace.scores.len();
                assert_relative(&case, &trace.scores, &score[row * units..][..units], SCORE_TOLERANCE);
            }
        }
    }
}

#[test]
fn probe_pruning_agrees() {
    let (shared, _turn) = shared();
    let (engine, golden) = (&shared.engine, &shared.golden);
    let batch = golden.samples("eval_ids");
    let mut scorer = Scorer::new(engine, SAMPLES, LENGTH).expect("room");
    for (name, ratio, with_history) in [("pp40", 0.4, true), ("pp20", 0.2, true), ("pp40_nohist", 0.4, false)] {
        let history = if with_history { HistoryKind::Exact } else { HistoryKind::Off };
        let prune = PruneConfig { history, ..pp(ratio) };
        let mut chooser = engine.chooser(&prune, &calibrated(shared), LENGTH).expect("room");
        let history = chooser.history().cloned();
        assert_eq!(history.is_some(), with_history);
        if name == "pp40" {
            assert_history(shared, history.as_ref().expect("a history"), ["hist.attn_sum", "hist.mlp_sum"]);
        }
        let probing = chooser.prepare(SAMPLES, LENGTH).expect("room");
        let mut noting = Noting::new(engine.gpu(), engine.config().hidden_size, probing);
        let nll = scorer.nll(&batch, &mut noting).expect("a pass");
        assert_residuals(shared, name, &scorer, &noting);
        assert_likelihoods(shared, name, &nll, 5e-3);
        assert_choices(shared, name, &chooser.trace().expect("a trace").expect("probes"));
        if name == "pp40" {
            let names = ["pp40.attn_hist_after_sum", "pp40.mlp_hist_after_sum"];
            assert_history(shared, history.as_ref().expect("a history"), names);
        }
    }
}

#[test]
fn given_masks_separate_execution_from_choice() {
    let (shared, _turn) = shared();
    let (engine, golden) = (&shared.engine, &shared.golden);
    let (gpu, config) = (engine.gpu(), engine.config());
    let masks = LayerMasks::for_plan(gpu, config, &Plan::new(config, &pp(0.4))).expect("room");
    let (heads, channels) = (golden.indices("pp40.attn_keep"), golden.indices("pp40.mlp_keep"));
    assert_eq!(masks.len(), LAYERS);
    for (row, LayerMasks { heads: head_mask, channels: channel_mask }) in masks.iter().skip(FIRST).enumerate() {
        let group = config.group_size();
        head_mask.as_ref().expect("pruned").set(gpu, &heads[row * 6..][..6], group).expect("a mask");
        channel_mask.as_ref().expect("pruned").set(gpu, &channels[row * 896..][..896], group).expect("a mask");
    }
    let mut frozen = Frozen { masks: &masks, compensation: None };
    let mut scorer = Scorer::new(engine, SAMPLES, LENGTH).expect("room");
    let batch = golden.samples("eval_ids");
    let nll = scorer.nll(&batch, &mut frozen).expect("a pass");
    assert_likelihoods(shared, "pp40", &nll, 1e-3);
    let logits = scorer.last_logits(&batch, &mut frozen).expect("a pass");
    assert_last_logits(shared, "pp40", &logits);
}

/// Negative log likelihood of `target`, in float64.
fn nll_of(logits: &[f32], target: u32) -> f64 {
    let top = logits.iter().copied().fold(f32::MIN, f32::max);
    let total: f64 = logits.iter().map(|logit| f64::from(logit - top).exp()).sum();
    total.ln() + f64::from(top) - f64::from(logits[target as usize])
}

/// Likelihoods of the last 32 tokens of the chat case, decoded one by one.
fn continuation(sequences: &mut Sequences, ids: &[u32]) -> Vec<f64> {
    let mut logits = sequences.prefill(&[ids[..LENGTH].to_vec()]).expect("a prefill").swap_remove(0);
    let mut nll = Vec::new();
    for &id in &ids[LENGTH..] {
        nll.push(nll_of(&logits, id));
        logits = sequences.step(&[id]).expect("a step").swap_remove(0);
    }
    nll
}

fn sequences(shared: &Shared, prune: PruneConfig, known: Knowledge) -> Sequences {
    let options = SequenceOptions { samples: 1, context: 128, prune, known, live: false };
    Sequences::new(&shared.engine, options).expect("room")
}

#[test]
fn a_chat_with_masks_of_its_pruned_prefill_agrees() {
    let (shared, _turn) = shared();
    let golden = &shared.golden;
    let prune = PruneConfig {
        phases: PrunePhases { prefill: true, decode: true },
        reprobe_every: 0,
        lead_tokens: 0,
        ..pp(0.4)
    };
    let mut sequences = sequences(shared, prune, calibrated(shared));
    let before = shared.engine.gpu().readbacks();
    let nll = continuation(&mut sequences, &golden.indices("chat40.ids"));
    assert_eq!(shared.engine.gpu().readbacks() - before, 33, "one read-back a pass, of the logits");
    let (heads, channels) = (golden.indices("chat40.attn_keep"), golden.indices("chat40.mlp_keep"));
    for layer in FIRST..LAYERS {
        let (row, masks) = (layer - FIRST, &sequences.masks()[layer]);
        let read = |mask: &Option<Arc<Mask>>| mask.as_ref().expect("pruned").read(shared.engine.gpu()).expect("a mask");
        assert_eq!(read(&masks.heads), heads[row * 6..][..6], "heads of layer {layer}");
        assert_eq!(read(&masks.channels), channels[row * 896..][..896], "channels of layer {layer}");
    }
    // These golden likelihoods were summed token by token: they agree as well as the logits do.
    for (t, (got, want)) in nll.iter().zip(golden.floats("chat40.nll")).enumerate() {
        assert!((got - f64::from(want)).abs() < f64::from(LOGIT_TOLERANCE), "token {t}: {got}, golden {want}");
    }
    let (got, want) = (perplexity(nll), golden.perplexity("chat40"));
    assert!((got / want - 1.0).abs() < 1e-3, "perplexity {got}, golden {want}");
}

#[test]
fn a_dense_chat_agrees() {
    let (shared, _turn) = shared();
    let mut sequences = sequences(shared, PruneConfig::default(), Knowledge::default());
    let nll = continuation(&mut sequences, &shared.golden.indices("chat40.ids"));
    let (got, want) = (perplexity(nll), shared.golden.perplexity("chat_dense"));
    assert!((got / want - 1.0).abs() < 1e-3, "perplexity {got}, golden {want}");
}

#[test]
fn weights_take_the_room_they_take_in_the_file() {
    let (shared, _turn) = shared();
    let quantised: u64 = shared.files.tensors().map(|tensor| tensor.bytes.len() as u64).sum();
    let layer = TensorRole::Layer(0, LayerTensor::Down);
    assert_eq!(shared.files.tensor(layer).expect("a tensor").kind.name(), "Q4_1");
    let gpu = Gpu::open(&GpuOptions::default()).expect("a GPU adapter");
    let engine = Engine::load(gpu, &shared.files, &mut |_| Ok(())).expect("the default model loads");
    let held = engine.gpu().allocated();
    // Beside the tensors: a factor for every column of o and down (0.25 MB).
    assert!(
        held >= quantised && held < quantised + (1 << 20),
        "{held} bytes on the device for {quantised} in the file"
    );
}
