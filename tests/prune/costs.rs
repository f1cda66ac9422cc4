//! What pruning costs: operations, counted anew from shapes; read-backs.

use super::{model, phases, settings};
use crate::common::device::{Random, files, load, open, tiny};
use secateur::config::{Method, ModelConfig, PruneConfig};
use secateur::engine::{Scorer, SequenceOptions, Sequences};
use secateur::gpu::GpuOptions;
use secateur::prune::{Knowledge, LayerPlan, Plan, ProbeSize};

/// Multiply-adds of one token at `position` (0-based) in a layer that computes these units: q, k, v (of every kv head: the
/// cache stays whole), the scores with every position up to its own and the mixing of their values, o, gate, up, down.
/// Norms, rope, softmax, embedding and head are not counted.
fn token(config: &ModelConfig, units: LayerPlan, position: usize) -> usize {
    let (hidden, d) = (config.hidden_size, config.head_dim);
    let q_and_o = 2 * hidden * units.heads * d;
    let k_and_v = 2 * hidden * config.num_key_value_heads * d;
    let attention = 2 * (position + 1) * units.heads * d;
    q_and_o + k_and_v + attention + 3 * hidden * units.channels
}

fn tokens(config: &ModelConfig, plan: &Plan, positions: std::ops::Range<usize>) -> usize {
    positions.flat_map(|position| plan.layers.iter().map(move |&units| token(config, units, position))).sum()
}

/// Multiply-adds of the first halves of probed blocks: q, k, v, attention among the probe's own tokens; gate and up.
fn probe(config: &ModelConfig, plan: &Plan, size: ProbeSize) -> usize {
    let (hidden, d, heads) = (config.hidden_size, config.head_dim, config.num_attention_heads);
    let mut total = 0;
    for layer in 0..plan.layers.len() {
        for slot in 0..size.tokens {
            if plan.layers[layer].heads < heads {
                total += hidden * d * (heads + 2 * config.num_key_value_heads) + 2 * (slot + 1) * heads * d;
            }
            if plan.layers[layer].channels < config.intermediate_size {
                total += 2 * hidden * config.intermediate_size;
            }
        }
    }
    total * size.samples
}

/// Multiply-adds of the dropped units of tokens at `positions`: q and attention (keys and values are there), gate and up.
fn dropped(config: &ModelConfig, plan: &Plan, positions: std::ops::Range<usize>) -> usize {
    let (hidden, d) = (config.hidden_size, config.head_dim);
    let of = |units: &LayerPlan, position: usize| {
        let heads = config.num_attention_heads - units.heads;
        let channels = config.intermediate_size - units.channels;
        hidden * heads * d + 2 * (position + 1) * heads * d + 2 * hidden * channels
    };
    positions.flat_map(|position| plan.layers.iter().map(move |units| of(units, position))).sum()
}

#[test]
fn operations_are_two_a_multiply_add() {
    for shape in 0..3 {
        let (engine, _) = tiny(&model(shape, 5));
        let config = engine.config();
        for (prefill, every, all) in
            [(false, 4, true), (true, 4, true), (true, 0, true), (false, 0, true), (false, 4, false)]
        {
            let renewal = (phases(prefill, true), every, if all { 4 } else { 2 });
            let (phases, reprobe_every, reprobe_tokens) = renewal;
            let prune = PruneConfig { phases, reprobe_every, reprobe_tokens, ..settings(0.4, 1, 8) };
            let options = SequenceOptions {
                samples: 1,
                context: 64,
                prune: prune.clone(),
                known: Knowledge::default(),
                live: false,
            };
            let mut sequence = Sequences::new(&engine, options).unwrap();
            let (dense, pruned) = (Plan::dense(config), Plan::new(config, &prune));
            assert_eq!(sequence.plan(), &pruned);
            let mut random = Random(1);
            sequence.prefill(&[random.ids(13, 288)]).unwrap();
            random.ids(10, 288).into_iter().for_each(|id| drop(sequence.step(&[id]).unwrap()));
            sequence.prefill(&[random.ids(5, 288)]).unwrap();
            let prompt_plan = if prefill { &pruned } else { &dense };
            let pass = tokens(config, prompt_plan, 0..13)
                + tokens(config, &pruned, 13..23)
                + tokens(config, prompt_plan, 23..28);
            let mut extra = 0;
            if prefill {
                extra += probe(config, &pruned, ProbeSize { samples: 1, tokens: 7 });
                extra += probe(config, &pruned, ProbeSize { samples: 1, tokens: 3 });
            }
            if !all {
                // Two of four, and before the second prompt one of two.
                extra += [14, 16, 18, 20, 22].map(|at| dropped(config, &pruned, at..at + 1)).iter().sum::<usize>();
            } else if every > 0 {
                extra += dropped(config, &pruned, 13..21);
                if !prefill {
                    extra += dropped(config, &pruned, 21..23); // before the second prompt
                }
            }
            let flops = sequence.flops();
            let case = format!("shape {shape}, prefill {prefill}, every {every}, all {all}");
            assert_eq!(flops.pass, 2.0 * pass as f64, "{case}: pass");
            assert_eq!(flops.dense, 2.0 * tokens(config, &dense, 0..28) as f64, "{case}: dense");
            assert_eq!(flops.probe, 2.0 * extra as f64, "{case}: probe");
        }
    }
}

/// What leads a prompt costs what it costs whole, and nothing else.
#[test]
fn operations_of_a_led_prompt() {
    let (engine, _) = tiny(&model(0, 5));
    let config = engine.config();
    let prune = PruneConfig { phases: phases(true, true), lead_tokens: 8, reprobe_every: 0, ..settings(0.4, 1, 8) };
    let options =
        SequenceOptions { samples: 1, context: 200, prune: prune.clone(), known: Knowledge::default(), live: false };
    let mut sequence = Sequences::new(&engine, options).unwrap();
    let mut random = Random(1);
    sequence.prefill(&[random.ids(70, 288)]).unwrap();
    sequence.step(&[1]).unwrap();
    sequence.prefill(&[random.ids(84, 288)]).unwrap();
    let (dense, pruned) = (Plan::dense(config), Plan::new(config, &prune));
    // 6 tokens are beyond a tile, fewer than wished; then 20.
    let pass = tokens(config, &dense, 0..8)
        + tokens(config, &pruned, 8..71)
        + tokens(config, &dense, 71..91)
        + tokens(config, &pruned, 91..155);
    assert_eq!(sequence.flops().pass, 2.0 * pass as f64);
    assert_eq!(sequence.flops().dense, 2.0 * tokens(config, &dense, 0..155) as f64);
    assert_eq!(sequence.flops().probe, 0.0);
}

/// Sequences of different lengths: padding is no cost of the answer, a probe is counted as it runs.
#[test]
fn operations_of_sequences_side_by_side() {
    let (engine, _) = tiny(&model(0, 5));
    let config = engine.config();
    let prune = PruneConfig { phases: phases(true, true), reprobe_every: 0, probe_samples: 0.5, ..settings(0.4, 1, 8) };
    let options =
        SequenceOptions { samples: 3, context: 64, prune: prune.clone(), known: Knowledge::default(), live: false };
    let mut sequences = Sequences::new(&engine, options).unwrap();
    let mut random = Random(1);
    sequences.prefill(&random.batch(&[12, 4, 7], 288)).unwrap();
    sequences.step(&[1, 2, 3]).unwrap();
    let (dense, pruned) = (Plan::dense(config), Plan::new(config, &prune));
    let all = |plan: &Plan| [13, 5, 8].map(|length| tokens(config, plan, 0..length)).iter().sum::<usize>();
    assert_eq!(sequences.flops().pass, 2.0 * all(&pruned) as f64);
    assert_eq!(sequences.flops().dense, 2.0 * all(&dense) as f64);
    assert_eq!(sequences.flops().probe, 2.0 * probe(config, &pruned, ProbeSize { samples: 2, tokens: 6 }) as f64);
}

/// Nothing is read back between the first layer and the logits, whatever chooses the units.
#[test]
fn one_read_back_a_pass() {
    let gpu = open(&GpuOptions::default());
    let engine = load(&gpu, &files(&model(0, 6).gguf()));
    let mut random = Random(2);
    let batch = random.batch(&[30, 12, 40, 25], 288);
    for method in [Method::Pp, Method::FullBatch] {
        let prune = PruneConfig { method, ..settings(0.4, 1, 8) };
        let mut chooser = engine.chooser(&prune, &Knowledge::default(), 40).unwrap();
        let mut scorer = Scorer::new(&engine, 4, 40).unwrap();
        for _ in 0..2 {
            let before = gpu.readbacks();
            scorer.nll(&batch, chooser.prepare(4, 40).unwrap()).unwrap();
            assert_eq!(gpu.readbacks() - before, 1, "likelihoods, {method:?}");
        }
        for phases in [phases(true, true), phases(false, true), phases(true, false)] {
            let prune = PruneConfig { phases, reprobe_every: 3, ..prune.clone() };
            let options = SequenceOptions { samples: 1, context: 100, prune, known: Knowledge::default(), live: false };
            let mut sequence = Sequences::new(&engine, options).unwrap();
            let mut before = gpu.readbacks();
            for call in 0..12 {
                match call % 6 {
                    0 => drop(sequence.prefill(&batch[..1]).unwrap()),
                    _ => drop(sequence.step(&[call]).unwrap()),
                }
                assert_eq!(gpu.readbacks() - before, 1, "call {call}, {method:?}, {phases:?}");
                before = gpu.readbacks();
            }
        }
    }
}
