//! Hugging Face folders and bare paths with one thing wrong each.

use crate::common::tiny_model::{TinySpec, write_hf_folder};
use secateur::Error;
use secateur::model::ModelFiles;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const FIRST: &str = "model-00001-of-00002.safetensors";

/// Writes a valid folder, bends it, and returns the error of opening it.
#[track_caller]
fn error_of(spec: &TinySpec, bend: impl FnOnce(&Path)) -> Error {
    let dir = tempfile::tempdir().unwrap();
    write_hf_folder(dir.path(), spec);
    assert!(ModelFiles::open(dir.path()).is_ok());
    bend(dir.path());
    ModelFiles::open(dir.path()).expect_err("a broken folder opened")
}

#[track_caller]
fn refused(spec: &TinySpec, bend: impl FnOnce(&Path), words: &[&str]) {
    let error = error_of(spec, bend);
    assert!(matches!(error, Error::BadFile { .. }), "{error:?}");
    for word in words {
        assert!(error.to_string().contains(word), "`{error}` lacks `{word}`");
    }
}

/// A safetensors file of the given header, followed by `data` zero bytes.
fn write_header(path: &Path, header: &str, data: usize) {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    fs::write(path, bytes).unwrap();
}

fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    edit(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

#[test]
fn paths() {
    let dir = tempfile::tempdir().unwrap();
    let missing = ModelFiles::open(&dir.path().join("none.gguf")).unwrap_err();
    assert!(matches!(missing, Error::Io { action: "open", .. }), "{missing:?}");
    let nothing = ModelFiles::open(dir.path()).unwrap_err().to_string();
    assert!(nothing.contains("neither a config.json nor a .gguf"), "{nothing}");
    for (name, content, word) in [
        ("empty.gguf", "", "empty"),
        ("page.gguf", "<!DOCTYPE html>", "not a GGUF file: it starts with <!DO"),
        ("loose.safetensors", "x", "give the folder"),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        let error = ModelFiles::open(&path).unwrap_err().to_string();
        assert!(error.contains(word), "`{error}` lacks `{word}`");
    }
}

#[cfg(unix)]
#[test]
fn a_device_is_no_model() {
    // As a pipe would: reading it never ends.
    let error = ModelFiles::open(Path::new("/dev/zero")).unwrap_err().to_string();
    assert!(error.contains("not a regular file"), "{error}");
}

#[test]
fn missing_companions() {
    let spec = TinySpec::default();
    refused(&spec, |dir| fs::remove_file(dir.join("tokenizer.json")).unwrap(), &["no tokenizer.json"]);
    refused(&spec, |dir| fs::remove_file(dir.join(SINGLE)).unwrap(), &["neither model.safetensors nor"]);
    refused(&spec, |dir| fs::write(dir.join("tokenizer.json"), "{").unwrap(), &["tokenizer.json", "malformed JSON"]);
    refused(&spec, |dir| fs::write(dir.join("tokenizer_config.json"), "[]]").unwrap(), &["tokenizer_config.json"]);
    refused(&spec, |dir| fs::write(dir.join("generation_config.json"), "{").unwrap(), &["generation_config.json"]);
    refused(&spec, |dir| fs::write(dir.join("config.json"), "{}").unwrap(), &["config.json", "hidden_size"]);
    refused(&spec, |dir| fs::write(dir.join("config.json"), vec![b' '; (1 << 20) + 1]).unwrap(), &["1048576 bytes"]);
    refused(&spec, |dir| fs::write(dir.join("chat_template.jinja"), [0xff]).unwrap(), &["jinja", "UTF-8"]);
    // JSON that nests deeper than a stack is refused by the parser, not by a crash.
    refused(&spec, |dir| fs::write(dir.join("config.json"), "[".repeat(100_000)).unwrap(), &["malformed JSON"]);
}

#[test]
fn other_architectures() {
    for (key, value) in [("architectures", json!(["Gemma2ForCausalLM"])), ("attention_bias", json!(true))] {
        let error = error_of(&TinySpec::default(), |dir| {
            edit_json(&dir.join("config.json"), |config| config[key] = value);
        });
        assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
    }
}

#[test]
fn safetensors_headers() {
    let spec = TinySpec::default();
    let replace = |header: &'static str, data: usize| move |dir: &Path| write_header(&dir.join(SINGLE), header, data);
    refused(&spec, |dir| fs::write(dir.join(SINGLE), "short").unwrap(), &["truncated: 5 bytes"]);
    refused(&spec, |dir| fs::write(dir.join(SINGLE), u64::MAX.to_le_bytes()).unwrap(), &["18446744073709551615"]);
    refused(
        &spec,
        |dir| {
            let mut bytes = ((16u64 << 20) + 1).to_le_bytes().to_vec();
            bytes.resize(17 << 20, b' ');
            fs::write(dir.join(SINGLE), bytes).unwrap();
        },
        &["16777217", "limit is 16777216"],
    );
    refused(&spec, replace("{", 0), &["damaged"]);
    refused(&spec, replace("\u{0}", 0), &["damaged"]);
    let tensor = r#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#;
    refused(&spec, replace(tensor, 15), &["truncated"]);
    refused(&spec, replace(tensor, 17), &["damaged"]);
    let ends_early = r#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[16,0]}}"#;
    refused(&spec, replace(ends_early, 16), &["damaged"]);
    let hole = r#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[16,32]}}"#;
    refused(&spec, replace(hole, 32), &["damaged"]);
    let wrong_size = r#"{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,16]}}"#;
    refused(&spec, replace(wrong_size, 16), &["damaged"]);
    let overflow = r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4611686018427387904],"data_offsets":[0,16]}}"#;
    refused(&spec, replace(overflow, 16), &["damaged"]);
    let negative = r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,16]}}"#;
    refused(&spec, replace(negative, 16), &["damaged"]);
    let scalar = r#"{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#;
    refused(&spec, replace(scalar, 4), &["shape []"]);
    let twice = r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"a":{"dtype":"F32","shape":[4],"data_offsets":[16,32]}}"#;
    refused(&spec, replace(twice, 32), &["damaged"]);
    let eight_bits = r#"{"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}"#;
    let error = error_of(&spec, replace(eight_bits, 4));
    assert!(matches!(error, Error::Unsupported { .. }) && error.to_string().contains("F8_E4M3 of `a`"), "{error}");
    let other = r#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#;
    let error = error_of(&spec, replace(other, 16));
    assert!(matches!(error, Error::TensorMissing { .. }), "{error}");
}

#[test]
fn shard_indexes() {
    let spec = TinySpec { sharded: true, ..TinySpec::default() };
    for name in ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "a\0.safetensors", "config.json"]
    {
        let bend = |dir: &Path| edit_json(&dir.join(INDEX), |index| index["weight_map"]["x"] = json!(name));
        refused(&spec, bend, &["no plain file name"]);
    }
    refused(&spec, |dir| fs::write(dir.join(INDEX), r#"{"weight_map":{}}"#).unwrap(), &["0 weight files"]);
    refused(&spec, |dir| fs::write(dir.join(INDEX), "{}").unwrap(), &["weight_map"]);
    refused(
        &spec,
        |dir| edit_json(&dir.join(INDEX), |index| index["weight_map"]["extra.weight"] = json!(FIRST)),
        &["`extra.weight`", FIRST],
    );
    refused(
        &spec,
        |dir| _ = fs::copy(dir.join(FIRST), dir.join("model-00002-of-00002.safetensors")).unwrap(),
        &["in another weight file too"],
    );
    let missing = error_of(&spec, |dir| fs::remove_file(dir.join(FIRST)).unwrap());
    assert!(matches!(missing, Error::Io { .. }) && missing.to_string().contains(FIRST), "{missing}");
}
