//! Conversions of every family: the file that a folder becomes is the one that was written from the same numbers, and what GGUF
//! has no keys for is refused.

use super::{Case, cases};
use crate::common::device::{Random, assert_close, pair, tolerance};
use crate::common::reference::Masks;
use secateur::engine::Scorer;
use secateur::model::convert::{Conversion, Permissions, Recipe, Words};
use secateur::model::{ModelFiles, TensorRole, TensorType};
use secateur::prune::Dense;
use secateur::{Error, Result};
use std::path::Path;

fn convert(files: &ModelFiles, recipe: &str, target: &Path) -> Result<ModelFiles> {
    let exported = secateur::text::export(&files.text, files.config.vocab_size)?;
    let words = Words { vocabulary: &exported.vocabulary, text: &files.text, adds_bos: exported.adds_bos };
    Conversion::new(files, Recipe::by_name(recipe)?, &words, Permissions::default())?
        .write(target, &mut |_, _| Ok(()))?;
    ModelFiles::open(target)
}

/// Names and bytes of all tensors.
fn tensors(files: &ModelFiles) -> Vec<(String, Vec<u8>)> {
    files.tensors().map(|view| (view.name.to_owned(), view.bytes.to_vec())).collect()
}

#[test]
fn folders_become_the_files_of_their_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let mut refused = Vec::new();
    for case in cases() {
        let (_folder, files) = case.folder();
        let target = dir.path().join(format!("{}.gguf", case.name));
        let made = convert(&files, "F32", &target);
        let Some(written) = case.gguf(&files.config) else {
            let error = made.expect_err("a file that cannot say what the model does");
            assert!(
                matches!(&error, Error::Unsupported { .. }) && error.to_string().contains("in a GGUF file"),
                "{error}"
            );
            assert!(!target.exists());
            refused.push(case.name);
            continue;
        };
        let made = made.unwrap();
        let mut config = written.config.clone();
        config.name = made.config.name.clone();
        // One says how frequencies are scaled, the other by how much.
        assert_eq!(made.config.rope_frequencies().len(), config.rope_frequencies().len());
        config.rope_scaling = made.config.rope_scaling.clone();
        assert_eq!(made.config, config, "{}", case.name);
        let (made, written) = (tensors(&made), tensors(&written));
        let factors = |(name, _): &&(String, Vec<u8>)| name != "rope_freqs.weight";
        assert!(made.iter().filter(factors).eq(written.iter().filter(factors)), "{}", case.name);
    }
    assert_eq!(refused, ["qwen2-window", "smollm3-window"]);
}

/// Biases, shifts and positions stay floats; matrices are quantised, fused ones in one piece.
#[test]
fn quantised_files_of_every_family_run() {
    let dir = tempfile::tempdir().unwrap();
    let named = |name: &str| -> Case { cases().into_iter().find(|case| case.name == name).unwrap() };
    for (name, recipe) in
        [("opt", "Q4_0"), ("opt-behind", "Q8_0"), ("phi3", "Q5_1"), ("qwen2", "Q4_K_M"), ("qwen3", "IQ4_NL")]
    {
        let (_folder, files) = named(name).folder();
        let made = convert(&files, recipe, &dir.path().join(format!("{name}.gguf"))).unwrap();
        let floats = made.tensors().filter(|view| view.rows == 1);
        assert!(floats.into_iter().all(|view| view.kind == TensorType::F32), "{name}");
        if made.config.position_offset.is_some() {
            assert_eq!(made.tensor(TensorRole::PositionEmbedding).unwrap().kind, TensorType::F32);
        }
        assert!(made.is_quantised(), "{name}");
        let (engine, reference) = pair(&made);
        let ids = Random(7).ids(20, made.config.vocab_size);
        let found = Scorer::new(&engine, 1, 20).unwrap().last_logits(std::slice::from_ref(&ids), &mut Dense).unwrap();
        let run = reference.run_batch(std::slice::from_ref(&ids), &mut Masks::new());
        assert_close(&found[0], &reference.last_logits(&run.last[0]), tolerance(&made.config, 20), name);
    }
}
