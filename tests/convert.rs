//! Conversions: what encoders make of values, and what a file that was made says to whoever reads it.

mod common;

use common::device::Random;
use common::gguf_writer::Meta;
use common::tiny_model::{self, KINDS, TinySpec, gguf_name, type_id, write_gguf, write_hf_folder};
use common::{quantise, tiny_vocabulary};
use secateur::config::{RopeLayout, RopeScaling, TextSource, TokenizerSource};
use secateur::format::WeightFormat;
use secateur::model::convert::{Conversion, Kind, Permissions, Recipe, Words, check_target};
use secateur::model::{LayerTensor, ModelFiles, TensorRole, TensorType};
use secateur::text::export;
use secateur::{Error, Result};
use std::fs;
use std::path::Path;

/// Converts `files`, as the program does.
fn convert(files: &ModelFiles, recipe: &str, target: &Path, may: Permissions) -> Result<Vec<Kind>> {
    check_target(files, target, may)?;
    let exported = export(&files.text, files.config.vocab_size)?;
    let words = Words { vocabulary: &exported.vocabulary, text: &files.text, adds_bos: exported.adds_bos };
    let conversion = Conversion::new(files, Recipe::by_name(recipe)?, &words, may)?;
    let kinds = conversion.write(target, &mut |_, _| Ok(()))?;
    assert_eq!(fs::metadata(target).unwrap().len(), conversion.bytes(), "{recipe}");
    Ok(kinds)
}

const STRICT: Permissions = Permissions { requantise: false, overwrite: false };
const AGAIN: Permissions = Permissions { requantise: true, overwrite: true };

/// Values of many kinds, in rows of 512.
fn values() -> Vec<(&'static str, Vec<f32>)> {
    let mut random = Random(11);
    let mut unit = move || random.below(1 << 20) as f32 / (1 << 19) as f32 - 1.0;
    let mut draw = |make: &dyn Fn(f32, f32, usize) -> f32| -> Vec<f32> {
        (0..8192).map(|index| make(unit(), unit(), index)).collect()
    };
    let normal = |a: f32, b: f32| (-2.0 * (a.abs().max(1e-6)).ln()).sqrt() * (std::f32::consts::PI * b).cos();
    vec![
        ("uniform", draw(&|a, _, _| a)),
        ("normal", draw(&|a, b, _| 0.02 * normal(a, b))),
        ("heavy tails", draw(&|a, b, _| normal(a, b) / b.abs().max(0.02))),
        ("outliers", draw(&|a, b, index| if index % 100 == 7 { 8.0 } else { 0.1 * normal(a, b) })),
        ("above zero", draw(&|a, _, _| a.abs() + 0.5)),
        ("below zero", draw(&|a, _, _| -a.abs() - 0.01)),
        ("few levels", draw(&|a, _, _| (3.0 * a).round() / 8.0)),
        ("groups of many sizes", draw(&|a, _, index| a * 10f32.powi((index / 16 % 9) as i32 - 4))),
        ("one value", vec![0.37; 512]),
        ("one value below zero", vec![-0.37; 512]),
        ("zeros", vec![0.0; 512]),
        ("hardly anything", draw(&|a, _, _| a * 1e-7)),
        ("nothing that f16 holds", draw(&|a, _, _| a * 1e-12)),
        ("large", draw(&|a, _, _| a * 3e4)),
    ]
}

fn squared_error(values: &[f32], decoded: &[f32]) -> f64 {
    values.iter().zip(decoded).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

/// No encoder leaves a larger error than rounding to the nearest by the plainest scales does, and what it writes is what a naive decoder
/// and the format's own read.
#[test]
fn encoders_are_no_worse_than_naive_ones() {
    for kind in KINDS {
        let format = WeightFormat::by_name(kind.name()).unwrap();
        for (case, values) in values() {
            let bytes = format.quantise(&values);
            let decoded = quantise::decode(kind, &bytes);
            assert_eq!(format.dequantise(&bytes), decoded, "{kind}, {case}");
            let naive = quantise::decode(kind, &quantise::encode(kind, &values));
            let (found, limit) = (squared_error(&values, &decoded), squared_error(&values, &naive));
            // Which way a factor of 16 bits is rounded is luck: 2^-11 of every value at most.
            let luck = 2f64.powi(-22) * values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
            assert!(found <= limit * 1.000001 + luck, "{kind}, {case}: {found:e} against {limit:e}");
        }
    }
}

/// Where a search pays it gains what docs/formats.md says, on values like weights.
#[test]
fn a_search_gains_on_weights() {
    let (_, values) = values().into_iter().find(|(case, _)| *case == "normal").unwrap();
    let most = [("IQ4_NL", 0.93), ("Q2_K", 0.84), ("Q3_K", 0.95), ("Q4_K", 0.92), ("Q5_K", 0.92), ("Q6_K", 0.92)];
    for (name, most) in most {
        let format = WeightFormat::by_name(name).unwrap();
        let kind = KINDS.into_iter().find(|kind| kind.name() == name).unwrap();
        let error = |bytes: &[u8]| squared_error(&values, &quantise::decode(kind, bytes)).sqrt();
        let share = error(&format.quantise(&values)) / error(&quantise::encode(kind, &values));
        assert!(share < most, "{name}: {share} of the naive error");
    }
}

#[test]
fn reference_encoders_write_ggmls_bytes() {
    let bytes = include_bytes!("fixtures/quants/references.bin");
    let (count, rest) = bytes.split_at(4);
    let count = u32::from_le_bytes([count[0], count[1], count[2], count[3]]) as usize;
    let (values, mut rest) = rest.split_at(4 * count);
    let values: Vec<f32> = values.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    assert_eq!(count, 2048);
    for name in ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "BF16", "F16"] {
        let format = WeightFormat::by_name(name).unwrap();
        let (elements, size) = format.block();
        let (expected, behind) = rest.split_at(count / elements * size);
        let found = format.quantise(&values);
        let differs = found.chunks(size).zip(expected.chunks(size)).position(|(found, expected)| found != expected);
        assert_eq!(differs, None, "{name}: the first block that differs");
        rest = behind;
    }
    assert!(rest.is_empty());
}

#[test]
fn what_is_too_large_leaves_a_scale_that_is_found() {
    for (format, value) in WeightFormat::ALL.into_iter().filter(|format| format.block().0 > 1).flat_map(|format| {
        // What no scale of 16 bits reaches, and what squares to infinity.
        [(format, 1e10f32), (format, 1e25), (format, -1e38)]
    }) {
        let mut values = vec![0.5; 512];
        values[300] = value;
        let found = format.first_not_finite(&format.quantise(&values));
        let block = format.block().0;
        assert_eq!(found.map(|(index, _)| index), Some(300 / block * block), "{} of {value:e}", format.name());
    }
}

const LLAMA3: RopeScaling = RopeScaling::Llama3 {
    factor: 8.0,
    low_freq_factor: 1.0,
    high_freq_factor: 4.0,
    original_max_position_embeddings: 64.0,
};

/// The file that a folder becomes is the file that was written from the same numbers.
#[test]
fn a_folder_becomes_the_gguf_of_its_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let scalings = [None, Some(RopeScaling::Linear { factor: 2.0 }), Some(LLAMA3)];
    for (index, kind) in [TensorType::F32, TensorType::F16, TensorType::BF16].into_iter().enumerate() {
        let spec = TinySpec {
            kind,
            tied: index != 0,
            sharded: index == 1,
            rope_scaling: scalings[index].clone(),
            ..TinySpec::default()
        };
        let (folder, target) = (dir.path().join(kind.name()), dir.path().join(format!("{kind}.gguf")));
        write_hf_folder(&folder, &spec);
        let source = ModelFiles::open(&folder).unwrap();
        let kinds = convert(&source, kind.name(), &target, STRICT).unwrap();
        assert!(kinds.iter().all(|kind| kind.relative_rms_error == 0.0), "{kinds:?}");
        let made = ModelFiles::open(&target).unwrap();
        let written = ModelFiles::from_gguf_bytes("written.gguf", spec.gguf().to_bytes()).unwrap();
        let mut config = made.config.clone();
        if index == 2 {
            let (made, written) = (config.rope_frequencies(), written.config.rope_frequencies());
            assert!(made.iter().zip(&written).all(|(a, b)| (a - b).abs() <= 2.0 * f32::EPSILON * b), "{made:?}");
            config.rope_scaling = spec.config(RopeLayout::Adjacent).rope_scaling;
        }
        assert_eq!(config, spec.config(RopeLayout::Adjacent), "{kind}");
        for tensor in spec.tensors() {
            let (found, expected) = (made.tensor(tensor.role).unwrap(), written.tensor(tensor.role).unwrap());
            assert_eq!((found.name, found.kind, found.bytes), (expected.name, expected.kind, expected.bytes));
        }
        // The padding of the two vocabularies is spelt otherwise.
        let (made, written) = (&made.text, &written.text);
        assert_eq!(made.chat_template, written.chat_template);
        assert_eq!((made.bos_token_id, made.add_bos_token), (written.bos_token_id, written.add_bos_token));
        assert_eq!(made.eos_token_ids, written.eos_token_ids);
        let (TokenizerSource::Gguf(made), TokenizerSource::Gguf(written)) = (&made.tokenizer, &written.tokenizer)
        else {
            panic!("two vocabularies of GGUF");
        };
        let count = tiny_vocabulary::MIN_VOCAB;
        assert_eq!((&made.model, &made.pre, &made.merges), (&written.model, &written.pre, &written.merges));
        assert_eq!(made.tokens[..count], written.tokens[..count]);
        assert_eq!(made.token_types[..count], written.token_types[..count]);
        assert_eq!(made.tokens.len(), spec.vocab);
    }
}

#[test]
fn a_gguf_file_keeps_its_bytes_and_its_metadata() {
    let dir = tempfile::tempdir().unwrap();
    for (kind, recipe) in [(TensorType::Q4_1, "Q4_1"), (TensorType::Q6K, "Q6_K"), (TensorType::F16, "F16")] {
        let spec = TinySpec { kind, rope_scaling: Some(LLAMA3), ..TinySpec::default() }.filled();
        let (path, target) = (dir.path().join(format!("{kind}.gguf")), dir.path().join(format!("{kind}-2.gguf")));
        let mut file = spec.gguf();
        // Keys that nobody here knows, of types that nobody here writes, and a larger alignment.
        file.alignment = 64;
        file.set("general.alignment", Meta::U32(64));
        file.set("author.words", Meta::Texts(vec!["a".into(), String::new(), "ü".into()]));
        file.set("author.number", Meta::Raw(10, 7u64.to_le_bytes().to_vec()));
        file.set("author.small", Meta::Raw(1, vec![0xff]));
        fs::write(&path, file.to_bytes()).unwrap();
        let source = ModelFiles::open(&path).unwrap();
        convert(&source, recipe, &target, STRICT).unwrap();
        let made = ModelFiles::open(&target).unwrap();
        // The template stands in another file.
        let text = TextSource { chat_template_file: made.text.chat_template_file.clone(), ..source.text.clone() };
        assert_eq!((&made.config, &made.text), (&source.config, &text));
        let views = |files: &ModelFiles| -> Vec<(String, TensorType, Vec<u8>)> {
            files.tensors().map(|view| (view.name.to_owned(), view.kind, view.bytes.to_vec())).collect()
        };
        assert_eq!(views(&made), views(&source));
        let bytes = fs::read(&target).unwrap();
        for (key, value) in [("author.words", 9u32), ("author.number", 10), ("author.small", 1)] {
            let at = bytes.windows(key.len()).position(|window| window == key.as_bytes()).unwrap() + key.len();
            assert_eq!(bytes[at..at + 4], value.to_le_bytes(), "{key}");
        }
        assert!(!bytes.windows(17).any(|window| window == b"general.alignment"));
    }
}

#[test]
fn quantised_weights_are_quantised_again_only_where_that_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let (path, target) = (dir.path().join("tiny.gguf"), dir.path().join("out.gguf"));
    write_gguf(&path, &TinySpec { kind: TensorType::Q8_0, ..TinySpec::default() });
    let source = ModelFiles::open(&path).unwrap();
    let error = convert(&source, "Q4_0", &target, STRICT).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Setting(_)), "{text}");
    assert!(["token_embd.weight", "Q8_0", "Q4_0", "--requantise"].iter().all(|word| text.contains(word)), "{text}");
    assert!(!target.exists());
    let kinds = convert(&source, "Q4_0", &target, Permissions { requantise: true, overwrite: false }).unwrap();
    assert!(kinds.iter().any(|kind| kind.kind == "attn_q" && kind.relative_rms_error > 0.01), "{kinds:?}");
    // To floats is no quantising.
    convert(&source, "F32", &dir.path().join("floats.gguf"), STRICT).unwrap();
    let error = convert(&source, "F16", &target, STRICT).unwrap_err().to_string();
    assert!(error.contains("out.gguf is there already") && error.contains("--force"), "{error}");
    let error = convert(&source, "F16", &path, AGAIN).unwrap_err().to_string();
    assert!(error.contains("the model itself"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "nothing stays beside the files");
}

#[test]
fn values_that_no_file_may_hold_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out.gguf");
    let name = gguf_name(TensorRole::Layer(1, LayerTensor::Up));
    let bent = |value: f32| {
        let mut file = TinySpec::default().gguf();
        file.tensor(&name).data[4 * 1000..4 * 1001].copy_from_slice(&value.to_le_bytes());
        ModelFiles::from_gguf_bytes("bent.gguf", file.to_bytes()).unwrap()
    };
    for value in [f32::NAN, f32::INFINITY] {
        let error = convert(&bent(value), "Q4_0", &target, STRICT).unwrap_err();
        let Error::TensorNotFinite { name: found, index: 1000, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*found, name);
    }
    for recipe in ["F16", "Q8_0"] {
        let error = convert(&bent(1e12), recipe, &target, STRICT).unwrap_err().to_string();
        assert!([&name, "1e12", recipe, "BF16"].iter().all(|word| error.contains(*word)), "{error}");
    }
    convert(&bent(1e12), "BF16", &target, STRICT).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    // A row of q that GGUF has in another place is named by its place in the source.
    let folder = dir.path().join("folder");
    write_hf_folder(&folder, &TinySpec::default());
    let path = folder.join("model.safetensors");
    let mut tensors = TinySpec::default().tensors();
    let q = tensors.iter_mut().find(|tensor| tensor.role == TensorRole::Layer(0, LayerTensor::Q)).unwrap();
    q.values[64 * 9 + 5] = f32::NAN;
    tiny_model::write_safetensors(&path, TensorType::F32, &tensors);
    let error = convert(&ModelFiles::open(&folder).unwrap(), "F16", &dir.path().join("q.gguf"), STRICT).unwrap_err();
    let Error::TensorNotFinite { name, index, .. } = &error else { panic!("{error:?}") };
    assert_eq!((name.as_str(), *index), ("model.layers.0.self_attn.q_proj.weight", 64 * 9 + 5));
}

/// What is left when writing ends early: nothing.
#[test]
fn a_conversion_that_is_stopped_leaves_the_target_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out.gguf");
    fs::write(&target, "old").unwrap();
    let source = ModelFiles::from_gguf_bytes("tiny.gguf", TinySpec::default().gguf().to_bytes()).unwrap();
    let exported = export(&source.text, source.config.vocab_size).unwrap();
    let words = Words { vocabulary: &exported.vocabulary, text: &source.text, adds_bos: exported.adds_bos };
    let conversion = Conversion::new(&source, Recipe::by_name("Q4_K_M").unwrap(), &words, AGAIN).unwrap();
    let mut steps = 0;
    let stopped = conversion.write(&target, &mut |done, total| {
        assert!(done < total);
        steps += 1;
        if steps == 5 { Err(Error::Cancelled) } else { Ok(()) }
    });
    assert!(matches!(stopped, Err(Error::Cancelled)));
    assert_eq!(fs::read_to_string(&target).unwrap(), "old");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    // What a kill left is written over.
    fs::write(dir.path().join("out.gguf.part"), vec![7; 1 << 20]).unwrap();
    conversion.write(&target, &mut |_, _| Ok(())).unwrap();
    assert_eq!(ModelFiles::open(&target).unwrap().total_bytes(), conversion.bytes());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_mixture_has_the_types_of_its_recipe() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out.gguf");
    let spec = TinySpec { hidden: 256, channels: 288, head_dim: 64, layers: 8, tied: false, ..TinySpec::default() };
    let source = ModelFiles::from_gguf_bytes("tiny.gguf", spec.gguf().to_bytes()).unwrap();
    convert(&source, "Q4_K_M", &target, STRICT).unwrap();
    let made = ModelFiles::open(&target).unwrap();
    let kind = |role| made.tensor(role).unwrap().kind;
    let layer = |layer, tensor| kind(TensorRole::Layer(layer, tensor));
    assert_eq!((kind(TensorRole::TokenEmbedding), kind(TensorRole::Output)), (TensorType::Q4K, TensorType::Q6K));
    assert_eq!(
        [0, 1, 3, 7].map(|index| layer(index, LayerTensor::V)),
        [TensorType::Q6K, TensorType::Q4K, TensorType::Q6K, TensorType::Q6K]
    );
    // Rows of 288 are no whole blocks of 256.
    assert_eq!([0, 1].map(|index| layer(index, LayerTensor::Down)), [TensorType::Q8_0, TensorType::Q5_0]);
    assert_eq!(layer(0, LayerTensor::AttentionNorm), TensorType::F32);
    assert_eq!(type_id(TensorType::Q6K), TensorType::Q6K.ggml_id());
}
