//! Every format that files have: against the naive model, against the same values as floats, mixed within a file.

use super::{check, sequences};
use crate::common::device::{self, files, gpu, load, tolerance};
use crate::common::gguf_writer::GgufWriter;
use crate::common::quantise;
use crate::common::tiny_model::{KINDS, TinySpec, gguf_name, type_id, write_hf_folder};
use secateur::engine::Engine;
use secateur::model::{LayerTensor, ModelFiles, TensorRole, TensorType};
use std::sync::Arc;

#[test]
fn every_format_from_either_file_gives_what_the_file_says() {
    let dir = tempfile::tempdir().unwrap();
    for (index, kind) in KINDS.into_iter().enumerate() {
        let spec = TinySpec {
            kind,
            hidden: 128,
            channels: 160,
            tied: index % 2 == 0,
            sharded: index % 3 == 0,
            seed: 20 + index as u64,
            ..TinySpec::default()
        }
        .filled();
        let folder = dir.path().join(kind.name());
        write_hf_folder(&folder, &spec);
        let (gguf, hf) = (files(&spec.gguf()), ModelFiles::open(&folder).unwrap());
        for (what, files) in [("GGUF", gguf), ("folder", hf)] {
            let (engine, reference) = device::pair(&files);
            let worst = check(&engine, &reference, &format!("{kind} {what}"));
            eprintln!("{kind} {what}: largest difference {worst:.1e} of {:.1e}", tolerance(&reference.config, 12));
        }
    }
}

/// A file may store every tensor in another format; gate and up, which one kernel reads, too.
#[test]
fn a_file_of_mixed_formats() {
    let wide = TinySpec { kind: TensorType::Q4K, layers: 2, tied: false, seed: 30, ..TinySpec::default() }.filled();
    let mut file = TinySpec { kind: TensorType::F32, ..wide }.gguf();
    let matrices = file.tensors.iter_mut().filter(|tensor| tensor.ne.len() == 2);
    for (index, tensor) in matrices.enumerate() {
        let kind = KINDS[index * 5 % KINDS.len()];
        tensor.data = quantise::encode(kind, &quantise::decode(TensorType::F32, &tensor.data));
        tensor.type_id = type_id(kind);
    }
    let kind_of = |file: &mut GgufWriter, name: &str| file.tensor(name).type_id;
    assert_ne!(kind_of(&mut file, "blk.0.ffn_gate.weight"), kind_of(&mut file, "blk.0.ffn_up.weight"));
    let (engine, reference) = device::pair(&files(&file));
    check(&engine, &reference, "mixed formats");
}

/// Replaces matrices by the same values in another type.
fn convert(file: &mut GgufWriter, kind: impl Fn(&str) -> TensorType) {
    for tensor in file.tensors.iter_mut().filter(|tensor| tensor.ne.len() == 2) {
        let now = TensorType::from_ggml_id(tensor.type_id).unwrap();
        let kind = kind(std::str::from_utf8(&tensor.name).unwrap());
        tensor.data = quantise::encode(kind, &quantise::decode(now, &tensor.data));
        tensor.type_id = type_id(kind);
    }
}

/// The token after `prompt` and the ones after that, the most likely every time.
fn answer(engine: &Arc<Engine>, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut sequence = sequences(engine, 1, prompt.len() + count);
    let best = |logits: &[f32]| (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32;
    let mut tokens = vec![best(&sequence.prefill(&[prompt.to_vec()]).unwrap()[0])];
    while tokens.len() < count {
        tokens.push(best(&sequence.step(&[tokens[tokens.len() - 1]]).unwrap()[0]));
    }
    tokens
}

/// Decoding is exact, so a quantised model and its values as floats say the same.
#[test]
fn a_quantised_model_answers_as_its_values_in_floats() {
    for (index, kind) in KINDS.into_iter().enumerate() {
        let spec = TinySpec { kind, tied: index % 2 == 1, seed: 60 + index as u64, ..TinySpec::default() }.filled();
        let file = spec.gguf();
        let mut floats = spec.gguf();
        convert(&mut floats, |_| TensorType::F32);
        let prompt = [3, 141, 59, 26, 5];
        let [found, expected] = [&file, &floats].map(|file| answer(&load(&gpu(), &files(file)), &prompt, 12));
        assert_eq!(found, expected, "{kind}");
    }
}

/// Files as llama.cpp writes them: a name of one type, and others where they matter most or where rows are not whole blocks.
#[test]
fn the_mixtures_of_real_files() {
    let name = |tensor| gguf_name(TensorRole::Layer(0, tensor));
    let [v, down] = [LayerTensor::V, LayerTensor::Down].map(name);
    // Q4_K_M: Q6_K for the head and half of v and down. Q5_0 and Q8_0 for Q4_K and Q6_K where 256 does not divide the width.
    let wide = TinySpec { kind: TensorType::Q4K, tied: false, seed: 31, ..TinySpec::default() }.filled();
    let narrow = TinySpec { channels: 256, hidden: 192, tied: true, seed: 32, ..TinySpec::default() };
    let cases = [
        ("Q4_K_M", wide, TensorType::Q4K, TensorType::Q6K),
        ("Q4_K_M of a narrow model", narrow, TensorType::Q5_0, TensorType::Q8_0),
    ];
    for (case, spec, most, some) in cases {
        let mut file = TinySpec { kind: TensorType::F32, ..spec.clone() }.gguf();
        convert(&mut file, |tensor| match tensor {
            "output.weight" => some,
            "token_embd.weight" if spec.tied => some,
            tensor if tensor == down && spec.hidden == 192 => TensorType::Q6K,
            tensor if tensor == v || tensor == down => some,
            _ => most,
        });
        let (engine, reference) = device::pair(&files(&file));
        check(&engine, &reference, case);
    }
}
