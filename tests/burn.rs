//! A dense LLaMA in burn against the engine and against the naive CPU model. Needs an adapter, and fails without one.
//!
//! burn's kernels round once an operation in f32 like ours, in another order of sums, so each side may lie as far from
//! exact logits as `tolerance` derives, and the two twice as far from each other.
#![cfg(feature = "burn")]

mod common;

use common::device::{self, Random, assert_close, difference, files, gpu, open, tolerance};
use common::reference::Masks;
use common::tiny_model::{POSITIONS, TinySpec, write_hf_folder};
use secateur::Error;
use secateur::config::{RopeLayout, RopeScaling};
use secateur::engine::{SequenceOptions, Sequences};
use secateur::gpu::GpuOptions;
use secateur::model::{ModelFiles, TensorType};
use secateur::peers::BurnLlama;
use secateur::prune::Knowledge;

const SCALING: RopeScaling = RopeScaling::Linear { factor: 4.0 };

/// A prompt, some tokens after it, a second prompt behind them; then all of it again, behind nothing.
fn check(files: &ModelFiles, case: &str) {
    let (engine, reference) = device::pair(files);
    let options = SequenceOptions {
        samples: 1,
        context: 32,
        prune: Default::default(),
        known: Knowledge::default(),
        live: false,
    };
    let mut ours = Sequences::new(&engine, options).expect("room for 32 tokens");
    let mut burn = BurnLlama::load(files, &gpu()).expect("a model that fits the device");
    let ids = Random(11).ids(19, files.config.vocab_size);
    let exact = reference.logits(&reference.run_batch(std::slice::from_ref(&ids), &mut Masks::new()).last[0]);
    let allowed = tolerance(&files.config, ids.len());
    let mut worst = 0.0f64;
    for round in 0..2 {
        let mut compare = |last: usize, found: Vec<f32>, ours: Vec<f32>| {
            let case = format!("{case}, round {round}, after token {last}");
            assert_close(&found, &exact[last], allowed, &case);
            let ours: Vec<f64> = ours.into_iter().map(f64::from).collect();
            assert_close(&found, &ours, 2.0 * allowed, &format!("{case}: to the engine"));
            worst = worst.max(difference(&found, &exact[last]));
        };
        let mut prompt = |range: std::ops::Range<usize>| {
            let ids = &ids[range.clone()];
            compare(range.end - 1, burn.prefill(ids).unwrap(), ours.prefill(&[ids.to_vec()]).unwrap().remove(0));
        };
        prompt(0..7);
        for at in 7..12 {
            prompt(at..at + 1);
        }
        prompt(12..18);
        compare(18, burn.step(ids[18]).unwrap(), ours.step(&[ids[18]]).unwrap().remove(0));
        burn.clear();
        ours.clear().unwrap();
    }
    eprintln!("{case}: largest difference {worst:.1e} of {allowed:.1e}");
}

// Both models have the same widths: burn tunes for every kind of shape, which is most of what these tests take.

/// Own head, grouped queries, pairs of neighbours, scaled frequencies.
#[test]
fn a_quantised_gguf_file() {
    let spec =
        TinySpec { kind: TensorType::Q4_1, tied: false, rope_scaling: Some(SCALING), seed: 41, ..TinySpec::default() };
    let files = files(&spec.gguf());
    assert_eq!(files.config.rope_layout, RopeLayout::Adjacent);
    check(&files, "GGUF");
}

/// The embedding as the head, a kv head for every query head, pairs half a head apart.
#[test]
fn a_folder_of_floats() {
    let dir = tempfile::tempdir().unwrap();
    let spec = TinySpec { kind: TensorType::BF16, kv_heads: 4, seed: 42, ..TinySpec::default() };
    write_hf_folder(dir.path(), &spec);
    let files = ModelFiles::open(dir.path()).unwrap();
    assert_eq!(files.config.rope_layout, RopeLayout::Halves);
    check(&files, "folder");
}

#[test]
fn what_cannot_run_is_refused_with_the_reason() {
    let spec = TinySpec { layers: 1, ..TinySpec::default() };
    let files = files(&spec.gguf());
    let mut burn = BurnLlama::load(&files, &gpu()).unwrap();
    let refused = |result: secateur::Result<Vec<f32>>, part: &str| {
        let error = result.unwrap_err();
        assert!(error.is_user_fault() && error.to_string().contains(part), "{error}");
    };
    refused(burn.prefill(&[]), "no token");
    refused(burn.prefill(&[1, spec.vocab as u32]), "288 is outside");
    refused(burn.prefill(&vec![1; POSITIONS + 1]), "513 tokens");
    assert_eq!(burn.prefill(&[1, 2]).unwrap().len(), spec.vocab, "it still runs after a refusal");
}

/// Its own forward pass is LLaMA's alone.
#[test]
fn relatives_are_refused_by_name() {
    let files = files(&TinySpec::of("qwen2", TinySpec::default()).gguf());
    let error = BurnLlama::load(&files, &gpu()).err().expect("a refusal");
    assert!(matches!(&error, Error::Unsupported { name, .. } if name == "Qwen2"), "{error}");
}

#[test]
fn a_damaged_weight_is_named() {
    let mut file = TinySpec::default().gguf();
    let name = "blk.1.ffn_up.weight";
    file.tensor(name).data[4 * 5..4 * 6].copy_from_slice(&f32::NAN.to_le_bytes());
    let error = BurnLlama::load(&files(&file), &open(&GpuOptions::default())).err().expect("a refusal");
    assert!(matches!(&error, Error::TensorNotFinite { name: found, index: 5, .. } if found == name), "{error}");
}
