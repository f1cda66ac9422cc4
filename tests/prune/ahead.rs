//! Passes that run ahead of their tokens, under pruning: the same tokens, choices, masks and costs as one after another.

use super::{calibrated, model, phases, read_masks, settings};
use crate::common::device::{Random, files, load, open};
use crate::common::drawing::{by_draws, by_steps, samplers};
use crate::common::reference::Reference;
use secateur::config::{HistoryKind, Method, PruneConfig, SamplingConfig, Statistic};
use secateur::engine::{Engine, SequenceOptions, Sequences};
use secateur::gpu::{Gpu, GpuOptions, Tier};
use std::sync::Arc;

/// A conversation of two turns in both ways, the answers of which are given up behind a token.
fn talk(start: &dyn Fn() -> Sequences, gpu: &Gpu, count: usize, renewed: bool) {
    let (mut plain, mut sequence) = (start(), start());
    let mut random = Random(4);
    for (turn, kept) in [(0, 16), (1, 30)] {
        let prompt = random.ids(11, 288);
        for sequence in [&mut plain, &mut sequence] {
            let mut done = 0;
            while done < prompt.len() {
                done = pollster::block_on(sequence.prefill_part(&prompt, done)).unwrap();
            }
        }
        let sampling = SamplingConfig { temperature: 1.0, seed: turn, ..SamplingConfig::default() };
        let expected = by_steps(&mut plain, &mut samplers(&sampling, 1), count);
        let (found, ahead) = by_draws(&mut sequence, &mut samplers(&sampling, 1), count);
        assert_eq!(found, expected, "turn {turn}, {:?}", sequence.prune());
        // One less for every renewal, before which the token must be known.
        assert!(if renewed { ahead < count && ahead > count / 2 } else { ahead == count }, "{ahead} of {count}");
        assert_eq!(read_masks(gpu, sequence.masks()), read_masks(gpu, plain.masks()), "{:?}", sequence.prune());
        for sequence in [&mut plain, &mut sequence] {
            sequence.truncate(0, kept);
        }
    }
}

#[test]
fn passes_ahead_change_no_choice_and_no_cost() {
    let spec = model(0, 140);
    for tier in [Tier::Software, Tier::Gpu] {
        let gpu = open(&GpuOptions { tier: Some(tier), ..GpuOptions::default() });
        check(&load(&gpu, &files(&spec.gguf())), &Reference::new(&files(&spec.gguf())));
    }
}

fn check(engine: &Arc<Engine>, reference: &Reference) {
    let (known, _) = calibrated(engine, reference, HistoryKind::Exact);
    let base = settings(0.4, 1, 8);
    let pruned = |prefill, every, tokens| PruneConfig {
        phases: phases(prefill, true),
        reprobe_every: every,
        reprobe_tokens: tokens,
        ..base.clone()
    };
    let cases = [
        (pruned(false, 4, 4), false),
        (pruned(false, 4, 2), true),
        (pruned(true, 5, 1), true),
        (PruneConfig { lead_tokens: 4, ..pruned(true, 5, 1) }, true),
        (pruned(false, 3, usize::MAX), true),
        (pruned(false, 0, 4), false),
        (PruneConfig { compensate: true, statistic: Statistic::Fluctuation, ..pruned(false, 4, 2) }, false),
        (PruneConfig { method: Method::WandaSp, ..pruned(true, 0, 4) }, false),
        (PruneConfig { method: Method::Dense, ..pruned(false, 4, 4) }, true),
    ];
    for (prune, live) in cases {
        let start = || {
            let (prune, known) = (prune.clone(), known.clone());
            Sequences::new(engine, SequenceOptions { samples: 1, context: 60, prune, known, live }).unwrap()
        };
        // The last token of 13 comes right before a renewal, or in the middle of a window.
        for count in [9, 13] {
            let renewed = prune.reprobe_every > 0 && (prune.method == Method::Pp || live);
            talk(&start, engine.gpu(), count, renewed);
        }
    }
}
