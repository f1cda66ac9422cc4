//! Pruned passes against an independent implementation of Probe Pruning: what is probed, what is kept, what follows.

mod common;

#[path = "prune/ahead.rs"]
mod ahead;
#[path = "prune/calibration.rs"]
mod calibration;
#[path = "prune/chat.rs"]
mod chat;
#[path = "prune/costs.rs"]
mod costs;
#[path = "prune/given.rs"]
mod given;
#[path = "prune/relatives.rs"]
mod relatives;
#[path = "prune/statics.rs"]
mod statics;
#[path = "prune/units.rs"]
mod units;

use common::calibrations::{known, measured};
use common::device::{Random, assert_close, gpu, tiny, tolerance};
use common::reference::calibration::{Calibration, History};
use common::reference::probing::{self, ProbePruning};
use common::reference::{Half, Masks, Reference, Site};
use common::tiny_model::TinySpec;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use secateur::config::{
    Fusion, HistoryKind, Method, ModelConfig, ProbeShares, PruneConfig, PrunePhases, ScoreKind, Statistic,
};
use secateur::engine::{Engine, Scorer};
use secateur::gpu::Gpu;
use secateur::prune::{self, Knowledge, LayerMasks, Plan, ProbeTrace};
use std::collections::HashMap;
use std::sync::Arc;

/// Choices closer than this, relative to the weakest kept score, may go either way in 32 bits.
const CLOSE: f64 = 1e-5;

/// Samples and tokens of the calibrations.
const CALIBRATED: (usize, usize) = (6, 40);

/// Shapes from this one on are those of LLaMA's relatives.
const RELATIVES: usize = 100;

/// Models of the sweeps: grouped, multi-head with odd channels, one kv head; random by seed.
fn model(shape: usize, seed: u64) -> TinySpec {
    let base = TinySpec { layers: 4, seed, ..TinySpec::default() };
    if let Some(relative) = shape.checked_sub(RELATIVES) {
        return relatives::model(relative, base);
    }
    match shape % 3 {
        0 => TinySpec { heads: 8, kv_heads: 4, head_dim: 16, channels: 192, ..base },
        1 => TinySpec { heads: 6, kv_heads: 6, head_dim: 32, channels: 172, layers: 5, ..base },
        _ => TinySpec { heads: 9, kv_heads: 3, head_dim: 16, channels: 130, ..base },
    }
}

/// Statistics of the same dense pass, the engine's by ranges of positions as `positions` says, and the reference's.
fn calibrated(engine: &Arc<Engine>, reference: &Reference, positions: HistoryKind) -> (Knowledge, Calibration) {
    let samples = Random(99).batch(&[CALIBRATED.1; CALIBRATED.0], engine.config().vocab_size);
    let found = measured(engine, &samples, CALIBRATED.0 / 2, positions);
    (known(&Arc::new(found)), Calibration::measure(reference, &samples))
}

/// Bytes of a safetensors file with its tensors and recipe changed.
fn bent(bytes: &[u8], bend: impl FnOnce(&mut Vec<Bendable>, &mut serde_json::Value)) -> Vec<u8> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(bytes).unwrap();
    let mut recipe = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["secateur"]).unwrap();
    let own =
        |(name, view): (String, TensorView<'_>)| (name, view.dtype(), view.shape().to_vec(), view.data().to_vec());
    let mut tensors: Vec<Bendable> = file.tensors().into_iter().map(own).collect();
    bend(&mut tensors, &mut recipe);
    let views =
        tensors.iter().map(|(name, dtype, shape, data)| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    let metadata = HashMap::from([("secateur".to_string(), recipe.to_string())]);
    safetensors::serialize(views, Some(metadata)).unwrap()
}

/// Name, type, shape and bytes of a tensor.
type Bendable = (String, Dtype, Vec<usize>, Vec<u8>);

/// The library's name of a half.
fn theirs(half: Half) -> prune::Half {
    match half {
        Half::Attention => prune::Half::Attention,
        Half::Mlp => prune::Half::Mlp,
    }
}

/// Holds every row of a history against the reference's. Squares err twice as much as what is squared.
fn assert_history(engine: &Engine, found: &prune::History, exact: &History, case: &str) {
    let allowed = 4.0 * tolerance(engine.config(), 40);
    for (site, rows) in &exact.rows {
        let exact = rows.concat();
        let found: Vec<f32> = engine.gpu().read(found.values(site.layer, theirs(site.half)), exact.len()).unwrap();
        match exact.iter().all(|&value| value == 0.0) {
            true => assert!(found.iter().all(|&value| value == 0.0), "{case}: history at {site:?} stays empty"),
            false => assert_close(&found, &exact, allowed, &format!("{case}: history at {site:?}")),
        }
    }
}

/// The kept units of the engine's masks.
fn read_masks(gpu: &Gpu, masks: &[LayerMasks]) -> Masks {
    let mut all = Masks::new();
    for (layer, LayerMasks { heads, channels }) in masks.iter().enumerate() {
        for (half, mask) in [(Half::Attention, heads), (Half::Mlp, channels)] {
            if let Some(mask) = mask {
                all.insert(Site { layer, half }, mask.read(gpu).unwrap());
            }
        }
    }
    all
}

/// Whether two choices at a site are the same. Another one is an error unless the margin is too small to tell.
#[track_caller]
fn agree(what: &str, found: &[u32], exact: &[u32], margin: f64, case: &str) -> bool {
    if found == exact {
        return true;
    }
    assert!(margin < CLOSE, "{case}: {what} are {found:?}, should be {exact:?} (margin {margin:.1e})");
    println!("{case}: {what} are {found:?}, not {exact:?}: the margin of {margin:.1e} is too small to tell");
    false
}

/// Batches of one shape under one method.
#[derive(Debug, Clone)]
struct Case {
    shape: usize,
    seed: u64,
    /// Tokens of each sample.
    lengths: Vec<usize>,
    prune: PruneConfig,
    /// How finely positions are calibrated; `Off` = not at all.
    calibrated: HistoryKind,
    batches: usize,
}

/// Runs a case through the engine and the reference. Returns how many choices were compared, and whether all agreed.
fn compare(case: &Case) -> (usize, bool) {
    let (name, prune) = (format!("{case:?}"), &case.prune);
    let (engine, reference) = tiny(&model(case.shape, case.seed));
    let config = engine.config().clone();
    let (samples, length) = (case.lengths.len(), *case.lengths.iter().max().unwrap());
    let (known, exact) = match case.calibrated {
        HistoryKind::Off => (Knowledge::default(), None),
        positions => {
            let (known, exact) = calibrated(&engine, &reference, positions);
            (known, Some(exact))
        }
    };
    let history = match (&exact, prune.history) {
        (_, HistoryKind::Off) => None,
        (None, kind) => Some(History::empty(&reference, kind, length)),
        (Some(exact), kind) => exact.history(kind, prune.statistic),
    };
    let mut expected = ProbePruning::new(prune, history, true, exact.as_ref());
    let mut chooser = engine.chooser(prune, &known, length).unwrap();
    let mut scorer = Scorer::new(&engine, samples, length).unwrap();
    let allowed = tolerance(&config, length);
    let (mut random, mut compared) = (Random(case.seed), 0);
    for round in 0..case.batches {
        let name = format!("{name}, batch {round}");
        let batch = random.batch(&case.lengths, config.vocab_size);
        let nll = scorer.nll(&batch, chooser.prepare(samples, length).unwrap()).unwrap();
        let run = reference.run_batch(&batch, &mut expected);
        let traces = chooser.trace().unwrap().expect("probes");
        for (site, trace) in &expected.traces {
            let name = format!("{name}, {site:?}");
            let found = traces[site.layer][usize::from(site.half == Half::Mlp)].as_ref().expect("a probe");
            compared += 1;
            if !same(found, trace, allowed, &name) {
                return (compared, false);
            }
        }
        let probed = traces.iter().flatten().flatten().count();
        assert_eq!(probed, expected.traces.len(), "{name}: sites that are pruned");
        for ((ids, last), found) in batch.iter().zip(&run.last).zip(&nll) {
            // A likelihood is a difference of two logits of at most `top`.
            let exact = reference.nll(ids, last);
            let top = reference.logits(last).concat().into_iter().fold(0.0f64, |most, logit| most.max(logit.abs()));
            for (t, (found, exact)) in found.iter().zip(&exact).enumerate() {
                let off = (f64::from(*found) - exact).abs();
                assert!(off <= 2.0 * allowed * top, "{name}: likelihood {t} is {found}, should be {exact}");
            }
        }
        assert_eq!(chooser.history().is_some(), expected.history.is_some(), "{name}");
        if let (Some(found), Some(exact)) = (chooser.history(), &expected.history) {
            assert_history(&engine, found, exact, &name);
        }
    }
    (compared, true)
}

/// Tokens, samples, statistic, scores and kept units of one probe, in the order in which they are found.
fn same(found: &ProbeTrace, exact: &probing::Trace, allowed: f64, name: &str) -> bool {
    if !agree("tokens", &found.tokens, &exact.tokens, exact.token_margin, name)
        || !agree("samples", &found.samples, &exact.samples, exact.sample_margin, name)
    {
        return false;
    }
    // Sums of squares, and their product with the factor of the weights.
    assert_close(&found.statistic, &exact.statistic, 4.0 * allowed, &format!("{name}: statistic"));
    assert_close(&found.scores, &exact.scores, 8.0 * allowed, &format!("{name}: scores"));
    agree("kept units", &found.kept, &exact.kept, exact.score_margin, name)
}

/// Runs cases; nearly all choices must have been clear enough to compare.
fn compare_all(cases: &[Case]) {
    let results: Vec<(usize, bool)> = cases.iter().map(compare).collect();
    let (choices, unclear) =
        results.iter().fold((0, 0), |(n, m), (choices, same)| (n + choices, m + usize::from(!same)));
    println!("{choices} choices of {} cases, {unclear} cases left early", cases.len());
    assert!(unclear * 10 <= cases.len(), "{unclear} of {} cases had margins too small to tell", cases.len());
    assert!(choices >= 2 * cases.len(), "{choices} choices are too few to mean anything");
}

fn settings(ratio: f64, dense_layers: usize, tile: usize) -> PruneConfig {
    PruneConfig { method: Method::Pp, ratio, dense_layers, tile, lead_tokens: 0, ..PruneConfig::default() }
}

/// Lengths of a batch: equal, or padded.
fn lengths(random: &mut Random, samples: usize, length: usize, padded: bool) -> Vec<usize> {
    let mut all: Vec<usize> =
        (0..samples).map(|_| if padded { 2 + random.below(length - 1) } else { length }).collect();
    // One sample has the full length, never the first of several.
    all[(samples - 1).min(1)] = length;
    all
}

/// Every setting at several values, mixed so that each meets several of the others.
#[test]
fn probes_choose_what_the_paper_says() {
    let mut random = Random(2024);
    let kinds = [HistoryKind::Off, HistoryKind::Exact, HistoryKind::Collapsed, HistoryKind::Buckets];
    let cases: Vec<Case> = (0..30)
        .map(|i| {
            let (samples, length) = (4 + random.below(21), 5 + random.below(36));
            let mut prune = settings([0.2, 0.4, 0.6][i % 3], i % 4, [4, 8, 16, 64][i / 2 % 4]);
            prune.probe_tokens = [0.5, 0.25, 0.8, 1.0, 0.05][i % 5];
            prune.probe_samples = [0.05, 0.3, 1.0, 0.5][i / 3 % 4];
            prune.history = kinds[i / 2 % 4];
            Case {
                shape: i / 4,
                seed: 40 + i as u64,
                lengths: lengths(&mut random, samples, length, i % 2 == 1),
                calibrated: if prune.history == HistoryKind::Off { HistoryKind::Off } else { HistoryKind::Exact },
                prune,
                batches: 1,
            }
        })
        .collect();
    compare_all(&cases);
}

#[test]
fn history_follows_what_was_computed() {
    use HistoryKind::{Buckets, Collapsed, Exact, Off};
    let mut random = Random(2025);
    let kinds = [(Exact, Exact, 0.99), (Exact, Exact, 0.5), (Collapsed, Exact, 0.9), (Buckets, Exact, 0.9)];
    // What is calibrated by ranges serves ranges and the mean over them; what is not calibrated starts from nothing.
    let kinds =
        [&kinds[..], &[(Buckets, Buckets, 0.8), (Collapsed, Buckets, 0.8), (Exact, Off, 0.9), (Buckets, Off, 0.5)]];
    let cases: Vec<Case> = (kinds.concat().into_iter().enumerate())
        .map(|(i, (history, calibrated, ema))| {
            let prune = settings([0.2, 0.4, 0.6][i / 3], 1 + i % 3, [8, 16, 64][i % 3]);
            let prune = PruneConfig { probe_samples: 0.3, history, ema, ..prune };
            let (samples, length) = (4 + random.below(5), 12 + random.below(20));
            let lengths = lengths(&mut random, samples, length, i % 2 == 0);
            Case { shape: i, seed: 80 + i as u64, lengths, prune, calibrated, batches: 4 }
        })
        .collect();
    compare_all(&cases);
}

/// Ranges of positions have no end: batches may be longer than what was calibrated.
#[test]
fn ranges_of_positions_serve_longer_batches() {
    let cases: Vec<Case> = [HistoryKind::Buckets, HistoryKind::Collapsed]
        .into_iter()
        .enumerate()
        .map(|(i, history)| Case {
            shape: i,
            seed: 90 + i as u64,
            lengths: vec![CALIBRATED.1 + 27; 3],
            prune: PruneConfig { history, ..settings(0.4, 1, 8) },
            calibrated: HistoryKind::Exact,
            batches: 2,
        })
        .collect();
    compare_all(&cases);
}

#[test]
fn full_batch_probing_sees_every_sample_and_token() {
    let mut random = Random(2026);
    let cases: Vec<Case> = (0..6)
        .map(|i| {
            let prune = PruneConfig { method: Method::FullBatch, ..settings([0.2, 0.4, 0.6][i % 3], i % 3, 8) };
            // No history serves it, calibrated or not.
            let prune = PruneConfig { history: HistoryKind::Off, ..prune };
            let lengths = lengths(&mut random, 4 + i, 30 - 4 * i, i % 2 == 1);
            Case { shape: i, seed: 120 + i as u64, lengths, prune, calibrated: HistoryKind::Off, batches: 2 }
        })
        .collect();
    compare_all(&cases);
}

/// The options of Probe Pruning, one by one and together, each by itself against its definition.
#[test]
fn options_do_what_they_say() {
    let mut random = Random(2027);
    let base = || PruneConfig { probe_samples: 0.5, ema: 0.9, ..settings(0.4, 1, 8) };
    let shares = |tokens, samples| Some(ProbeShares { tokens, samples });
    let full = || PruneConfig { method: Method::FullBatch, history: HistoryKind::Off, ..base() };
    let options = [
        PruneConfig { score: ScoreKind::Wanda, ..base() },
        PruneConfig { score: ScoreKind::Flap, ..base() },
        PruneConfig { fusion: Fusion::Fixed(0.0), ..base() },
        PruneConfig { fusion: Fusion::Fixed(0.3), history: HistoryKind::Buckets, ..base() },
        PruneConfig { fusion: Fusion::Fixed(1.0), history: HistoryKind::Collapsed, ..base() },
        PruneConfig { statistic: Statistic::Fluctuation, ..base() },
        PruneConfig {
            statistic: Statistic::Fluctuation,
            score: ScoreKind::Flap,
            history: HistoryKind::Buckets,
            ..base()
        },
        PruneConfig { statistic: Statistic::Fluctuation, history: HistoryKind::Collapsed, ..base() },
        PruneConfig { compensate: true, ..base() },
        PruneConfig { compensate: true, statistic: Statistic::Fluctuation, score: ScoreKind::Flap, ..base() },
        PruneConfig { whole_groups: true, ..base() },
        PruneConfig { whole_groups: true, score: ScoreKind::Wanda, ..base() },
        PruneConfig { whole_groups: true, score: ScoreKind::Flap, compensate: true, ..base() },
        PruneConfig { probe_heads: shares(1.0, 0.3), ..base() },
        PruneConfig { probe_heads: shares(0.1, 1.0), probe_samples: 0.05, ..base() },
        PruneConfig { compensate: true, ..full() },
        PruneConfig { statistic: Statistic::Fluctuation, whole_groups: true, score: ScoreKind::Wanda, ..full() },
    ];
    let cases: Vec<Case> = options
        .into_iter()
        .enumerate()
        .map(|(i, prune)| {
            let (samples, length) = (4 + random.below(4), 14 + random.below(20));
            let lengths = lengths(&mut random, samples, length, i % 2 == 0);
            // Grouped heads, where groups matter.
            let shape = if prune.whole_groups { [0, 2][i % 2] } else { i };
            Case { shape, seed: 140 + i as u64, lengths, prune, calibrated: HistoryKind::Exact, batches: 2 }
        })
        .collect();
    compare_all(&cases);
}

/// A token that comes twice enters the first layer with the same norm: the lower position is probed.
#[test]
fn ties_go_to_the_lower_index() {
    let (engine, reference) = tiny(&model(0, 7));
    let prune = PruneConfig { history: HistoryKind::Off, ..settings(0.4, 0, 8) };
    let ids: Vec<u32> = (0..24).map(|t| [5, 9][t % 2]).collect();
    let batch = vec![ids.clone(), ids];
    let mut chooser = engine.chooser(&prune, &Knowledge::default(), 24).unwrap();
    Scorer::new(&engine, 2, 24).unwrap().nll(&batch, chooser.prepare(2, 24).unwrap()).unwrap();
    let mut expected = ProbePruning::new(&prune, None, false, None);
    reference.run_batch(&batch, &mut expected);
    let found = chooser.trace().unwrap().unwrap()[0][0].clone().unwrap();
    let exact = &expected.traces[&Site { layer: 0, half: Half::Attention }];
    assert_eq!(exact.sample_margin, 0.0);
    assert_eq!((&found.tokens, &found.samples), (&exact.tokens, &vec![0]));
    let parity = found.tokens[0] % 2;
    assert_eq!(found.tokens, (0..12).map(|t| 2 * t + parity).collect::<Vec<u32>>(), "the larger of two tokens");
}

/// With ten probe tokens or fewer, position 0 is among them whatever its norm; with eleven it has to earn its place.
#[test]
fn the_first_position_stays_in_a_small_probe() {
    let (engine, reference) = tiny(&model(0, 8));
    let prune = PruneConfig { history: HistoryKind::Off, ..settings(0.4, 0, 8) };
    let site = Site { layer: 0, half: Half::Attention };
    let (mut forced, mut missed) = (0, 0);
    for seed in 0..6 {
        for (length, tokens) in [(20, 10), (22, 11)] {
            let batch = Random(seed).batch(&[length; 3], 288);
            let mut chooser = engine.chooser(&prune, &Knowledge::default(), length).unwrap();
            Scorer::new(&engine, 3, length).unwrap().nll(&batch, chooser.prepare(3, length).unwrap()).unwrap();
            let mut expected = ProbePruning::new(&prune, None, false, None);
            let run = reference.run_batch(&batch, &mut expected);
            let found = chooser.trace().unwrap().unwrap()[0][0].clone().unwrap().tokens;
            assert_eq!((&found, found.len()), (&expected.traces[&site].tokens, tokens));
            let hidden = engine.config().hidden_size;
            let square = |t: usize| -> f64 {
                run.entering[0].iter().flat_map(|x| &x[t * hidden..(t + 1) * hidden]).map(|x| x * x).sum()
            };
            let larger = (1..length).filter(|&t| square(t) > square(0)).count();
            match tokens {
                10 => forced += usize::from(found[0] == 0 && larger >= 10),
                _ => missed += usize::from(found[0] != 0 && larger >= 11),
            }
        }
    }
    assert!(forced > 0 && missed > 0, "the batches must show both: {forced} forced, {missed} missed");
}

/// Counts follow from the settings: the reference's rounding is written anew.
#[test]
fn kept_counts_are_those_of_the_paper() {
    let config: ModelConfig = model(0, 1).config(secateur::config::RopeLayout::Adjacent);
    let mut pruned = 0;
    for layers in [4, 5, 12, 30, 32] {
        for (heads, channels) in [(8, 192), (9, 1536), (32, 11008), (5, 100)] {
            let config = ModelConfig {
                num_hidden_layers: layers,
                num_attention_heads: heads,
                intermediate_size: channels,
                ..config.clone()
            };
            for dense_layers in 0..4 {
                for step in 0..20 {
                    let mut prune = settings(f64::from(step) * 0.05, dense_layers, [1, 4, 16, 64][step as usize % 4]);
                    prune.whole_groups = step % 3 == 0 && heads % config.num_key_value_heads == 0;
                    let plan = Plan::new(&config, &prune);
                    for layer in 0..layers {
                        let count =
                            |half, all| probing::kept_count(&config, &prune, Site { layer, half }).unwrap_or(all);
                        let expected = (count(Half::Attention, heads), count(Half::Mlp, channels));
                        let found = (plan.layers[layer].heads, plan.layers[layer].channels);
                        assert_eq!(found, expected, "{prune:?} of {layers} layers, layer {layer}");
                        pruned += usize::from(found != (heads, channels));
                    }
                }
            }
        }
    }
    assert!(pruned > 10_000);
}

fn phases(prefill: bool, decode: bool) -> PrunePhases {
    PrunePhases { prefill, decode }
}
