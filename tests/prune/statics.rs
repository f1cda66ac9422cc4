//! The methods that choose once, against a naive computation from the same calibration; one threshold for all layers.

use super::{calibrated, model};
use crate::common::device::{Random, tiny, tolerance};
use crate::common::reference::calibration::Calibration as Exact;
use crate::common::reference::probing::stand_in;
use crate::common::reference::statics::{flap, wanda};
use crate::common::reference::{Before, Half, Masks, Method as Choosing, Reference, Site};
use crate::common::tiny_model::TinySpec;
use secateur::config::{HistoryKind, LayerRatios, Method, MlpKind, PruneBlocks, PruneConfig, ScoreKind, Statistic};
use secateur::engine::{Engine, Scorer, SequenceOptions, Sequences};
use secateur::prune::{Flops, Knowledge, LayerPlan, Plan, UnitSets};
use std::sync::Arc;

/// Given masks, with means for what they drop.
struct Compensated<'c> {
    masks: &'c Masks,
    prune: &'c PruneConfig,
    calibration: &'c Exact,
}

impl Choosing for Compensated<'_> {
    fn choose(&mut self, _: &Reference, site: Site, _: &Before<'_>) -> Option<Vec<u32>> {
        self.masks.get(&site).cloned()
    }

    fn stand_in(&self, site: Site) -> Option<&[f64]> {
        stand_in(self.prune, Some(self.calibration), site)
    }
}

fn settings(method: Method, ratio: f64) -> PruneConfig {
    PruneConfig { method, ratio, dense_layers: 1, tile: 8, ..PruneConfig::default() }
}

fn masks(units: &UnitSets) -> Masks {
    let mut masks = Masks::new();
    for (layer, units) in units.layers.iter().enumerate() {
        for half in [Half::Attention, Half::Mlp] {
            if let Some(units) = units.half(super::theirs(half)) {
                masks.insert(Site { layer, half }, units.kept.clone());
            }
        }
    }
    masks
}

fn known(engine: &Arc<Engine>, reference: &Reference, positions: HistoryKind) -> (Knowledge, Exact) {
    let (known, exact) = calibrated(engine, reference, positions);
    match positions {
        // To the bit what the engine decides by.
        HistoryKind::Exact => {
            let exact = Exact::read(reference, known.calibration.as_ref().unwrap());
            (known, exact)
        }
        _ => (known, exact),
    }
}

/// Choices, likelihoods of a batch, and logits of a conversation.
#[test]
fn static_methods_keep_what_their_scores_say() {
    let mut compared = 0;
    for (index, (method, whole_groups, compensate)) in [
        (Method::WandaSp, false, false),
        (Method::WandaSp, true, true),
        (Method::Flap, false, true),
        (Method::Flap, true, true),
    ]
    .into_iter()
    .enumerate()
    {
        // The last is an OPT, whose channels have two matrices, and biases that are dropped with them.
        for (shape, ratio) in [(0, 0.2), (1, 0.4), (2, 0.6), (super::RELATIVES + 6, 0.4)] {
            let spec = model(shape, 160 + 3 * index as u64 + shape as u64);
            let prune = PruneConfig { whole_groups, compensate, ..settings(method, ratio) };
            let (engine, reference) = tiny(&spec);
            let (known, exact) = known(&engine, &reference, HistoryKind::Exact);
            let calibration = known.calibration.clone().unwrap();
            let units = engine.static_units(&prune, &calibration).unwrap();
            let choice = match method {
                Method::Flap => flap(&reference, &prune, &exact),
                _ => wanda(&reference, &prune, &exact),
            };
            let case = format!("{method:?}, {ratio}, whole groups {whole_groups}, shape {shape}");
            assert!(choice.margin > 1e-6, "{case}: the margin of {:e} is too small to tell", choice.margin);
            assert_eq!(masks(&units), choice.masks, "{case}");
            assert!(!choice.masks.is_empty());
            compared += choice.masks.len();
            run(&engine, &reference, &prune, &known, (&choice.masks, &exact), &case);
        }
    }
    assert!(compared > 60, "{compared} masks are too few");
}

/// A batch and a conversation under a static method, against the reference with the same masks.
fn run(
    engine: &Arc<Engine>,
    reference: &Reference,
    prune: &PruneConfig,
    known: &Knowledge,
    (masks, exact): (&Masks, &Exact),
    case: &str,
) {
    let vocab = engine.config().vocab_size;
    let batch = Random(3).batch(&[20, 9, 14], vocab);
    let mut chooser = engine.chooser(prune, known, 20).unwrap();
    let mut scorer = Scorer::new(engine, 3, 20).unwrap();
    let found = scorer.nll(&batch, chooser.prepare(3, 20).unwrap()).unwrap();
    assert!(chooser.trace().unwrap().is_none() && chooser.probe_sizes(3, 20).is_none());
    // Keys and values of groups that are gone are not computed, and not counted.
    let config = engine.config();
    let group = if prune.whole_groups { config.group_size() } else { 1 };
    let matrices = if config.blocks.mlp == MlpKind::Relu { 2 } else { 3 };
    let of = |counts: &LayerPlan| {
        let kv = if group == config.group_size() { counts.heads / group } else { config.num_key_value_heads };
        2 * config.hidden_size * (2 * config.head_dim * (counts.heads + kv) + matrices * counts.channels)
    };
    let mut counted = Flops::default();
    counted.add_batch(config, chooser.plan(), 1.0, 0.0);
    assert_eq!(counted.pass, chooser.plan().layers.iter().map(of).sum::<usize>() as f64, "{case}");
    let mut given = Compensated { masks, prune, calibration: exact };
    let allowed = tolerance(engine.config(), 40);
    let exact_run = reference.run_batch(&batch, &mut given);
    for ((ids, last), found) in batch.iter().zip(&exact_run.last).zip(&found) {
        let top = reference.logits(last).concat().into_iter().fold(0.0f64, |most, logit| most.max(logit.abs()));
        for (found, exact) in found.iter().zip(reference.nll(ids, last)) {
            assert!((f64::from(*found) - exact).abs() <= 2.0 * allowed * top, "{case}: {found}, should be {exact}");
        }
    }
    // In a conversation the same units run in prompts and answers, as the phases say.
    for (prefill, decode) in [(true, true), (false, true), (true, false)] {
        let prune = PruneConfig { phases: super::phases(prefill, decode), ..prune.clone() };
        let options = SequenceOptions { samples: 1, context: 60, prune, known: known.clone(), live: false };
        let mut sequence = Sequences::new(engine, options).unwrap();
        let mut streams = [reference.empty()];
        let none = Masks::new();
        let ids = Random(4).ids(24, vocab);
        for (part, pruned) in [(&ids[..12], prefill)].into_iter().chain(ids[12..].chunks(1).map(|id| (id, decode))) {
            let logits = match part.len() {
                1 => sequence.step(part).unwrap(),
                _ => sequence.prefill(&[part.to_vec()]).unwrap(),
            };
            let mut given =
                Compensated { masks: if pruned { masks } else { &none }, prune: given.prune, calibration: exact };
            let run = reference.run(&mut streams, &[part.to_vec()], &mut given);
            let exact = reference.last_logits(&run.last[0]);
            let case = format!("{case}, prefill {prefill}, decode {decode}");
            crate::common::device::assert_close(&logits[0], &exact, allowed, &case);
        }
    }
}

/// Collapsed calibrations are enough, and a method that is not static has no units.
#[test]
fn static_methods_need_no_positions() {
    let (engine, reference) = tiny(&model(0, 180));
    let (fine, _) = known(&engine, &reference, HistoryKind::Exact);
    let (one, _) = known(&engine, &reference, HistoryKind::Collapsed);
    for method in [Method::WandaSp, Method::Flap] {
        let of = |known: &Knowledge| {
            let calibration = known.calibration.clone().unwrap();
            masks(&engine.static_units(&settings(method, 0.4), &calibration).unwrap())
        };
        assert_eq!(of(&fine), of(&one), "{method:?}");
    }
    let error = engine.static_units(&settings(Method::Pp, 0.4), fine.calibration.as_ref().unwrap()).unwrap_err();
    assert!(error.to_string().contains("`pp`"), "{error}");
}

#[test]
fn blocks_and_layers_that_stay_whole_stay_whole() {
    let (engine, reference) = tiny(&model(1, 181));
    let (known, _) = known(&engine, &reference, HistoryKind::Exact);
    let calibration = known.calibration.clone().unwrap();
    for method in [Method::WandaSp, Method::Flap] {
        for (attention, mlp) in [(true, false), (false, true), (false, false)] {
            let blocks = PruneBlocks { attention, mlp };
            let prune = PruneConfig { blocks, dense_layers: 2, ..settings(method, 0.4) };
            let masks = masks(&engine.static_units(&prune, &calibration).unwrap());
            let wanted = |site: &Site| site.layer >= 2 && if site.half == Half::Attention { attention } else { mlp };
            assert!(masks.keys().all(wanted), "{method:?}: {:?}", masks.keys());
            assert_eq!(masks.is_empty(), !attention && !mlp);
        }
        let nothing = engine.static_units(&settings(method, 0.0), &calibration).unwrap();
        assert!(masks(&nothing).is_empty(), "{method:?} at 0");
    }
}

/// One threshold moves units between layers, at the FLOPs of equal ratios.
#[test]
fn a_threshold_keeps_the_cost() {
    let mut moved = 0;
    for (shape, seed) in [(0, 190), (1, 191), (2, 192)] {
        // More layers than elsewhere, so that they differ.
        let spec = TinySpec { layers: 6, ..model(shape, seed) };
        let (engine, reference) = tiny(&spec);
        let (known, _) = known(&engine, &reference, HistoryKind::Exact);
        let config = engine.config();
        for (ratio, whole_groups, score, statistic) in [
            (0.2, false, ScoreKind::Ppsp, Statistic::Energy),
            (0.4, false, ScoreKind::Flap, Statistic::Fluctuation),
            (0.4, true, ScoreKind::Wanda, Statistic::Energy),
            (0.6, true, ScoreKind::Ppsp, Statistic::Fluctuation),
        ] {
            let prune = PruneConfig { whole_groups, score, statistic, ..settings(Method::Pp, ratio) };
            let uniform = Plan::new(config, &prune);
            let prune = PruneConfig { layer_ratios: LayerRatios::Threshold, ..prune };
            let mut chooser = engine.chooser(&prune, &known, 20).unwrap();
            let plan = chooser.plan().clone();
            moved += usize::from(plan.layers != uniform.layers);
            let group = if whole_groups { config.group_size() } else { 1 };
            for (layer, counts) in plan.layers.iter().enumerate() {
                let case = format!("shape {shape}, {prune:?}, layer {layer}: {counts:?}");
                assert!(layer >= 1 || *counts == plan.full(), "{case}: the first layer is dense");
                assert!(counts.heads >= 1 && counts.heads.is_multiple_of(group), "{case}");
                assert!(counts.channels >= 1 && counts.channels <= config.intermediate_size, "{case}");
                assert!(counts.channels.is_multiple_of(8) || counts.channels == config.intermediate_size, "{case}");
            }
            // FLOPs per token of a layer's matrices, by hand.
            let (hidden, d) = (config.hidden_size, config.head_dim);
            let kv = |heads: usize| match group == config.group_size() {
                true => heads / config.group_size(),
                false => config.num_key_value_heads,
            };
            let cost = |plan: &Plan| -> usize {
                let of =
                    |counts: &LayerPlan| 2 * hidden * (2 * d * (counts.heads + kv(counts.heads)) + 3 * counts.channels);
                plan.layers.iter().map(of).sum()
            };
            // At most a tile and a head (or a group of them) in every layer that is pruned.
            let step = 2 * hidden * (2 * d * (group + 1) + 3 * 8) * (config.num_hidden_layers - 1);
            let (found, wanted) = (cost(&plan), cost(&uniform));
            assert!(found.abs_diff(wanted) <= step, "{found} FLOPs a token for {wanted}, {prune:?}");
            let mut counted = Flops::default();
            counted.add_batch(config, &plan, 1.0, 0.0);
            assert_eq!(counted.pass, found as f64, "as the plan itself counts");
            let options =
                SequenceOptions { samples: 1, context: 30, prune: prune.clone(), known: known.clone(), live: false };
            assert_eq!(Sequences::new(&engine, options).unwrap().plan(), &plan, "in conversations too");
            // And it runs: what probes keep has these counts.
            let batch = Random(5).batch(&[20; 4], spec.vocab);
            Scorer::new(&engine, 4, 20).unwrap().nll(&batch, chooser.prepare(4, 20).unwrap()).unwrap();
            for (layer, traces) in chooser.trace().unwrap().unwrap().iter().enumerate() {
                let [heads, channels] = traces.each_ref().map(|trace| trace.as_ref().map(|trace| trace.kept.len()));
                assert_eq!(heads.unwrap_or(config.num_attention_heads), plan.layers[layer].heads);
                assert_eq!(channels.unwrap_or(config.intermediate_size), plan.layers[layer].channels);
            }
        }
    }
    assert!(moved >= 8, "a threshold that moved units in {moved} cases of 12 shows little");
}
