//! Masks from outside, and what must not change anything.

use super::{gpu, model, phases, settings};
use crate::common::device::{Random, assert_close, tiny, tolerance};
use crate::common::reference::{Half, Masks, Reference, Site};
use crate::common::tiny_model::TinySpec;
use secateur::Error;
use secateur::config::{Method, PruneConfig};
use secateur::engine::{Engine, Scorer, SequenceOptions, Sequences};
use secateur::model::TensorType;
use secateur::prune::{Dense, Frozen, Knowledge, LayerMasks, Mask, Plan};
use std::sync::Arc;

/// The engine's masks with these units.
fn given(engine: &Engine, masks: &Masks) -> Vec<LayerMasks> {
    let (gpu, config) = (engine.gpu(), engine.config());
    let group = config.group_size();
    let mut all = vec![LayerMasks::default(); config.num_hidden_layers];
    for (site, units) in masks {
        let mask = match site.half {
            Half::Attention => {
                let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
                Mask::heads(gpu, units.len(), heads, config.head_dim, kv_heads)
            }
            Half::Mlp => Mask::channels(gpu, units.len(), config.intermediate_size),
        };
        let mask = Arc::new(mask.unwrap());
        mask.set(gpu, units, group).unwrap();
        assert_eq!(&mask.read(gpu).unwrap(), units);
        match site.half {
            Half::Attention => all[site.layer].heads = Some(mask),
            Half::Mlp => all[site.layer].channels = Some(mask),
        }
    }
    all
}

/// Last logits and states of a batch under masks, against the reference's.
fn check(scorer: &mut Scorer, engine: &Engine, reference: &Reference, batch: &[Vec<u32>], masks: &Masks, case: &str) {
    let length = batch.iter().map(Vec::len).max().unwrap();
    let run = reference.run_batch(batch, &mut masks.clone());
    let selected = given(engine, masks);
    let logits = scorer.last_logits(batch, &mut Frozen { masks: &selected, compensation: None }).unwrap();
    let residual = scorer.residual(batch.len() * length).unwrap();
    let (hidden, allowed) = (engine.config().hidden_size, tolerance(engine.config(), length));
    for (sample, ids) in batch.iter().enumerate() {
        let rows = &residual[sample * length * hidden..][..ids.len() * hidden];
        assert_close(rows, &run.last[sample], allowed, &format!("{case}: residual stream of sample {sample}"));
        let exact = reference.last_logits(&run.last[sample]);
        assert_close(&logits[sample], &exact, allowed, &format!("{case}: logits of sample {sample}"));
    }
}

#[test]
fn any_mask_gives_the_reference_s_pruned_pass() {
    let shapes = [
        model(0, 3),
        model(1, 4),
        TinySpec { channels: 101, ..model(2, 5) },
        TinySpec { kind: TensorType::F16, channels: 97, ..model(0, 6) },
        TinySpec { kind: TensorType::BF16, channels: 99, ..model(1, 7) },
        TinySpec { kind: TensorType::Q8_0, ..model(0, 8) },
        TinySpec { kind: TensorType::Q4_0, channels: 160, hidden: 128, ..model(1, 9) },
        TinySpec { kind: TensorType::Q4_1, heads: 6, kv_heads: 2, channels: 224, ..model(0, 10) },
    ];
    for (index, spec) in shapes.into_iter().enumerate() {
        let (engine, reference) = tiny(&spec);
        let mut random = Random(index as u64);
        let mut scorer = Scorer::new(&engine, 4, 40).unwrap();
        // One row, some, many: every shape class of the kernels; one scorer, so that buffers hold what came before.
        for lengths in [vec![2], vec![7, 3, 5], vec![40, 2, 31, 17], vec![5]] {
            let batch = random.batch(&lengths, spec.vocab);
            let mut masks = Masks::new();
            for layer in 0..spec.layers {
                for (half, units) in [(Half::Attention, spec.heads), (Half::Mlp, spec.channels)] {
                    // Also none, one and all.
                    let count = [1, units, 1 + random.below(units), 1 + random.below(units)][random.below(4)];
                    if random.below(4) > 0 {
                        masks.insert(Site { layer, half }, random.some_of(count, units));
                    }
                }
            }
            check(&mut scorer, &engine, &reference, &batch, &masks, &format!("{spec:?}, {lengths:?}"));
        }
    }
}

/// Keys and values of a kv head that no kept head reads are not computed, and whatever lies in their place is not read.
#[test]
fn wholly_pruned_groups_change_nothing() {
    for (spec, lists) in [
        (model(0, 11), vec![vec![2, 3], vec![0, 7], vec![4, 5, 6], vec![0, 1, 2, 3, 6, 7]]),
        (model(2, 12), vec![vec![8], vec![0, 2], vec![3, 4, 5, 6], vec![1]]),
        (model(1, 13), vec![vec![5], vec![0, 1], vec![1, 2, 3], vec![4]]),
    ] {
        let (engine, reference) = tiny(&spec);
        let (mut random, mut scorer) = (Random(21), Scorer::new(&engine, 3, 20).unwrap());
        let other = random.batch(&[20, 20, 20], spec.vocab);
        let batch = random.batch(&[20, 6, 13], spec.vocab);
        let mut masks = Masks::new();
        for (layer, list) in lists.into_iter().enumerate() {
            masks.insert(Site { layer, half: Half::Attention }, list);
        }
        check(&mut scorer, &engine, &reference, &batch, &masks, "a fresh scorer");
        let selected = given(&engine, &masks);
        let fresh = scorer.nll(&batch, &mut Frozen { masks: &selected, compensation: None }).unwrap();
        scorer.nll(&other, &mut Dense).unwrap();
        let after = scorer.nll(&batch, &mut Frozen { masks: &selected, compensation: None }).unwrap();
        assert_eq!(fresh, after, "keys of another batch lie where none are computed");
    }
}

#[test]
fn a_mask_that_cannot_be_is_refused() {
    let gpu = gpu();
    let mask = Mask::channels(&gpu, 3, 10).unwrap();
    for units in [&[1u32, 2][..], &[1, 2, 3, 4], &[3, 2, 1], &[1, 1, 2], &[7, 8, 10]] {
        assert!(matches!(mask.set(&gpu, units, 1), Err(Error::Internal(_))), "{units:?}");
    }
    mask.set(&gpu, &[0, 5, 9], 1).unwrap();
    assert_eq!(mask.read(&gpu).unwrap(), [0, 5, 9]);
}

/// With nothing to prune a method computes what the dense pass computes, to the bit, and chooses nothing.
#[test]
fn a_ratio_of_zero_is_the_dense_pass() {
    let (engine, _) = tiny(&model(0, 40));
    let mut random = Random(5);
    let batch = random.batch(&[20, 11, 16], 288);
    let mut scorer = Scorer::new(&engine, 3, 20).unwrap();
    let dense = scorer.nll(&batch, &mut Dense).unwrap();
    for method in [Method::Pp, Method::FullBatch] {
        let prune = PruneConfig { method, ..settings(0.0, 0, 8) };
        let mut chooser = engine.chooser(&prune, &Knowledge::default(), 20).unwrap();
        assert!(!chooser.plan().prunes() && *chooser.plan() == Plan::new(engine.config(), &prune));
        assert_eq!(scorer.nll(&batch, chooser.prepare(3, 20).unwrap()).unwrap(), dense);
        assert!(chooser.trace().unwrap().is_none() && chooser.history().is_none());
        for phases in [phases(true, true), phases(false, true), phases(true, false)] {
            let run = |prune: PruneConfig| {
                let options =
                    SequenceOptions { samples: 1, context: 40, prune, known: Knowledge::default(), live: false };
                let mut sequence = Sequences::new(&engine, options).unwrap();
                let mut all = sequence.prefill(&batch[..1]).unwrap();
                (0..10).for_each(|id| all.extend(sequence.step(&[id]).unwrap()));
                (all, sequence.choices(), sequence.flops())
            };
            let pruned = run(PruneConfig { phases, reprobe_every: 3, ..prune.clone() });
            assert_eq!(pruned, run(PruneConfig::default()));
            assert_eq!((pruned.1, pruned.2.probe), (0, 0.0));
        }
    }
}
