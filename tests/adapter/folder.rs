//! Models that were merged with their adapters into Hugging Face folders.

use super::peft::logits;
use super::{decoded, open_gguf};
use crate::common::adapters::{adapter, factors, matrices};
use crate::common::device::{Random, assert_close, gpu, load, tolerance};
use crate::common::gguf_writer::Meta;
use crate::common::tiny_model::{TinySpec, write_gguf, write_hf_folder};
use secateur::config::{RopeLayout, RopeScaling};
use secateur::model::adapter::Adapter;
use secateur::model::convert::FolderExport;
use secateur::model::{LayerTensor, ModelFiles, TensorRole, TensorType};
use secateur::text::{Special, Tokenizer, hub_files};
use secateur::{Error, Result};
use std::fs;
use std::path::Path;

/// Merges, as the program does.
fn merge(files: &ModelFiles, target: &Path) -> Result<ModelFiles> {
    let text = if files.is_gguf() { hub_files(&files.text)? } else { Vec::new() };
    let export = FolderExport::new(files, text)?;
    export.write(target, &mut |_, _| Ok(()))?;
    let size = |entry: fs::DirEntry| entry.metadata().unwrap().len();
    let sizes = fs::read_dir(target).unwrap().map(|entry| size(entry.unwrap()));
    assert_eq!(sizes.sum::<u64>(), export.bytes());
    ModelFiles::open(target)
}

#[test]
fn a_folder_keeps_what_no_adapter_changes() {
    let dir = tempfile::tempdir().unwrap();
    for (kind, sharded) in [(TensorType::F16, true), (TensorType::BF16, false), (TensorType::F32, true)] {
        let (from, to) = (dir.path().join(kind.name()), dir.path().join(format!("{kind} merged")));
        write_hf_folder(&from, &TinySpec { kind, sharded, tied: false, ..TinySpec::default() });
        let base = ModelFiles::open(&from).unwrap();
        let some = [(0, LayerTensor::Q), (1, LayerTensor::Down)];
        let adapter = Adapter::new(&base.config, 3, 5.0, factors(&base.config, 3, &some)).unwrap();
        let adapted = ModelFiles::open(&from).unwrap().adapted(&adapter).unwrap();
        let merged = merge(&adapted, &to).unwrap();
        assert_eq!(merged.config, base.config);
        for view in merged.tensors() {
            let of = |files: &ModelFiles| {
                let view = files.tensors().find(|other| other.name == view.name).unwrap();
                (view.kind, view.bytes.to_vec())
            };
            let changed = ["model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.down_proj.weight"];
            let own = (view.kind, view.bytes.to_vec());
            assert_eq!(own, of(&adapted), "{}", view.name);
            assert_eq!(own != of(&base), changed.contains(&view.name), "{}", view.name);
        }
        for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
            assert_eq!(fs::read(from.join(name)).unwrap(), fs::read(to.join(name)).unwrap(), "{name}");
        }
    }
}

/// A GGUF file's rows of q and k come back into a folder's order, its tokenizer and its settings into a folder's files.
#[test]
fn a_file_becomes_the_folder_of_its_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let llama3 = RopeScaling::Llama3 {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192.0,
    };
    let tiny = TinySpec { layers: 4, ..TinySpec::default() };
    let mut windowed = tiny.clone();
    windowed.blocks.sliding_window = Some(7);
    for (name, spec) in [
        ("llama", TinySpec { kind: TensorType::Q4_1, ..tiny.clone() }.filled()),
        ("llama-3", TinySpec { rope_scaling: Some(llama3), tied: false, ..tiny.clone() }),
        ("linear", TinySpec { rope_scaling: Some(RopeScaling::Linear { factor: 2.0 }), ..tiny.clone() }),
        ("mistral", windowed),
        ("qwen2", TinySpec::of("qwen2", TinySpec { kind: TensorType::F16, ..tiny.clone() })),
        ("qwen3", TinySpec::of("qwen3", TinySpec { kind: TensorType::BF16, ..tiny.clone() })),
        ("smollm3", TinySpec::of("smollm3", tiny.clone())),
        ("phi3", TinySpec::of("phi3", TinySpec { kind: TensorType::Q8_0, ..tiny.clone() }.filled())),
    ] {
        let path = dir.path().join(format!("{name}.gguf"));
        write_gguf(&path, &spec);
        let (base, adapter) = (open_gguf(&spec), adapter(&open_gguf(&spec).config));
        let adapted = open_gguf(&spec).adapted(&adapter).unwrap();
        let merged = merge(&adapted, &dir.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((merged.config.rope_layout, merged.is_gguf()), (RopeLayout::Halves, false));
        let turned = base.config.rope_layout == RopeLayout::Adjacent;
        let d = spec.head_dim;
        for view in adapted.tensors() {
            let role = matrices(&base.config).into_iter().map(|(layer, tensor)| TensorRole::Layer(layer, tensor));
            let Some(role) =
                role.into_iter().find(|&role| adapted.tensor(role).unwrap().bytes.as_ptr() == view.bytes.as_ptr())
            else {
                continue;
            };
            let (own, found) = (decoded(&adapted, role), decoded(&merged, role));
            let cols = view.cols;
            for row in 0..view.rows {
                let moved = turned && matches!(role, TensorRole::Layer(_, LayerTensor::Q | LayerTensor::K));
                let to = if moved { row / d * d + row % d / 2 + row % 2 * (d / 2) } else { row };
                assert_eq!(own[row * cols..][..cols], found[to * cols..][..cols], "{name}, {role:?}, row {row}");
            }
        }
        assert_eq!(
            decoded(&merged, TensorRole::TokenEmbedding).len(),
            decoded(&base, TensorRole::TokenEmbedding).len()
        );
        let text = "the rain and <|im_start|>  it's\n12345 Ünï 你好";
        for special in [Special::Parse, Special::Text] {
            let ids = |files: &ModelFiles| Tokenizer::new(&files.text).unwrap().encode(text, special).unwrap();
            assert_eq!(ids(&merged), ids(&base), "{name}");
        }
        assert_eq!(merged.text.chat_template, base.text.chat_template);
        assert_eq!(merged.text.eos_token_ids, base.text.eos_token_ids);
        assert_eq!(merged.text.bos_token_id, base.text.bos_token_id);
        let ids = Random(5).ids(9, spec.vocab);
        let expected: Vec<f64> = logits(&load(&gpu(), &adapted), &ids).into_iter().map(f64::from).collect();
        // What was a block is F16 in the folder, but for the embedding, which is rounded once more.
        let rounded = if spec.kind.block_elements() > 1 { 2f64.powi(-11) * 2f64.powi(24) } else { 0.0 };
        let allowed = 2.0 * tolerance(&base.config, 9) * (1.0 + rounded);
        assert_close(&logits(&load(&gpu(), &merged), &ids), &expected, allowed, name);
    }
}

fn left(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn an_end_before_its_time_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let files = open_gguf(&TinySpec::default());
    let files = open_gguf(&TinySpec::default()).adapted(&adapter(&files.config)).unwrap();
    let export = FolderExport::new(&files, hub_files(&files.text).unwrap()).unwrap();
    let target = dir.path().join("out");
    for steps in [0, 1, 5, 15] {
        let mut done = 0;
        let stopped = export.write(&target, &mut |_, _| {
            done += 1;
            if done > steps { Err(Error::Cancelled) } else { Ok(()) }
        });
        assert!(matches!(stopped, Err(Error::Cancelled)));
        assert!(left(dir.path()).is_empty(), "after {steps} steps: {:?}", left(dir.path()));
    }
    // What a kill left is written over; what is somebody's stays.
    let part = dir.path().join("out.part");
    fs::create_dir(&part).unwrap();
    fs::write(part.join("model.safetensors.part"), "half").unwrap();
    fs::write(part.join("tokenizer.json"), "{").unwrap();
    export.write(&target, &mut |_, _| Ok(())).unwrap();
    assert_eq!(left(dir.path()), ["out"]);
    let names =
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    assert_eq!(left(&target), names);
    let there = export.write(&target, &mut |_, _| Ok(())).unwrap_err().to_string();
    assert!(there.contains("out is there already"), "{there}");
    fs::create_dir(dir.path().join("other.part")).unwrap();
    fs::write(dir.path().join("other.part/notes.txt"), "mine").unwrap();
    let mine = export.write(&dir.path().join("other"), &mut |_, _| Ok(())).unwrap_err().to_string();
    assert!(mine.contains("notes.txt"), "{mine}");
    assert_eq!(left(&dir.path().join("other.part")), ["notes.txt"]);
    export.write(&dir.path().join("new/out"), &mut |_, _| Ok(())).unwrap();
    assert_eq!(left(&dir.path().join("new/out")), names);
}

#[test]
fn what_a_folder_cannot_say_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |files: &ModelFiles, word: &str| {
        let error = merge(files, &dir.path().join("out")).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
        assert!(error.to_string().contains(word) && error.to_string().contains("convert --lora"), "{error}");
        assert!(left(dir.path()).is_empty());
    };
    let opt = TinySpec::of("opt", TinySpec { kv_heads: 4, ..TinySpec::default() });
    refused(&open_gguf(&opt), "OPT");
    let odd = RopeScaling::Llama3 {
        factor: 5.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 64.0,
    };
    refused(&open_gguf(&TinySpec { rope_scaling: Some(odd), ..TinySpec::default() }), "rope_freqs.weight");
    let mut pieces = TinySpec::default().gguf();
    pieces.set("tokenizer.ggml.model", Meta::Text("llama".into()));
    pieces.set("tokenizer.ggml.scores", Meta::F32s(vec![0.0; TinySpec::default().vocab]));
    let pieces = ModelFiles::from_gguf_bytes("pieces.gguf", pieces.to_bytes()).unwrap();
    refused(&pieces, "`llama`");
}
