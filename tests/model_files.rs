//! Model files from the outside: what is read from well-formed ones, and what is said about every kind of broken one.

mod common;

#[path = "model_files/hostile_folder.rs"]
mod hostile_folder;
#[path = "model_files/hostile_gguf.rs"]
mod hostile_gguf;
#[path = "model_files/mutation.rs"]
mod mutation;
#[path = "model_files/tokenizers.rs"]
mod tokenizers;

use common::gguf_writer::Meta;
use common::tiny_model::{self, TinySpec, write_gguf, write_hf_folder};
use common::{quantise, tiny_vocabulary};
use secateur::config::{RopeLayout, RopeScaling, TokenizerSource};
use secateur::model::{LayerTensor, ModelFiles, TensorRole};
use std::path::{Path, PathBuf};

const LLAMA3: RopeScaling = RopeScaling::Llama3 {
    factor: 8.0,
    low_freq_factor: 1.0,
    high_freq_factor: 4.0,
    original_max_position_embeddings: 64.0,
};

/// A file of the data that lies beside the repository; `None`, with a word, where it is not there.
fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(path);
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
    }
    path.exists().then_some(path)
}

/// Opens a GGUF file that holds `spec`, from memory.
fn open_gguf(spec: &TinySpec) -> ModelFiles {
    ModelFiles::from_gguf_bytes("tiny.gguf", spec.gguf().to_bytes()).unwrap()
}

#[test]
fn both_formats_give_the_configuration_and_the_weights_that_were_written() {
    let dir = tempfile::tempdir().unwrap();
    for (index, kind) in tiny_model::KINDS.into_iter().enumerate() {
        let spec = TinySpec {
            kind,
            tied: index % 2 == 0,
            sharded: index % 3 == 0,
            rope_scaling: [None, Some(RopeScaling::Linear { factor: 2.0 }), Some(LLAMA3)][index % 3].clone(),
            ..TinySpec::default()
        }
        .filled();
        let (file, folder) = (dir.path().join(format!("{kind}.gguf")), dir.path().join(kind.name()));
        write_gguf(&file, &spec);
        write_hf_folder(&folder, &spec);
        let (gguf, hf) = (ModelFiles::open(&file).unwrap(), ModelFiles::open(&folder).unwrap());
        assert_eq!(gguf.config, spec.config(RopeLayout::Adjacent), "{kind}");
        assert_eq!(hf.config, spec.config(RopeLayout::Halves), "{kind}");
        for (a, b) in gguf.config.rope_frequencies().iter().zip(hf.config.rope_frequencies()) {
            // A factor that is rounded to f32 and divided again may lose one bit each time.
            assert!((a - b).abs() <= 2.0 * f32::EPSILON * b, "{kind}: frequency {a} against {b}");
        }
        for tensor in spec.tensors() {
            let (left, right) = (gguf.tensor(tensor.role).unwrap(), hf.tensor(tensor.role).unwrap());
            assert_eq!(left.name, tiny_model::gguf_name(tensor.role));
            assert_eq!(right.name, tiny_model::hf_name(tensor.role));
            for view in [left, right] {
                assert_eq!((view.rows, view.cols), (tensor.rows, tensor.cols), "{}", view.name);
                assert_eq!(Some(view.bytes.len()), view.kind.row_bytes(view.cols).map(|row| row * view.rows));
            }
            assert_eq!(quantise::decode(right.kind, right.bytes), tensor.values, "{}", right.name);
            let permuted = matches!(tensor.role, TensorRole::Layer(_, LayerTensor::Q | LayerTensor::K));
            if !permuted {
                assert_eq!(quantise::decode(left.kind, left.bytes), tensor.values, "{}", left.name);
            }
        }
        assert_eq!(gguf.has(TensorRole::Output), !spec.tied);
        assert_eq!(hf.has(TensorRole::Output), !spec.tied);
        assert_eq!(gguf.tensors().count(), spec.tensors().len() + usize::from(gguf.has(TensorRole::RopeFactors)));
        assert_eq!(hf.tensors().count(), spec.tensors().len());
    }
}

#[test]
fn query_rows_of_the_two_layouts_are_the_same_pairs() {
    let spec = TinySpec::default();
    let gguf = open_gguf(&spec);
    let role = TensorRole::Layer(1, LayerTensor::Q);
    let view = gguf.tensor(role).unwrap();
    let rows: Vec<Vec<f32>> =
        quantise::decode(view.kind, view.bytes).chunks(spec.hidden).map(<[f32]>::to_vec).collect();
    let original = spec.tensors().into_iter().find(|tensor| tensor.role == role).unwrap();
    let halves: Vec<&[f32]> = original.values.chunks(spec.hidden).collect();
    for head in 0..spec.heads {
        let start = head * spec.head_dim;
        for pair in 0..spec.head_dim / 2 {
            assert_eq!(rows[start + 2 * pair], halves[start + pair]);
            assert_eq!(rows[start + 2 * pair + 1], halves[start + pair + spec.head_dim / 2]);
        }
    }
}

#[test]
fn text_side_of_both_formats() {
    let dir = tempfile::tempdir().unwrap();
    let spec = TinySpec::default();
    write_hf_folder(dir.path(), &spec);
    let (gguf, hf) = (open_gguf(&spec), ModelFiles::open(dir.path()).unwrap());
    for text in [&gguf.text, &hf.text] {
        assert_eq!(text.chat_template.as_deref(), Some(tiny_vocabulary::CHAT_TEMPLATE));
        assert_eq!(text.bos_token_id, Some(tiny_vocabulary::IM_START));
        assert_eq!(text.eos_token_ids, [tiny_vocabulary::END_OF_TEXT, tiny_vocabulary::IM_END]);
        assert_eq!(text.add_bos_token, Some(false));
    }
    let TokenizerSource::Gguf(vocabulary) = &gguf.text.tokenizer else { panic!("not from GGUF") };
    assert_eq!((vocabulary.model.as_str(), vocabulary.pre.as_str()), ("gpt2", "gpt-2"));
    assert_eq!(vocabulary.tokens, tiny_vocabulary::tokens(spec.vocab));
    assert_eq!(vocabulary.merges, tiny_vocabulary::MERGES);
    assert_eq!(vocabulary.token_types.len(), spec.vocab);
    assert!(vocabulary.scores.is_empty());
    assert_eq!((vocabulary.unknown_token_id, vocabulary.add_space_prefix), (None, None));
    let TokenizerSource::Json(json) = &hf.text.tokenizer else { panic!("not from JSON") };
    assert!(serde_json::from_slice::<serde_json::Value>(json).is_ok());
}

#[test]
fn token_ids_outside_the_vocabulary_are_absent() {
    let mut file = TinySpec::default().gguf();
    file.set("tokenizer.ggml.bos_token_id", Meta::U32(u32::MAX));
    file.set("tokenizer.ggml.eos_token_id", Meta::U32(288));
    file.set("tokenizer.ggml.eot_token_id", Meta::U32(7));
    let text = ModelFiles::from_gguf_bytes("tiny.gguf", file.to_bytes()).unwrap().text;
    assert_eq!(text.bos_token_id, None);
    assert_eq!(text.eos_token_ids, [tiny_vocabulary::IM_END, 7]);
}

#[test]
fn absent_metadata_takes_its_defaults() {
    let mut file = TinySpec::default().gguf();
    for key in [
        "general.name",
        "llama.vocab_size",
        "llama.rope.freq_base",
        "llama.rope.dimension_count",
        "llama.attention.key_length",
        "llama.attention.value_length",
        "tokenizer.ggml.pre",
        "tokenizer.chat_template",
        "tokenizer.ggml.add_bos_token",
    ] {
        file.unset(key);
    }
    // A later version of llama.cpp's converter writes sizes once for each layer.
    file.set("llama.feed_forward_length", Meta::I32s(vec![96, 96]));
    let model = ModelFiles::from_gguf_bytes("tiny.gguf", file.to_bytes()).unwrap();
    assert_eq!((model.config.name, model.config.vocab_size, model.config.head_dim), (None, 288, 16));
    assert_eq!((model.config.rope_theta, model.config.intermediate_size), (10_000.0, 96));
    assert_eq!((model.text.chat_template, model.text.add_bos_token), (None, None));
    let TokenizerSource::Gguf(vocabulary) = model.text.tokenizer else { panic!("not from GGUF") };
    assert_eq!(vocabulary.pre, "default");
}

#[test]
fn version_2_and_another_alignment_are_read() {
    let mut file = TinySpec::default().gguf();
    file.version = 2;
    file.alignment = 64;
    file.set("general.alignment", Meta::U32(64));
    let model = ModelFiles::from_gguf_bytes("tiny.gguf", file.to_bytes()).unwrap();
    assert_eq!(model.format_name(), "GGUF v2");
    let embedding = model.tensor(TensorRole::TokenEmbedding).unwrap();
    assert_eq!(quantise::decode(embedding.kind, embedding.bytes), TinySpec::default().tensors()[0].values);
}

#[test]
fn a_folder_may_hold_one_gguf_file() {
    let dir = tempfile::tempdir().unwrap();
    let spec = TinySpec::default();
    write_gguf(&dir.path().join("a.gguf"), &spec);
    assert_eq!(ModelFiles::open(dir.path()).unwrap().config, spec.config(RopeLayout::Adjacent));
    write_gguf(&dir.path().join("b.gguf"), &spec);
    let error = ModelFiles::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("2 .gguf files"), "{error}");
}

#[test]
fn the_hash_names_the_content() {
    let dir = tempfile::tempdir().unwrap();
    let spec = TinySpec { sharded: true, ..TinySpec::default() };
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    write_hf_folder(&one, &spec);
    write_hf_folder(&two, &spec);
    let first = ModelFiles::open(&one).unwrap();
    assert_eq!(first.format_name(), "safetensors, 2 files");
    assert_eq!(first.sha256().unwrap(), ModelFiles::open(&two).unwrap().sha256().unwrap());
    assert_eq!(
        first.total_bytes(),
        ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
            .map(|name| std::fs::metadata(one.join(name)).unwrap().len())
            .iter()
            .sum::<u64>()
    );
    write_hf_folder(&two, &TinySpec { seed: 2, ..spec });
    assert_ne!(first.sha256().unwrap(), ModelFiles::open(&two).unwrap().sha256().unwrap());
}

#[test]
fn a_head_that_is_tied_by_configuration_is_not_used_even_if_present() {
    let dir = tempfile::tempdir().unwrap();
    let spec = TinySpec { tied: false, ..TinySpec::default() };
    write_hf_folder(dir.path(), &spec);
    let mut config = spec.hf_config();
    config["tie_word_embeddings"] = true.into();
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    assert!(!ModelFiles::open(dir.path()).unwrap().has(TensorRole::Output));
}

#[test]
fn chat_templates_of_a_folder_in_all_their_places() {
    let dir = tempfile::tempdir().unwrap();
    write_hf_folder(dir.path(), &TinySpec::default());
    let settings = dir.path().join("tokenizer_config.json");
    let template = || ModelFiles::open(dir.path()).unwrap().text.chat_template;
    let named = r#"{"chat_template":[{"name":"tool_use","template":"A"},{"name":"default","template":"B"}]}"#;
    std::fs::write(&settings, named).unwrap();
    assert_eq!(template().as_deref(), Some("B"));
    std::fs::write(&settings, r#"{"chat_template":[{"name":"rag","template":"C"}],"bos_token":null}"#).unwrap();
    assert_eq!(template().as_deref(), Some("C"));
    std::fs::write(dir.path().join("chat_template.jinja"), "D").unwrap();
    assert_eq!(template().as_deref(), Some("D"));
    std::fs::remove_file(dir.path().join("chat_template.jinja")).unwrap();
    std::fs::remove_file(&settings).unwrap();
    assert_eq!(template(), None);
}

#[test]
fn a_trained_toy_opens() {
    let Some(path) = shared("models/stories260K.gguf") else { return };
    let model = ModelFiles::open(&path).unwrap();
    let config = &model.config;
    assert_eq!((config.hidden_size, config.intermediate_size, config.num_hidden_layers), (64, 172, 5));
    assert_eq!((config.num_attention_heads, config.num_key_value_heads, config.head_dim), (8, 4, 8));
    assert_eq!((config.vocab_size, config.max_position_embeddings, config.tie_word_embeddings), (512, 2048, false));
    assert_eq!((model.text.bos_token_id, model.text.eos_token_ids.as_slice()), (Some(1), [2].as_slice()));
    assert_eq!(model.tensors().count(), 48);
    assert_eq!(model.total_bytes(), 1_185_376);
    assert_eq!(model.sha256().unwrap(), "270cba1bd5109f42d03350f60406024560464db173c0e387d91f0426d3bd256d");
    let TokenizerSource::Gguf(vocabulary) = &model.text.tokenizer else { panic!("not from GGUF") };
    assert_eq!((vocabulary.tokens.len(), vocabulary.scores.len(), vocabulary.token_types.len()), (512, 512, 512));
}
