//! The dense forward pass against a naive CPU model: formats, shapes, rope, batches, sequences, limits of devices.

mod common;

#[path = "forward/converted.rs"]
mod converted;
#[path = "forward/drawing.rs"]
mod drawing;
#[path = "forward/formats.rs"]
mod formats;
#[path = "forward/limits.rs"]
mod limits;
#[path = "forward/random.rs"]
mod random;
#[path = "forward/sequences.rs"]
mod sequences;
#[path = "forward/start.rs"]
mod start;

use common::device::{self, Random, assert_close, difference, files, gpu, load, open, tolerance};
use common::reference::{Masks, Reference};
use common::tiny_model::{TinySpec, write_hf_folder};
use secateur::config::RopeScaling;
use secateur::engine::{Engine, Scorer, SequenceOptions, Sequences};
use secateur::gpu::{GpuOptions, Tier};
use secateur::model::{ModelFiles, TensorType};
use secateur::prune::{Dense, Knowledge};
use std::sync::Arc;

/// LLaMA-3.1's scaling, with a trained context so short that all three of its branches matter.
const LLAMA3: RopeScaling = RopeScaling::Llama3 {
    factor: 8.0,
    low_freq_factor: 1.0,
    high_freq_factor: 4.0,
    original_max_position_embeddings: 64.0,
};

/// Dense sequences with room for `context` tokens each.
fn sequences(engine: &Arc<Engine>, samples: usize, context: usize) -> Sequences {
    Sequences::new(
        engine,
        SequenceOptions { samples, context, prune: Default::default(), known: Knowledge::default(), live: false },
    )
    .unwrap()
}

/// A padded batch through the scorer, a prompt and an answer through sequences: states after the last layer at every
/// token, likelihoods, last logits. Returns the largest relative difference.
fn check(engine: &Arc<Engine>, reference: &Reference, case: &str) -> f64 {
    let config = &reference.config;
    let mut random = Random(7);
    let lengths = [9, 3, 12];
    let batch = random.batch(&lengths, config.vocab_size);
    let run = reference.run_batch(&batch, &mut Masks::new());
    let allowed = tolerance(config, 12);
    let mut worst = 0.0f64;

    let mut scorer = Scorer::new(engine, 3, 12).unwrap();
    let nll = scorer.nll(&batch, &mut Dense).unwrap();
    let residual = scorer.residual(3 * 12).unwrap();
    let logits = scorer.last_logits(&batch, &mut Dense).unwrap();
    for (sample, ids) in batch.iter().enumerate() {
        let case = format!("{case}, sample {sample}");
        let rows = &residual[sample * 12 * config.hidden_size..][..ids.len() * config.hidden_size];
        assert_close(rows, &run.last[sample], allowed, &format!("{case}: residual stream"));
        let exact = reference.last_logits(&run.last[sample]);
        assert_close(&logits[sample], &exact, allowed, &format!("{case}: logits"));
        worst = worst.max(difference(rows, &run.last[sample])).max(difference(&logits[sample], &exact));
        check_nll(reference, (ids, &run.last[sample]), &nll[sample], allowed, &case);
    }

    let (prompt, answer) = batch[2].split_at(7);
    let exact = reference.logits(&run.last[2]);
    let mut sequence = sequences(engine, 1, 16);
    let mut logits = sequence.prefill(&[prompt.to_vec()]).unwrap();
    for (step, exact) in exact[6..].iter().enumerate() {
        assert_close(&logits[0], exact, allowed, &format!("{case}: logits after token {}", 6 + step));
        worst = worst.max(difference(&logits[0], exact));
        match answer.get(step) {
            Some(&id) => logits = sequence.step(&[id]).unwrap(),
            None => break,
        }
    }
    assert_eq!(sequence.lengths(), [12]);
    worst
}

/// A likelihood is a difference of two logits, each off by the tolerance.
#[track_caller]
fn check_nll(reference: &Reference, (ids, last): (&[u32], &[f64]), nll: &[f32], allowed: f64, case: &str) {
    let top = reference.logits(last).concat().into_iter().fold(0.0f64, |most, logit| most.max(logit.abs()));
    let exact = reference.nll(ids, last);
    assert_eq!(nll.len(), exact.len(), "{case}");
    for (t, (found, exact)) in nll.iter().zip(&exact).enumerate() {
        let far = (f64::from(*found) - exact).abs() > 2.0 * allowed * top.max(exact.abs());
        assert!(!far && found.is_finite(), "{case}: likelihood {t} is {found}, should be {exact}");
    }
}

#[test]
fn shapes_of_heads_channels_and_head() {
    let base = TinySpec::default;
    let cases = [
        // Multi-head, grouped, one kv head for all; head sizes 8 to 128; odd channels.
        TinySpec { heads: 4, kv_heads: 4, head_dim: 16, channels: 100, layers: 5, vocab: 301, ..base() },
        TinySpec { heads: 6, kv_heads: 2, head_dim: 32, channels: 172, hidden: 128, tied: false, ..base() },
        TinySpec { heads: 4, kv_heads: 1, head_dim: 64, channels: 97, ..base() },
        TinySpec { heads: 5, kv_heads: 5, head_dim: 64, channels: 98, hidden: 192, kind: TensorType::F16, ..base() },
        TinySpec { heads: 12, kv_heads: 2, head_dim: 8, channels: 101, kind: TensorType::BF16, tied: false, ..base() },
        TinySpec { heads: 8, kv_heads: 1, head_dim: 16, channels: 224, kind: TensorType::Q8_0, tied: false, ..base() },
        TinySpec { heads: 2, kv_heads: 1, head_dim: 64, channels: 32, kind: TensorType::Q4_1, tied: false, ..base() },
        TinySpec { layers: 1, hidden: 256, heads: 2, kv_heads: 2, head_dim: 128, channels: 36, ..base() },
    ];
    for spec in cases {
        let (engine, reference) = device::tiny(&spec);
        check(&engine, &reference, &format!("{spec:?}"));
    }
}

#[test]
fn rope_scaling_of_either_file() {
    let dir = tempfile::tempdir().unwrap();
    for (index, scaling) in [LLAMA3, RopeScaling::Linear { factor: 4.0 }].into_iter().enumerate() {
        let spec =
            TinySpec { rope_scaling: Some(scaling), head_dim: 32, seed: 3 + index as u64, ..TinySpec::default() };
        let folder = dir.path().join(index.to_string());
        write_hf_folder(&folder, &spec);
        let plain = Reference::new(&files(&TinySpec { rope_scaling: None, ..spec.clone() }.gguf()));
        let ids = Random(5).ids(40, spec.vocab);
        for files in [files(&spec.gguf()), ModelFiles::open(&folder).unwrap()] {
            let (engine, reference) = device::pair(&files);
            check(&engine, &reference, &format!("{:?}", files.config.rope_scaling));
            let logits = sequences(&engine, 1, 64).prefill(std::slice::from_ref(&ids)).unwrap();
            let exact = |model: &Reference| {
                model.last_logits(&model.run_batch(std::slice::from_ref(&ids), &mut Masks::new()).last[0])
            };
            assert_close(&logits[0], &exact(&reference), tolerance(&reference.config, 40), "40 tokens");
            assert!(difference(&logits[0], &exact(&plain)) > 1e-2, "scaling must matter");
        }
    }
}

/// The kernel shapes meant for hardware run on any adapter, with or without the checks that a browser adds.
#[test]
fn kernel_shapes_for_hardware_give_the_same() {
    let spec = TinySpec { heads: 6, kv_heads: 2, channels: 100, ..TinySpec::default() };
    let files = files(&spec.gguf());
    for checked_shaders in [false, true] {
        let gpu = open(&GpuOptions { tier: Some(Tier::Gpu), checked_shaders, ..GpuOptions::default() });
        check(&load(&gpu, &files), &Reference::new(&files), &format!("hardware shapes, checked: {checked_shaders}"));
    }
}

#[test]
fn one_read_back_a_pass() {
    let (spec, gpu) = (TinySpec::default(), open(&GpuOptions::default()));
    let engine = load(&gpu, &files(&spec.gguf()));
    let mut random = Random(1);
    let count = |what: &str, run: &mut dyn FnMut()| {
        let before = gpu.readbacks();
        run();
        assert_eq!(gpu.readbacks() - before, 1, "{what}");
    };
    let mut sequence = sequences(&engine, 1, 400);
    let prompt = random.ids(300, spec.vocab);
    count("prefill", &mut || drop(sequence.prefill(std::slice::from_ref(&prompt)).unwrap()));
    count("step", &mut || drop(sequence.step(&[4]).unwrap()));
    let batch = random.batch(&[100, 80, 3], spec.vocab);
    let mut scorer = Scorer::new(&engine, 3, 100).unwrap();
    count("likelihoods", &mut || drop(scorer.nll(&batch, &mut Dense).unwrap()));
    let before = gpu.readbacks();
    scorer.observe(&batch, &mut Dense).unwrap();
    assert_eq!(gpu.readbacks(), before, "observing reads nothing back");
}

/// More logits than the scorer holds at once (16 MiB): the head runs in pieces.
#[test]
fn likelihoods_of_a_batch_whose_logits_come_in_pieces() {
    let spec = TinySpec { vocab: 9000, layers: 1, channels: 32, ..TinySpec::default() };
    let (engine, reference) = device::tiny(&spec);
    let lengths = [230, 200, 100];
    let batch = Random(2).batch(&lengths, spec.vocab);
    assert!(lengths[0] * 3 * spec.vocab * 4 > 16 << 20);
    let nll = Scorer::new(&engine, 3, 230).unwrap().nll(&batch, &mut Dense).unwrap();
    let run = reference.run_batch(&batch, &mut Masks::new());
    for ((ids, nll), last) in batch.iter().zip(&nll).zip(&run.last) {
        check_nll(&reference, (ids, last), nll, tolerance(&reference.config, 230), "pieces");
    }
    assert!(gpu().check().is_ok());
}
