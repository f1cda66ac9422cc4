//! Pruned passes against an independent implementation of Probe Pruning: what is probed, what is kept, what follows.

mod common;

#[path = "prune/chat.rs"]
mod chat;
#[path = "prune/costs.rs"]
mod costs;
#[path = "prune/given.rs"]
mod given;

use common::device::{Random, assert_close, gpu, tiny, tolerance};
use common::reference::probing::{self, ProbePruning};
use common::reference::{Half, Masks, Reference, Site};
use common::tiny_model::TinySpec;
use secateur::config::{Method, ModelConfig, PruneConfig, PrunePhases};
use secateur::engine::{Engine, Scorer};
use secateur::gpu::Gpu;
use secateur::prune::{Calibrating, History, LayerMasks, Plan, ProbeSize, ProbeTrace, Probing};
use std::sync::Arc;

/// Choices closer than this, relative to the weakest kept score, may go either way in 32 bits.
const CLOSE: f64 = 1e-5;

/// Models of the sweeps: grouped, multi-head with odd channels, one kv head; random by seed.
fn model(shape: usize, seed: u64) -> TinySpec {
    let base = TinySpec { layers: 4, seed, ..TinySpec::default() };
    match shape % 3 {
        0 => TinySpec { heads: 8, kv_heads: 4, head_dim: 16, channels: 192, ..base },
        1 => TinySpec { heads: 6, kv_heads: 6, head_dim: 32, channels: 172, layers: 5, ..base },
        _ => TinySpec { heads: 9, kv_heads: 3, head_dim: 16, channels: 130, ..base },
    }
}

/// What the statistic is fused with.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    None,
    Exact,
    Collapsed,
    /// Exact, and it follows the batches with this factor of the old.
    Following(f32),
    /// The same with one row.
    CollapsedFollowing(f32),
}

impl Kind {
    fn ema(self) -> Option<f32> {
        match self {
            Kind::Following(ema) | Kind::CollapsedFollowing(ema) => Some(ema),
            Kind::None | Kind::Exact | Kind::Collapsed => None,
        }
    }

    fn collapsed(self) -> bool {
        matches!(self, Kind::Collapsed | Kind::CollapsedFollowing(_))
    }
}

/// Histories of the same dense pass, the engine's and the reference's.
fn calibrated(engine: &Arc<Engine>, reference: &Reference, kind: Kind) -> Option<(Arc<History>, probing::History)> {
    const SHAPE: (usize, usize) = (6, 40);
    if kind == Kind::None {
        return None;
    }
    let batch = Random(99).batch(&[SHAPE.1; SHAPE.0], engine.config().vocab_size);
    let positions = (!kind.collapsed()).then_some(SHAPE.1);
    let history = History::empty(engine.gpu(), engine.config(), positions).unwrap();
    let mut scorer = Scorer::new(engine, SHAPE.0 / 2, SHAPE.1).unwrap();
    for part in batch.chunks(SHAPE.0 / 2) {
        scorer.observe(part, &mut Calibrating::new(&history, SHAPE.0, SHAPE.1)).unwrap();
    }
    Some((Arc::new(history), probing::History::calibrate(reference, &batch, kind.collapsed())))
}

/// Holds every row of a history against the reference's. Squares err twice as much as what is squared.
fn assert_history(engine: &Engine, found: &History, exact: &probing::History, case: &str) {
    let allowed = 4.0 * tolerance(engine.config(), 40);
    for (site, rows) in &exact.rows {
        let buffer = if site.half == Half::Attention { &found.heads } else { &found.channels };
        let exact = rows.concat();
        let found: Vec<f32> = engine.gpu().read(&buffer[site.layer], exact.len()).unwrap();
        assert_close(&found, &exact, allowed, &format!("{case}: history at {site:?}"));
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
    kind: Kind,
    batches: usize,
}

/// Runs a case through the engine and the reference. Returns how many choices were compared, and whether all agreed.
fn compare(case: &Case) -> (usize, bool) {
    let name = format!("{case:?}");
    let (engine, reference) = tiny(&model(case.shape, case.seed));
    let (gpu, config) = (engine.gpu().clone(), engine.config().clone());
    let plan = Plan::new(&config, &case.prune);
    let (samples, length) = (case.lengths.len(), *case.lengths.iter().max().unwrap());
    let full = case.prune.method == Method::FullBatch;
    let size = match full {
        true => ProbeSize { samples, tokens: length },
        false => ProbeSize::new(&case.prune, samples, length),
    };
    let (found, exact) = calibrated(&engine, &reference, case.kind).unzip();
    let ema = case.kind.ema();
    let mut probing = Probing::new(&gpu, &config, &plan, size, (samples, length), found.clone(), ema).unwrap();
    let mut expected = ProbePruning::new(&case.prune, exact, ema.map(f64::from));
    let mut scorer = Scorer::new(&engine, samples, length).unwrap();
    let allowed = tolerance(&config, length);
    let (mut random, mut compared) = (Random(case.seed), 0);
    for round in 0..case.batches {
        let name = format!("{name}, batch {round}");
        let batch = random.batch(&case.lengths, config.vocab_size);
        let nll = scorer.nll(&batch, &mut probing).unwrap();
        let run = reference.run_batch(&batch, &mut expected);
        let traces = probing.trace(&gpu).unwrap();
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
        assert_eq!(read_masks(&gpu, probing.masks()), expected.masks(), "{name}");
        for ((ids, last), found) in batch.iter().zip(&run.last).zip(&nll) {
            // A likelihood is a difference of two logits of at most `top`.
            let exact = reference.nll(ids, last);
            let top = reference.logits(last).concat().into_iter().fold(0.0f64, |most, logit| most.max(logit.abs()));
            for (t, (found, exact)) in found.iter().zip(&exact).enumerate() {
                let off = (f64::from(*found) - exact).abs();
                assert!(off <= 2.0 * allowed * top, "{name}: likelihood {t} is {found}, should be {exact}");
            }
        }
        if let (Some(found), Some(exact)) = (&found, &expected.history) {
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
    PruneConfig { method: Method::Pp, ratio, dense_layers, tile, ..PruneConfig::default() }
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
    let kinds = [Kind::None, Kind::Exact, Kind::Collapsed];
    let cases: Vec<Case> = (0..30)
        .map(|i| {
            let (samples, length) = (4 + random.below(21), 5 + random.below(36));
            let mut prune = settings([0.2, 0.4, 0.6][i % 3], i % 4, [4, 8, 16, 64][i / 2 % 4]);
            prune.probe_tokens = [0.5, 0.25, 0.8, 1.0, 0.05][i % 5];
            prune.probe_samples = [0.05, 0.3, 1.0, 0.5][i / 3 % 4];
            Case {
                shape: i / 4,
                seed: 40 + i as u64,
                lengths: lengths(&mut random, samples, length, i % 2 == 1),
                prune,
                kind: kinds[i / 2 % 3],
                batches: 1,
            }
        })
        .collect();
    compare_all(&cases);
}

#[test]
fn history_follows_what_was_computed() {
    let mut random = Random(2025);
    let kinds = [Kind::Following(0.99), Kind::Following(0.5), Kind::CollapsedFollowing(0.9)];
    let cases: Vec<Case> = (0..9)
        .map(|i| {
            let mut prune = settings([0.2, 0.4, 0.6][i / 3], 1 + i % 3, [8, 16, 64][i % 3]);
            prune.probe_samples = 0.3;
            let (samples, length) = (4 + random.below(5), 12 + random.below(20));
            let lengths = lengths(&mut random, samples, length, i % 2 == 0);
            Case { shape: i, seed: 80 + i as u64, lengths, prune, kind: kinds[(i + i / 3) % 3], batches: 4 }
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
            let lengths = lengths(&mut random, 4 + i, 30 - 4 * i, i % 2 == 1);
            Case { shape: i, seed: 120 + i as u64, lengths, prune, kind: Kind::None, batches: 2 }
        })
        .collect();
    compare_all(&cases);
}

/// A token that comes twice enters the first layer with the same norm: the lower position is probed.
#[test]
fn ties_go_to_the_lower_index() {
    let (engine, reference) = tiny(&model(0, 7));
    let gpu = engine.gpu();
    let prune = settings(0.4, 0, 8);
    let ids: Vec<u32> = (0..24).map(|t| [5, 9][t % 2]).collect();
    let batch = vec![ids.clone(), ids];
    let size = ProbeSize::new(&prune, 2, 24);
    let plan = Plan::new(engine.config(), &prune);
    let mut probing = Probing::new(gpu, engine.config(), &plan, size, (2, 24), None, None).unwrap();
    Scorer::new(&engine, 2, 24).unwrap().nll(&batch, &mut probing).unwrap();
    let mut expected = ProbePruning::new(&prune, None, None);
    reference.run_batch(&batch, &mut expected);
    let found = probing.trace(gpu).unwrap()[0][0].clone().unwrap();
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
    let (prune, site) = (settings(0.4, 0, 8), Site { layer: 0, half: Half::Attention });
    let plan = Plan::new(engine.config(), &prune);
    let (mut forced, mut missed) = (0, 0);
    for seed in 0..6 {
        for (length, tokens) in [(20, 10), (22, 11)] {
            let batch = Random(seed).batch(&[length; 3], 288);
            let size = ProbeSize::new(&prune, 3, length);
            let mut probing =
                Probing::new(engine.gpu(), engine.config(), &plan, size, (3, length), None, None).unwrap();
            Scorer::new(&engine, 3, length).unwrap().nll(&batch, &mut probing).unwrap();
            let mut expected = ProbePruning::new(&prune, None, None);
            let run = reference.run_batch(&batch, &mut expected);
            let found = probing.trace(engine.gpu()).unwrap()[0][0].clone().unwrap().tokens;
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
                    let prune = settings(f64::from(step) * 0.05, dense_layers, [1, 4, 16, 64][step as usize % 4]);
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
