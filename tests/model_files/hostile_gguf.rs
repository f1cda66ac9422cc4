//! GGUF files with one thing wrong each: the error names it with its numbers, and nothing panics.

use crate::common::gguf_writer::{GgufWriter, Meta, RawTensor, put_text};
use crate::common::tiny_model::TinySpec;
use secateur::Error;
use secateur::model::ModelFiles;

const HUGE: u64 = u64::MAX / 2;

fn open(bytes: Vec<u8>) -> Error {
    ModelFiles::from_gguf_bytes("tiny.gguf", bytes).expect_err("a broken file opened")
}

/// Bends a valid file and checks that opening it is a [`Error::BadFile`] with every one of `words`.
#[track_caller]
fn refused(bend: impl FnOnce(&mut GgufWriter), words: &[&str]) {
    let mut file = TinySpec::default().gguf();
    bend(&mut file);
    let error = open(file.to_bytes());
    assert!(matches!(error, Error::BadFile { .. }), "{error:?}");
    for word in words {
        assert!(error.to_string().contains(word), "`{error}` lacks `{word}`");
    }
}

/// As [`refused`], for what is well-formed but cannot be run.
#[track_caller]
fn unsupported(bend: impl FnOnce(&mut GgufWriter), words: &[&str]) {
    let mut file = TinySpec::default().gguf();
    bend(&mut file);
    let error = open(file.to_bytes());
    assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
    for word in words {
        assert!(error.to_string().contains(word), "`{error}` lacks `{word}`");
    }
}

/// An array's bytes: item type, count, items.
fn array(item: u32, count: u64, items: &[u8]) -> Meta {
    let mut bytes = item.to_le_bytes().to_vec();
    bytes.extend(count.to_le_bytes());
    bytes.extend(items);
    Meta::Raw(9, bytes)
}

#[test]
fn containers() {
    refused(|file| file.magic = *b"GGML", &["not a GGUF file", "GGML"]);
    refused(|file| file.version = 1, &["version 1", "2 and 3"]);
    refused(|file| file.version = 4, &["version 4"]);
    refused(|file| file.version = 0, &["version 0"]);
    refused(|file| file.version = 3u32.swap_bytes(), &["big-endian"]);
    for len in [0, 3, 4, 7, 8, 15, 16, 23, 24] {
        let bytes = TinySpec::default().gguf().to_bytes();
        assert!(matches!(open(bytes[..len].to_vec()), Error::BadFile { .. }), "{len} bytes");
    }
}

#[test]
fn counts() {
    refused(|file| file.tensor_count = Some(HUGE), &["9223372036854775807 tensors"]);
    refused(|file| file.metadata_count = Some(HUGE), &["9223372036854775807 metadata entries"]);
    // Possible by the file's size, absurd all the same.
    refused(
        |file| {
            file.metadata_count = Some(65_537).filter(|_| {
                file.tensors[0].data.resize(1 << 20, 0);
                true
            })
        },
        &["65537 metadata entries", "the limit of 65536"],
    );
    refused(|file| file.tensor_count = Some(file.tensors.len() as u64 + 1), &[]);
    refused(|file| file.metadata_count = Some(file.metadata.len() as u64 + 1), &[]);
}

#[test]
fn metadata() {
    let set = |key: &'static str, value: Meta| move |file: &mut GgufWriter| _ = file.set(key, value);
    refused(set("x", Meta::Raw(13, vec![0; 8])), &["`x`", "type 13"]);
    refused(set("x", array(13, 1, &[0; 8])), &["`x`", "type 13"]);
    refused(set("x", array(9, 1, &[0; 32])), &["`x`", "array of arrays"]);
    refused(set("x", array(0, HUGE, &[])), &["9223372036854775807 items in metadata `x`"]);
    refused(set("x", array(12, u64::MAX / 8 + 1, &[])), &["items in metadata `x`"]);
    refused(set("x", array(8, HUGE, &[])), &["items in metadata `x`"]);
    refused(set("x", array(8, 1, &HUGE.to_le_bytes())), &["a text in an array", "9223372036854775807 bytes"]);
    refused(set("x", Meta::Raw(8, HUGE.to_le_bytes().to_vec())), &["metadata `x`", "9223372036854775807 bytes"]);
    refused(|file| file.metadata.push((b"general.name".to_vec(), Meta::U32(1))), &["`general.name` appears twice"]);
    refused(|file| file.metadata.push((b"\xff\xfe".to_vec(), Meta::U32(1))), &["not UTF-8", "\\xff\\xfe"]);
    refused(|file| file.metadata.push((Vec::new(), Meta::U32(1))), &["key of metadata entry", "is empty"]);
    refused(|file| file.metadata.push((vec![b'k'; 65_536], Meta::U32(1))), &["65536 bytes", "limit of 65535"]);
    let mut text = Vec::new();
    put_text(&mut text, b"ab\xc3");
    refused(set("general.name", Meta::Raw(8, text)), &["`general.name` is not UTF-8", "byte 2 of 3"]);
}

#[test]
fn alignments() {
    for value in [0u32, 3, 48, 1 << 30] {
        refused(|file| _ = file.set("general.alignment", Meta::U32(value)), &["general.alignment", &value.to_string()]);
    }
    refused(|file| _ = file.set("general.alignment", Meta::Text("32".into())), &["general.alignment"]);
}

#[test]
fn tensor_headers() {
    refused(|file| file.tensors[1].name = file.tensors[0].name.clone(), &["`token_embd.weight` appears twice"]);
    refused(|file| file.tensors[1].name = vec![0xff], &["not UTF-8"]);
    refused(|file| file.tensors[1].name = Vec::new(), &["the name of tensor 1 is empty"]);
    refused(|file| file.tensors[1].name = vec![b'n'; 257], &["257 bytes", "limit of 256"]);
    refused(|file| file.tensors[0].ne = Vec::new(), &["0 dimensions"]);
    refused(|file| file.tensors[0].ne = vec![1; 5], &["5 dimensions", "1 to 4"]);
    refused(|file| file.tensors[0].ne = vec![64, 0], &["a dimension of 0"]);
    refused(|file| file.tensors[0].ne = vec![u64::MAX, u64::MAX], &["more bytes than can be counted"]);
    refused(|file| file.tensors[0].ne = vec![1 << 32, 1 << 32], &["more bytes than can be counted"]);
    refused(|file| file.tensors[0].ne = vec![1 << 31, 1 << 20], &["bytes at offset 0", "truncated"]);
    for dropped in [4, 5, 31, 99, u32::MAX] {
        refused(|file| file.tensors[0].type_id = dropped, &["`token_embd.weight`", &dropped.to_string()]);
    }
    refused(
        |file| {
            file.tensors[0].type_id = 2;
            file.tensors[0].ne = vec![33, 2];
        },
        &["rows of 33 elements", "Q4_0", "multiple of 32"],
    );
}

#[test]
fn tensor_places() {
    refused(|file| file.tensors[0].offset = Some(u64::MAX - 31), &["18446744073709551584", "truncated"]);
    refused(|file| file.tensors[0].offset = Some(1 << 40), &["1099511627776", "truncated"]);
    refused(|file| file.tensors[0].offset = Some(33), &["offset 33", "alignment 32"]);
    refused(|file| file.tensors[1].offset = Some(0), &["overlap", "`token_embd.weight`", "`blk.0.attn_norm.weight`"]);
    let whole = TinySpec::default().gguf().to_bytes();
    let error = open(whole[..whole.len() - 1].to_vec()).to_string();
    assert!(error.contains("output_norm.weight") && error.contains("truncated"), "{error}");
}

#[test]
fn configurations() {
    let set = |key: &'static str, value: Meta| move |file: &mut GgufWriter| _ = file.set(key, value);
    for key in [
        "general.architecture",
        "llama.block_count",
        "llama.context_length",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon",
        "tokenizer.ggml.model",
        "tokenizer.ggml.tokens",
    ] {
        refused(|file| _ = file.unset(key), &[key, "missing"]);
    }
    refused(set("llama.block_count", Meta::Text("two".into())), &["`llama.block_count`", "a text of 3 bytes"]);
    refused(set("llama.block_count", Meta::F32(2.0)), &["`llama.block_count` is 2", "whole number"]);
    refused(set("llama.block_count", Meta::Raw(5, (-2i32).to_le_bytes().to_vec())), &["is -2"]);
    refused(set("llama.rope.freq_base", Meta::U32(1)), &["`llama.rope.freq_base`", "floating-point"]);
    refused(set("llama.rope.scaling.factor", Meta::F32(-1.0)), &["factor is -1"]);
    refused(set("tokenizer.ggml.add_bos_token", Meta::U32(1)), &["add_bos_token", "truth value"]);
    refused(set("llama.feed_forward_length", Meta::I32s(vec![96; 1000])), &["1000 items"]);
    refused(
        |file| {
            file.unset("llama.attention.key_length").set("llama.attention.head_count", Meta::U32(0));
        },
        &["64 cannot be shared by 0 heads"],
    );
    for architecture in ["gemma2", "mamba", ""] {
        unsupported(set("general.architecture", Meta::Text(architecture.into())), &["architecture", architecture]);
    }
    unsupported(set("llama.expert_count", Meta::U32(8)), &["8 experts"]);
    unsupported(set("split.count", Meta::Raw(2, 3u16.to_le_bytes().to_vec())), &["1 of 3 parts"]);
    unsupported(set("llama.rope.dimension_count", Meta::U32(8)), &["llama.rope.dimension_count 8", "16"]);
    unsupported(set("llama.attention.value_length", Meta::U32(8)), &["llama.attention.value_length 8"]);
    unsupported(set("llama.rope.scaling.type", Meta::Text("yarn".into())), &["rope scaling", "yarn"]);
    unsupported(set("llama.feed_forward_length", Meta::I32s(vec![96, 64])), &["differs between layers"]);
    let error = |bend: &dyn Fn(&mut GgufWriter)| {
        let mut file = TinySpec::default().gguf();
        bend(&mut file);
        open(file.to_bytes())
    };
    // What the configuration itself refuses, and shapes that do not fit it.
    let zero = error(&|file| _ = file.set("llama.block_count", Meta::U32(0)));
    assert!(matches!(zero, Error::Setting(_)), "{zero:?}");
    let layers = error(&|file| _ = file.set("llama.block_count", Meta::U32(16_777_216)));
    assert!(matches!(&layers, Error::TensorMissing { name, .. } if name == "blk.2.attn_norm.weight"), "{layers:?}");
    let channels = error(&|file| _ = file.set("llama.feed_forward_length", Meta::U32(128)));
    assert!(
        matches!(&channels, Error::TensorShape { expected, found, .. } if expected == &[128, 64] && found == &[96, 64]),
        "{channels:?}"
    );
}

#[test]
fn tensors_that_do_not_fit_the_network() {
    let mut file = TinySpec::default().gguf();
    file.tensors.retain(|tensor| tensor.name != b"blk.1.ffn_up.weight");
    let error = open(file.to_bytes());
    assert!(matches!(&error, Error::TensorMissing { name, .. } if name == "blk.1.ffn_up.weight"), "{error:?}");

    let mut file = TinySpec::default().gguf();
    file.tensors.retain(|tensor| tensor.name != b"token_embd.weight");
    assert!(matches!(open(file.to_bytes()), Error::TensorMissing { .. }));

    let extra =
        |name: &str| RawTensor { name: name.into(), ne: vec![64], type_id: 0, data: vec![0; 256], offset: None };
    for name in ["blk.0.attn_q.bias", "blk.0.attn_q_norm.weight", "blk.2.attn_norm.weight", "output.bias"] {
        unsupported(|file| file.tensors.push(extra(name)), &["tensor", name]);
    }
    let mut file = TinySpec::default().gguf();
    file.tensors.push(extra("blk.0.attn_rot_embd.weight"));
    assert!(ModelFiles::from_gguf_bytes("tiny.gguf", file.to_bytes()).is_ok());
}

#[test]
fn rope_factors() {
    let factors = |kind: u32, data: Vec<u8>| RawTensor {
        name: b"rope_freqs.weight".to_vec(),
        ne: vec![8],
        type_id: kind,
        data,
        offset: None,
    };
    let values =
        |last: f32| [1.0f32, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, last].iter().flat_map(|x| x.to_le_bytes()).collect();
    for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        refused(|file| file.tensors.push(factors(0, values(bad))), &["rope_freqs.weight", "element 7"]);
    }
    unsupported(|file| file.tensors.push(factors(1, vec![0; 16])), &["F16", "rope_freqs.weight"]);
    let mut file = TinySpec::default().gguf();
    file.tensors.push(RawTensor { ne: vec![4, 2], ..factors(0, values(1.0)) });
    assert!(matches!(open(file.to_bytes()), Error::TensorShape { .. }));
}

#[test]
fn vocabularies() {
    let set = |key: &'static str, value: Meta| move |file: &mut GgufWriter| _ = file.set(key, value);
    let texts = |count: usize| Meta::Texts((0..count).map(|id| format!("t{id}")).collect());
    refused(set("tokenizer.ggml.tokens", texts(289)), &["289 tokens", "288 rows"]);
    refused(set("tokenizer.ggml.tokens", texts(0)), &["0 tokens"]);
    refused(set("tokenizer.ggml.tokens", texts(287)), &["token_type", "288 items for 287 tokens"]);
    refused(set("tokenizer.ggml.scores", Meta::F32s(vec![0.0; 5])), &["scores", "5 items for 288 tokens"]);
    refused(set("tokenizer.ggml.tokens", Meta::I32s(vec![0; 288])), &["tokenizer.ggml.tokens", "array of texts"]);
    refused(set("tokenizer.ggml.token_type", Meta::F32s(vec![0.0; 288])), &["token_type", "whole numbers"]);
    refused(set("tokenizer.ggml.merges", Meta::Text("a b".into())), &["merges", "a text of 3 bytes"]);
    let mut items = Vec::new();
    put_text(&mut items, b"\xff");
    refused(set("tokenizer.ggml.merges", array(8, 1, &items)), &["merges", "not UTF-8"]);
}
