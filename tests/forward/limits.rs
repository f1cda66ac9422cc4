//! What a device allows, and what a file may not hold.

use super::{files, load, open, sequences};
use crate::common::device::{Random, gpu};
use crate::common::gguf_writer::GgufWriter;
use crate::common::tiny_model::{TinySpec, type_id};
use secateur::Error;
use secateur::config::{Method, PruneConfig};
use secateur::engine::needs::{self, Needs, Purpose};
use secateur::engine::{Engine, Scorer, SequenceOptions, Sequences};
use secateur::format::{Layout, WeightFormat, rows_per_shard};
use secateur::gpu::{Gpu, GpuOptions};
use secateur::model::TensorType;
use secateur::model::convert::Recipe;
use secateur::prune::{Dense, Knowledge};
use std::sync::Arc;

fn spec(kind: TensorType) -> TinySpec {
    TinySpec {
        kind,
        hidden: 128,
        heads: 8,
        kv_heads: 2,
        head_dim: 16,
        channels: 160,
        tied: false,
        ..TinySpec::default()
    }
}

/// Everything that an engine says about some tokens.
fn results(engine: &Arc<Engine>) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let mut random = Random(4);
    let prompt = random.ids(8, 288);
    let mut sequence = sequences(engine, 1, 40);
    let mut logits = sequence.prefill(&[prompt]).unwrap();
    for id in random.ids(3, 288) {
        logits.extend(sequence.step(&[id]).unwrap());
    }
    let batch = random.batch(&[4, 3], 288);
    (logits, Scorer::new(engine, 2, 4).unwrap().nll(&batch, &mut Dense).unwrap())
}

/// The same kernels over the same numbers: the results are the same to the bit.
#[test]
fn default_limits_change_nothing() {
    let files = files(&spec(TensorType::Q4_1).gguf());
    let narrow = open(&GpuOptions { default_limits: true, ..GpuOptions::default() });
    assert_eq!(narrow.max_binding(), 128 << 20, "WebGPU's default");
    assert_eq!(results(&load(&narrow, &files)), results(&load(&gpu(), &files)));
}

/// A cap under which the embedding, the head, q, gate, up, o and down are all cut. Cutting is by outputs, so no sum changes.
#[test]
fn weights_in_shards_change_nothing() {
    // Small enough to cut the smallest of them, large enough for the activations and for 32 outputs of down, which stay
    // together.
    let wide = TinySpec { hidden: 256, heads: 16, channels: 320, ..spec(TensorType::Q4_1) };
    let cases = [
        (spec(TensorType::F32), 24 << 10),
        (spec(TensorType::F16), 13_000),
        (spec(TensorType::Q8_0), 13_000),
        (wide.clone(), 20_000),
        (TinySpec { kind: TensorType::Q4_0, tied: true, ..wide }, 20_000),
    ];
    for (spec, cap) in cases {
        let files = files(&spec.gguf());
        let capped = open(&GpuOptions { max_binding: Some(cap), ..GpuOptions::default() });
        assert_eq!(capped.max_binding(), cap);
        let format = WeightFormat::by_name(spec.kind.name()).unwrap();
        let width = spec.heads * spec.head_dim;
        let shapes = [
            ("embedding and head", Layout::Rows, spec.vocab, spec.hidden),
            ("q", Layout::Rows, width, spec.hidden),
            ("gate and up", Layout::Rows, spec.channels, spec.hidden),
            ("o", Layout::Columns, spec.hidden, width),
            ("down", Layout::Columns, spec.hidden, spec.channels),
        ];
        for (name, layout, rows, cols) in shapes {
            let at_once = rows_per_shard(&capped, format, layout, cols);
            assert!((1..rows).contains(&at_once), "{}: {name} has {rows} rows, {at_once} a shard", spec.kind);
        }
        assert_eq!(results(&load(&capped, &files)), results(&load(&gpu(), &files)), "{}", spec.kind);
    }
}

fn refused(gpu: &Arc<Gpu>, file: &GgufWriter) -> Error {
    Engine::load(gpu.clone(), &files(file), &mut |_| Ok(())).err().expect("a model that cannot run")
}

#[test]
fn a_row_that_no_binding_holds_is_refused_with_its_numbers() {
    let file = spec(TensorType::F32).gguf();
    for (cap, tensor, needed) in [(496, "token_embd.weight", 512), (16 << 10, "blk.0.ffn_down.weight", 640)] {
        let capped = open(&GpuOptions { max_binding: Some(cap), ..GpuOptions::default() });
        let error = refused(&capped, &file);
        let text = error.to_string();
        let Error::DeviceLimit { what, needed: found, available, limit, .. } = error else { panic!("{error:?}") };
        assert!(what.contains(tensor), "{what}");
        assert_eq!((found, available, limit), (needed, cap, "max_storage_buffer_binding_size"), "{text}");
    }
    // Weights that fit, but a cache that does not.
    let capped = open(&GpuOptions { max_binding: Some(24 << 10), ..GpuOptions::default() });
    let engine = load(&capped, &files(&file));
    let error = secateur::engine::Sequences::new(
        &engine,
        secateur::engine::SequenceOptions {
            samples: 1,
            context: 500,
            prune: Default::default(),
            known: Knowledge::default(),
            live: false,
        },
    );
    let Some(Error::DeviceLimit { what, needed: 128_000, available: 24_576, .. }) = error.err() else {
        panic!("a cache of 500 x 2 x 2 x 16 numbers does not fit")
    };
    assert!(what.contains("cache"), "{what}");
}

#[test]
fn values_that_are_not_finite_are_found_before_they_run() {
    // A whole number of rows into a tensor that is cut into shards, the index counts from its start.
    let capped = open(&GpuOptions { max_binding: Some(24 << 10), ..GpuOptions::default() });
    let cases = [
        ("token_embd.weight", 200 * 128 + 3, f32::NAN),
        ("output.weight", 0, f32::INFINITY),
        ("blk.0.attn_norm.weight", 5, f32::NAN),
        ("blk.1.ffn_norm.weight", 127, f32::NEG_INFINITY),
        ("output_norm.weight", 1, f32::NAN),
        ("blk.0.attn_q.weight", 100 * 128, f32::NAN),
        ("blk.1.attn_v.weight", 31 * 128 + 127, f32::INFINITY),
        ("blk.1.attn_output.weight", 127 * 128 + 127, f32::NAN),
        ("blk.0.ffn_gate.weight", 64, f32::NAN),
        ("blk.1.ffn_up.weight", 159 * 128, f32::NAN),
        ("blk.1.ffn_down.weight", 64 * 160 + 159, f32::NAN),
    ];
    for (tensor, at, bad) in cases {
        let mut file = spec(TensorType::F32).gguf();
        file.tensor(tensor).data[at * 4..at * 4 + 4].copy_from_slice(&bad.to_le_bytes());
        for gpu in [&gpu(), &capped] {
            let error = refused(gpu, &file);
            let Error::TensorNotFinite { name, index, value } = &error else { panic!("{tensor}: {error:?}") };
            assert_eq!((name.as_str(), *index), (tensor, at), "{error}");
            assert_eq!(value.to_bits(), bad.to_bits());
        }
    }
    // A block whose scale is infinite: its first element is named.
    let mut file = spec(TensorType::Q8_0).gguf();
    let infinite = half::f16::INFINITY.to_le_bytes();
    file.tensor("blk.1.ffn_down.weight").data[34 * 7..34 * 7 + 2].copy_from_slice(&infinite);
    let error = refused(&gpu(), &file);
    let Error::TensorNotFinite { index: 224, value: f32::INFINITY, .. } = error else { panic!("{error:?}") };
}

#[test]
fn a_tensor_type_without_kernels_is_named() {
    for tensor in ["token_embd.weight", "blk.1.attn_k.weight", "blk.0.ffn_up.weight", "blk.1.attn_output.weight"] {
        let mut file = spec(TensorType::Q8_0).gguf();
        let entry = file.tensor(tensor);
        entry.type_id = type_id(TensorType::Q8_1);
        entry.data = vec![0; entry.data.len() / 34 * 36];
        let error = refused(&gpu(), &file);
        let text = error.to_string();
        assert!(matches!(error, Error::Unsupported { what: "tensor type", .. }), "{text}");
        assert!(text.contains("Q8_1") && text.contains(tensor) && text.contains("Q4_1"), "{text}");
    }
}

/// What is said before anything is made is what the device then holds, but for buffers of a few bytes.
#[test]
fn needs_are_what_a_model_at_work_holds() {
    let prune = PruneConfig { method: Method::Pp, ratio: 0.5, dense_layers: 0, tile: 16, ..PruneConfig::default() };
    for (kind, live) in [(TensorType::F16, false), (TensorType::Q4_1, true), (TensorType::Q6K, false)] {
        let files = files(&spec(kind).filled().gguf());
        for prune in [&PruneConfig::default(), &prune] {
            let gpu = open(&GpuOptions::default());
            let before = gpu.allocated();
            let engine = load(&gpu, &files);
            let weights = gpu.allocated() - before;
            let needs = |tokens: usize| {
                let weights = files.sizes(None).unwrap().device;
                Needs::new(&files.config, weights, tokens, (prune, live), gpu.tier())
            };
            let close = |found: u64, said: u64, what: &str| {
                let off = found.abs_diff(said) as f64 / found as f64;
                assert!(off < 0.01, "{kind}, {}, {what}: {found} held, {said} said", prune.method.name());
            };
            close(weights, needs(400).weights, "weights");
            let known = Knowledge::default();
            let options = SequenceOptions { samples: 1, context: 400, prune: prune.clone(), known, live };
            let mut sequences = Sequences::new(&engine, options).unwrap();
            let held = gpu.allocated() - before;
            // The activations of a prompt are there while it runs.
            let Needs { weights, cache, pruning, .. } = needs(400);
            close(held, weights + cache + pruning, "an empty sequence");
            sequences.prefill(&[Random(1).ids(300, 288)]).unwrap();
        }
    }
}

/// Refused before a byte is uploaded, with what would fit.
#[test]
fn a_model_larger_than_the_memory_is_refused_before_it_is_uploaded() {
    let spec = TinySpec { hidden: 512, heads: 8, kv_heads: 8, head_dim: 64, channels: 512, ..spec(TensorType::F32) };
    let files = files(&spec.gguf());
    let prune = PruneConfig::default();
    let tier = gpu().tier();
    let weights = files.sizes(None).unwrap().device;
    let total = |context: usize| Needs::new(&files.config, weights, context, (&prune, false), tier).total();
    let refused = |memory: u64, context: usize| {
        let gpu = open(&GpuOptions { memory: Some(memory), ..GpuOptions::default() });
        let before = gpu.allocated();
        let error = needs::check(&gpu, &files, Some(Purpose { context, prune: &prune, live: false })).err();
        assert_eq!(gpu.allocated(), before);
        error.map(|error| {
            assert!(error.is_user_fault());
            error.to_string()
        })
    };
    assert_eq!(refused(total(512) + 4096, 512), None);
    let said = refused(total(256) + 4096, 512).expect("a context that is too large");
    assert!(said.contains("a context of 256 tokens fits (--context 256)"), "{said}");
    assert!(said.contains("secateur convert tiny.gguf --format Q8_0 --out"), "{said}");
    // Where no context helps, a smaller format does; where none does either, that is said.
    let q4 = files.sizes(Some(Recipe::by_name("Q4_K_M").unwrap())).unwrap().device;
    let said = refused(total(512) - weights + q4 + 4096, 512).expect("weights that are too large");
    assert!(!said.contains("--context") && said.contains("--format Q4_K_M"), "{said}");
    let said = refused(1 << 20, 512).expect("a model that is too large");
    assert!(said.contains("no format of it fits"), "{said}");
    let small = open(&GpuOptions { memory: Some(weights / 2), ..GpuOptions::default() });
    let error = Engine::load(small.clone(), &files, &mut |_| panic!("nothing is uploaded")).err();
    assert!(matches!(error, Some(Error::ModelTooLarge { .. })), "{error:?}");
}
