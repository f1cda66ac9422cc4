//! Adapters with one thing wrong each.

use super::open_gguf;
use crate::common::adapters::{adapter, factors, matrices};
use crate::common::tiny_model::TinySpec;
use safetensors::tensor::{Dtype, TensorView};
use secateur::Error;
use secateur::model::adapter::Adapter;
use secateur::model::{LayerTensor, ModelFiles, TensorType};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

const Q: &str = "base_model.model.model.layers.0.self_attn.q_proj";

/// A tensor: its type, shape and bytes.
type Raw = (Dtype, Vec<usize>, Vec<u8>);

/// A sound adapter of the tiny model, taken apart.
struct Parts {
    settings: Value,
    tensors: BTreeMap<String, Raw>,
    metadata: HashMap<String, String>,
}

impl Parts {
    fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("adapter_config.json"), self.settings.to_string()).unwrap();
        let views = self
            .tensors
            .iter()
            .map(|(name, (kind, shape, bytes))| (name.clone(), TensorView::new(*kind, shape.clone(), bytes).unwrap()));
        let bytes = safetensors::serialize(views, Some(self.metadata.clone())).unwrap();
        fs::write(folder.join("adapter_model.safetensors"), bytes).unwrap();
    }
}

fn sound(files: &ModelFiles) -> Parts {
    let dir = tempfile::tempdir().unwrap();
    adapter(&files.config).save(dir.path(), "tiny", &files.sha256().unwrap()).unwrap();
    let bytes = fs::read(dir.path().join("adapter_model.safetensors")).unwrap();
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors = read.tensors().into_iter();
    let tensors = tensors.map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec())));
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let settings = fs::read(dir.path().join("adapter_config.json")).unwrap();
    Parts {
        settings: serde_json::from_slice(&settings).unwrap(),
        tensors: tensors.collect(),
        metadata: metadata.metadata().clone().unwrap(),
    }
}

/// What opening a bent adapter says.
#[track_caller]
fn refused(spec: &TinySpec, bend: impl FnOnce(&mut Parts), words: &[&str]) -> Error {
    let files = open_gguf(spec);
    let mut parts = sound(&files);
    let dir = tempfile::tempdir().unwrap();
    parts.write(dir.path());
    assert!(Adapter::open(dir.path(), &files).is_ok());
    bend(&mut parts);
    parts.write(dir.path());
    let error = Adapter::open(dir.path(), &files).expect_err("a broken adapter opened");
    assert!(error.is_user_fault());
    for word in words {
        assert!(error.to_string().contains(word), "`{error}` lacks `{word}`");
    }
    error
}

#[test]
fn settings() {
    let spec = TinySpec::default();
    for (name, value) in [
        ("peft_type", json!("LOHA")),
        ("peft_type", Value::Null),
        ("task_type", json!("SEQ_CLS")),
        ("bias", json!("all")),
        ("use_dora", json!(true)),
        ("modules_to_save", json!(["lm_head"])),
        ("fan_in_fan_out", json!(true)),
        ("rank_pattern", json!({"q_proj": 4})),
        ("alpha_pattern", json!({"q_proj": 4})),
        ("lora_bias", json!(true)),
        ("layer_replication", json!([[0, 1]])),
        ("trainable_token_indices", json!([3])),
        ("target_parameters", json!(["mlp.experts"])),
        ("init_lora_weights", json!("pissa_niter_4")),
    ] {
        let error = refused(&spec, |parts| parts.settings[name] = value.clone(), &[name]);
        assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
    }
    for (name, value) in [("r", json!(0)), ("r", json!("x")), ("lora_alpha", Value::Null), ("r", json!(-1))] {
        let error = refused(&spec, |parts| parts.settings[name] = value.clone(), &["adapter_config.json"]);
        assert!(matches!(error, Error::BadFile { .. }), "{error:?}");
    }
}

/// What PEFT writes beside, and what it may leave out.
#[test]
fn settings_that_change_nothing_are_taken() {
    let files = open_gguf(&TinySpec::default());
    let (dir, mut parts) = (tempfile::tempdir().unwrap(), sound(&files));
    for (name, value) in
        [("auto_mapping", Value::Null), ("eva_config", json!({"rho": 2})), ("lora_dropout", json!(0.1))]
    {
        parts.settings[name] = value;
    }
    for name in ["modules_to_save", "rank_pattern", "alpha_pattern", "use_dora", "use_rslora", "bias", "task_type"] {
        parts.settings.as_object_mut().unwrap().remove(name);
    }
    parts.settings["init_lora_weights"] = json!("gaussian");
    parts.metadata.clear();
    parts.write(dir.path());
    assert_eq!(Adapter::open(dir.path(), &files).unwrap(), adapter(&files.config));
    parts.settings["use_rslora"] = json!(true);
    parts.write(dir.path());
    assert_eq!(Adapter::open(dir.path(), &files).unwrap().scale(), (5.0 / 3f64.sqrt()) as f32);
}

#[test]
fn halves_are_read_and_kept_as_f32() {
    let files = open_gguf(&TinySpec::default());
    let whole = adapter(&files.config);
    for kind in [TensorType::F16, TensorType::BF16] {
        let (dir, mut parts) = (tempfile::tempdir().unwrap(), sound(&files));
        for (dtype, _, bytes) in parts.tensors.values_mut() {
            let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
            *bytes = crate::quantise::encode(kind, &values);
            *dtype = if kind == TensorType::F16 { Dtype::F16 } else { Dtype::BF16 };
        }
        parts.write(dir.path());
        let opened = Adapter::open(dir.path(), &files).unwrap();
        for (matrix, factors) in whole.factors() {
            let rounded = |values: &[f32]| crate::quantise::decode(kind, &crate::quantise::encode(kind, values));
            let found = &opened.factors()[matrix];
            assert_eq!((&found.a, &found.b), (&rounded(&factors.a), &rounded(&factors.b)), "{kind}, {matrix:?}");
        }
    }
}

#[test]
fn tensors() {
    let spec = TinySpec::default();
    let (a, b) = (format!("{Q}.lora_A.weight"), format!("{Q}.lora_B.weight"));
    for (half, other) in [(&a, &b), (&b, &a)] {
        let error = refused(&spec, |parts| drop(parts.tensors.remove(half)), &[half]);
        assert!(matches!(error, Error::TensorMissing { .. }), "{error:?}");
        let moved = format!("{Q}.lora_E.weight");
        let bend = |parts: &mut Parts| {
            let tensor = parts.tensors.remove(other).unwrap();
            parts.tensors.insert(moved.clone(), tensor);
        };
        assert!(matches!(refused(&spec, bend, &[]), Error::BadFile { .. } | Error::TensorMissing { .. }));
    }
    for name in [
        "base_model.model.lm_head.lora_A.weight",
        "base_model.model.model.embed_tokens.lora_embedding_A",
        "base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector.weight",
    ] {
        let bend = |parts: &mut Parts| {
            let tensor = parts.tensors[&a].clone();
            parts.tensors.insert(name.into(), tensor);
        };
        refused(&spec, bend, &[name, "2 layers of this LLaMA", "lora_A.weight"]);
    }
    refused(&spec, |parts| parts.tensors.clear(), &["no factors"]);
    let not_finite = |parts: &mut Parts| {
        parts.tensors.get_mut(&b).unwrap().2[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
    };
    assert!(matches!(refused(&spec, not_finite, &[&b, "element 2"]), Error::TensorNotFinite { index: 2, .. }));
    let integers = |parts: &mut Parts| parts.tensors.get_mut(&a).unwrap().0 = Dtype::I32;
    assert!(matches!(refused(&spec, integers, &[&a, "I32"]), Error::Unsupported { .. }));
}

#[test]
fn another_model() {
    let spec = TinySpec::default();
    let wrong_rank = |parts: &mut Parts| parts.settings["r"] = json!(4);
    let error = refused(&spec, wrong_rank, &["lora_A", "[3, ", "[4, "]);
    assert!(matches!(error, Error::TensorShape { .. }), "{error:?}");
    let record = |parts: &mut Parts| {
        parts.metadata.insert("secateur".into(), r#"{"model_sha256":"0123"}"#.into());
    };
    refused(&spec, record, &["another model", "0123"]);
    let damaged = |parts: &mut Parts| drop(parts.metadata.insert("secateur".into(), "{".into()));
    refused(&spec, damaged, &["secateur"]);
    // Without a record, shapes tell.
    let (dir, mut parts) = (tempfile::tempdir().unwrap(), sound(&open_gguf(&spec)));
    parts.metadata.clear();
    parts.write(dir.path());
    let other = open_gguf(&TinySpec { channels: 128, ..TinySpec::default() });
    let error = Adapter::open(dir.path(), &other).unwrap_err();
    assert!(matches!(&error, Error::TensorShape { name, .. } if name.contains("mlp.")), "{error}");
    let of_two = adapter(&open_gguf(&spec).config);
    assert!(matches!(other.adapted(&of_two), Err(Error::TensorShape { .. })));
    let shallow = open_gguf(&TinySpec { layers: 1, ..TinySpec::default() });
    assert!(shallow.adapted(&of_two).unwrap_err().to_string().contains("layer 1"));
}

#[test]
fn folders() {
    let (dir, files) = (tempfile::tempdir().unwrap(), open_gguf(&TinySpec::default()));
    let error = |path: &Path| Adapter::open(path, &files).unwrap_err().to_string();
    assert!(matches!(Adapter::open(&dir.path().join("none"), &files), Err(Error::Io { .. })));
    assert!(error(dir.path()).contains("no adapter_config.json"));
    fs::write(dir.path().join("file.gguf"), "x").unwrap();
    assert!(error(&dir.path().join("file.gguf")).contains("not a folder"));
    fs::write(dir.path().join("adapter_config.json"), "{").unwrap();
    assert!(error(dir.path()).contains("malformed"));
    let parts = sound(&files);
    parts.write(dir.path());
    let weights = dir.path().join("adapter_model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    for cut in [1, 7, 40, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&weights, &bytes[..cut]).unwrap();
        assert!(matches!(Adapter::open(dir.path(), &files), Err(Error::BadFile { .. })), "{cut} bytes");
    }
    fs::remove_file(&weights).unwrap();
    assert!(error(dir.path()).contains("adapter_model.bin"));
}

#[test]
fn factors_that_do_not_fit() {
    let config = open_gguf(&TinySpec::default()).config;
    let all = factors(&config, 3, &matrices(&config));
    let says = |made: Result<Adapter, Error>, word: &str| {
        let error = made.unwrap_err();
        assert!(error.is_user_fault() && error.to_string().contains(word), "{error}");
    };
    says(Adapter::new(&config, 0, 1.0, all.clone()), "rank 0");
    says(Adapter::new(&config, 3, f64::NAN, all.clone()), "NaN");
    says(Adapter::new(&config, 3, 1.0, Default::default()), "without factors");
    says(Adapter::new(&config, 4, 1.0, all.clone()), "[4, ");
    let mut beyond = all.clone();
    let one = beyond.remove(&(0, LayerTensor::Q)).unwrap();
    beyond.insert((2, LayerTensor::Q), one.clone());
    says(Adapter::new(&config, 3, 1.0, beyond), "layer 2");
    let mut norm = all.clone();
    norm.insert((0, LayerTensor::MlpNorm), one);
    says(Adapter::new(&config, 3, 1.0, norm), "MlpNorm");
    let mut bad = all;
    bad.get_mut(&(1, LayerTensor::Up)).unwrap().b[5] = f32::INFINITY;
    says(Adapter::new(&config, 3, 1.0, bad), "element 5");
}

#[test]
fn what_a_type_cannot_hold() {
    let spec = TinySpec { kind: TensorType::Q8_0, ..TinySpec::default() }.filled();
    let config = open_gguf(&spec).config;
    let huge = Adapter::new(&config, 3, 1e7, factors(&config, 3, &[(1, LayerTensor::V)])).unwrap();
    let error = open_gguf(&spec).adapted(&huge).unwrap_err();
    assert!(error.is_user_fault());
    for word in ["blk.1.attn_v.weight", "F16", "BF16 or F32"] {
        assert!(error.to_string().contains(word), "`{error}` lacks `{word}`");
    }
    let wide = TinySpec { kind: TensorType::BF16, ..TinySpec::default() };
    let config = open_gguf(&wide).config;
    let huge = Adapter::new(&config, 3, 1e7, factors(&config, 3, &[(1, LayerTensor::V)])).unwrap();
    assert!(open_gguf(&wide).adapted(&huge).is_ok());
}
