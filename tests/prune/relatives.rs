//! Pruning of LLaMA's relatives: probes, pruned passes and renewals do with q, k and v what the model does.

use super::chat::{converse_all, decode};
use super::{Case, RELATIVES, compare_all, settings};
use crate::chat::Turn::{Answer, Prompts};
use crate::common::device::Random;
use crate::common::tiny_model::TinySpec;
use secateur::config::{HistoryKind, Method, Norms, PruneConfig};

/// How many there are.
const COUNT: usize = 8;

/// The families, with shapes that differ: biases, head norms, layers without rope, fused tensors, windows shorter than a prompt,
/// and OPT's blocks with norms before and behind.
pub fn model(index: usize, base: TinySpec) -> TinySpec {
    let with_window = |mut spec: TinySpec, window: usize| {
        spec.blocks.sliding_window = Some(window);
        spec
    };
    match index {
        0 => TinySpec::of("qwen2", TinySpec { heads: 8, kv_heads: 4, channels: 192, ..base }),
        1 => TinySpec::of("qwen3", TinySpec { heads: 6, kv_heads: 2, head_dim: 32, channels: 172, ..base }),
        2 => TinySpec::of("smollm3", TinySpec { heads: 9, kv_heads: 3, channels: 130, layers: 5, ..base }),
        3 => with_window(TinySpec::of("phi3", TinySpec { heads: 6, kv_heads: 6, channels: 160, ..base }), 9),
        4 => with_window(TinySpec { heads: 8, kv_heads: 2, channels: 128, ..base }, 5),
        5 => TinySpec::of("qwen2", TinySpec { heads: 9, kv_heads: 3, channels: 131, tied: false, ..base }),
        6 => TinySpec::of("opt", TinySpec { heads: 8, kv_heads: 8, channels: 192, ..base }),
        7 => {
            let narrow = TinySpec { hidden: 128, embedded: Some(64), heads: 6, kv_heads: 6, channels: 130, ..base };
            let mut spec = TinySpec::of("opt", narrow);
            spec.blocks.norms = Norms::LayerBehind;
            spec
        }
        _ => panic!("{COUNT} relatives"),
    }
}

#[test]
fn probes_of_relatives_choose_what_the_paper_says() {
    let mut random = Random(2030);
    let cases: Vec<Case> = (0..2 * COUNT)
        .map(|i| {
            let mut prune = settings(0.4, i % 2, [8, 16, 64][i % 3]);
            (prune.probe_tokens, prune.probe_samples) = ([0.5, 0.3, 0.8][i % 3], [0.3, 1.0][i % 2]);
            prune.history = [HistoryKind::Off, HistoryKind::Exact][i / COUNT];
            if matches!(i, 1 | 6 | 7) {
                (prune.method, prune.history) = (Method::FullBatch, HistoryKind::Off);
            }
            let (samples, length) = (3 + random.below(4), 16 + random.below(20));
            Case {
                shape: RELATIVES + i % COUNT,
                seed: 300 + i as u64,
                lengths: super::lengths(&mut random, samples, length, i % 2 == 1),
                calibrated: prune.history,
                prune,
                batches: 1,
            }
        })
        .collect();
    compare_all(&cases);
}

#[test]
fn answers_of_relatives_are_pruned_and_renewed() {
    let every = |prune: PruneConfig| PruneConfig { reprobe_tokens: usize::MAX, ..prune };
    let cases: Vec<_> = (0..COUNT)
        .map(|i| {
            let prune = if i % 2 == 0 { every(decode(0.4, 5)) } else { decode(0.4, 6) };
            (super::model(RELATIVES + i, 320 + i as u64), prune, HistoryKind::Off, vec![Prompts(vec![14]), Answer(17)])
        })
        .collect();
    converse_all(&cases);
}
