//! LoRA adapters: what is read and refused, and what a model is with one.

#[path = "../common/mod.rs"]
mod common;

mod folder;
mod peft;
mod refused;

use common::adapters::{adapter, factors, matrices, shape};
use common::quantise;
use common::tiny_model::{KINDS, TinySpec, write_hf_folder};
use secateur::Error;
use secateur::model::adapter::{Adapter, Factors};
use secateur::model::{LayerTensor, ModelFiles, TensorRole, TensorType};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn open_gguf(spec: &TinySpec) -> ModelFiles {
    ModelFiles::from_gguf_bytes("tiny.gguf", spec.gguf().to_bytes()).unwrap()
}

fn decoded(files: &ModelFiles, role: TensorRole) -> Vec<f32> {
    let view = files.tensor(role).unwrap();
    quantise::decode(view.kind, view.bytes)
}

/// `W + scale * b a` of a file's matrix in 64 bits, in the file's order of rows, with the sum of what is added up by its size.
fn naive(files: &ModelFiles, adapter: &Adapter, (layer, tensor): (usize, LayerTensor)) -> Vec<(f64, f64)> {
    let config = &files.config;
    let [rows, cols] = shape(config, tensor);
    let base = decoded(files, TensorRole::Layer(layer, tensor));
    let turned = files.is_gguf() && ["llama", "smollm3"].contains(&config.architecture.as_str());
    let (d, rank) = (config.head_dim, adapter.rank());
    let Some(Factors { a, b }) = adapter.factors().get(&(layer, tensor)) else {
        return base.iter().map(|&value| (f64::from(value), 0.0)).collect();
    };
    let mut out = Vec::with_capacity(rows * cols);
    for row in 0..rows {
        // GGUF's rows 2i and 2i + 1 of a head of q and k are rows i and i + d / 2.
        let source = match turned && matches!(tensor, LayerTensor::Q | LayerTensor::K) {
            true => row / d * d + row % d / 2 + row % 2 * (d / 2),
            false => row,
        };
        for col in 0..cols {
            let terms = (0..rank).map(|k| f64::from(b[source * rank + k]) * f64::from(a[k * cols + col]));
            let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term: f64| (sum + term, size + term.abs()));
            let scale = adapter.alpha() / rank as f64;
            let base = f64::from(base[row * cols + col]);
            out.push((base + scale * sum, base.abs() + scale * size));
        }
    }
    out
}

/// Half of the distance of neighbours of a type at 1.
fn rounding(kind: TensorType) -> f64 {
    match kind {
        TensorType::F32 => 2f64.powi(-24),
        TensorType::F16 => 2f64.powi(-11),
        TensorType::BF16 => 2f64.powi(-8),
        other => panic!("{other} is no float"),
    }
}

/// What an adapted model holds is what 64 bits say, rounded once; returns the largest change in it.
#[track_caller]
fn check_merged(base: &ModelFiles, adapted: &ModelFiles, adapter: &Adapter, case: &str) -> f64 {
    let mut change = 0.0f64;
    for matrix in matrices(&base.config) {
        let role = TensorRole::Layer(matrix.0, matrix.1);
        let (before, view) = (decoded(base, role), adapted.tensor(role).unwrap());
        let found = quantise::decode(view.kind, view.bytes);
        let exact = naive(base, adapter, matrix);
        assert_eq!(found.len(), exact.len(), "{case}, {matrix:?}");
        for (index, (&found, &(exact, size))) in found.iter().zip(&exact).enumerate() {
            // The sum is of 32 bits, and what is below f16's normal numbers is rounded to a step of 2^-24.
            let allowed = exact.abs() * rounding(view.kind) + size * 4.0 * 2f64.powi(-24) + 2f64.powi(-25);
            let off = (f64::from(found) - exact).abs();
            assert!(off <= allowed, "{case}, {matrix:?}, element {index}: {found} in place of {exact}");
            change = change.max((exact - f64::from(before[index])).abs());
        }
    }
    change
}

/// The type that a matrix has with an adapter.
fn adapted_kind(kind: TensorType) -> TensorType {
    if kind.block_elements() == 1 { kind } else { TensorType::F16 }
}

#[test]
fn every_type_of_file_is_merged_as_64_bits_say() {
    for kind in KINDS {
        let spec = TinySpec { kind, head_dim: 32, ..TinySpec::default() }.filled();
        let (base, config) = (open_gguf(&spec), open_gguf(&spec).config);
        let adapter = adapter(&config);
        let adapted = open_gguf(&spec).adapted(&adapter).unwrap();
        assert!(check_merged(&base, &adapted, &adapter, kind.name()) > 0.1, "{kind}: what changes must show");
        for view in adapted.tensors() {
            let other = base.tensors().find(|other| other.name == view.name).unwrap();
            let merged = view.name.starts_with("blk.") && view.rows > 1;
            assert_eq!(view.kind, if merged { adapted_kind(other.kind) } else { other.kind }, "{}", view.name);
            assert_eq!(view.bytes == other.bytes, !merged, "{}", view.name);
        }
    }
}

#[test]
fn every_family_is_merged_from_its_file() {
    for architecture in ["llama", "qwen2", "qwen3", "smollm3", "phi3", "opt"] {
        let kv_heads = if architecture == "opt" { 4 } else { 2 };
        let base = TinySpec { kind: TensorType::Q8_0, layers: 4, kv_heads, ..TinySpec::default() };
        let spec = TinySpec::of(architecture, base).filled();
        let (base, config) = (open_gguf(&spec), open_gguf(&spec).config);
        let adapter = adapter(&config);
        let adapted = open_gguf(&spec).adapted(&adapter).unwrap();
        assert!(check_merged(&base, &adapted, &adapter, architecture) > 0.1, "{architecture}");
        let dir = tempfile::tempdir().unwrap();
        adapter.save(dir.path(), "tiny", &base.sha256().unwrap()).unwrap();
        assert_eq!(Adapter::open(dir.path(), &base).unwrap(), adapter, "{architecture}");
    }
}

#[test]
fn a_folder_is_merged_in_its_own_type() {
    let dir = tempfile::tempdir().unwrap();
    for kind in [TensorType::F32, TensorType::F16, TensorType::BF16] {
        let (spec, path) = (TinySpec { kind, ..TinySpec::default() }, dir.path().join(kind.name()));
        write_hf_folder(&path, &spec);
        let base = ModelFiles::open(&path).unwrap();
        let adapter = adapter(&base.config);
        let adapted = ModelFiles::open(&path).unwrap().adapted(&adapter).unwrap();
        assert!(check_merged(&base, &adapted, &adapter, kind.name()) > 0.1);
        assert_eq!(adapted.tensor(TensorRole::Layer(1, LayerTensor::K)).unwrap().kind, kind);
    }
}

#[test]
fn hashes_tell_adapter_and_model_apart() {
    let spec = TinySpec::default();
    let (base, config) = (open_gguf(&spec), open_gguf(&spec).config);
    let all = factors(&config, 3, &matrices(&config));
    let one = Adapter::new(&config, 3, 5.0, all.clone()).unwrap();
    let scaled = Adapter::new(&config, 3, 6.0, all.clone()).unwrap();
    let mut less = all.clone();
    less.remove(&(0, LayerTensor::Q));
    let less = Adapter::new(&config, 3, 5.0, less).unwrap();
    let hashes = [&one, &scaled, &less].map(|adapter| open_gguf(&spec).adapted(adapter).unwrap().sha256().unwrap());
    let own = base.sha256().unwrap();
    assert_eq!(base.base_sha256().unwrap(), own);
    assert!(!hashes.contains(&own) && hashes[0] != hashes[1] && hashes[0] != hashes[2] && hashes[1] != hashes[2]);
    let adapted = base.adapted(&one).unwrap();
    assert_eq!(adapted.base_sha256().unwrap(), own);
    assert_eq!(adapted.adapter_sha256(), Some(one.sha256().as_str()));
    let twice = adapted.adapted(&one).unwrap_err();
    assert!(twice.is_user_fault() && twice.to_string().contains("already"), "{twice}");
}

#[test]
fn what_is_saved_is_what_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let files = open_gguf(&TinySpec::default());
    let (config, sha256) = (&files.config, files.sha256().unwrap());
    let folder = dir.path().join("deep/adapter");
    let whole = adapter(config);
    let (q, down) = (LayerTensor::Q, LayerTensor::Down);
    let some = Adapter::new(config, 2, 0.5, factors(config, 2, &[(0, q), (1, q), (1, down)])).unwrap();
    for (adapter, targets) in [
        (&whole, vec!["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]),
        // Not every layer has factors of down: the one that has is named.
        (&some, vec!["model.layers.1.mlp.down_proj", "q_proj"]),
    ] {
        adapter.save(&folder, "a/model", &sha256).unwrap();
        assert_eq!(&Adapter::open(&folder, &files).unwrap(), adapter);
        let settings = fs::read_to_string(folder.join("adapter_config.json")).unwrap();
        let settings: Value = serde_json::from_str(&settings).unwrap();
        assert_eq!(settings["target_modules"], serde_json::json!(targets));
        assert_eq!((&settings["r"], &settings["base_model_name_or_path"]), (&adapter.rank().into(), &"a/model".into()));
        let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["adapter_config.json", "adapter_model.safetensors"], "nothing is left beside");
    }
    assert_eq!((some.parameters(), some.scale()), (2 * 2 * (64 + 64) + 2 * (64 + 96), 0.25));
}

#[test]
fn an_adapter_that_cannot_be_written_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let files = open_gguf(&TinySpec::default());
    let adapter = adapter(&files.config);
    // A folder where a file belongs.
    let folder = dir.path().join("adapter");
    fs::create_dir_all(folder.join("adapter_config.json.part")).unwrap();
    assert!(matches!(adapter.save(&folder, "tiny", "x"), Err(Error::Io { .. })));
    let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["adapter_config.json.part"]);
    fs::write(dir.path().join("file"), "x").unwrap();
    assert!(matches!(adapter.save(&dir.path().join("file/adapter"), "tiny", "x"), Err(Error::Io { .. })));
    // A disk that is full from the first byte on.
    if Path::new("/dev/full").exists() {
        let full = dir.path().join("full");
        fs::create_dir(&full).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("/dev/full", full.join("adapter_model.safetensors.part")).unwrap();
        assert!(adapter.save(&full, "tiny", "x").is_err());
        assert_eq!(fs::read_dir(&full).unwrap().count(), 0);
    }
}
