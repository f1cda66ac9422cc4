//! Models that were converted: the engine runs what the file says, and floats as they were.

use super::{Sequences, check, sequences};
use crate::common::device::{self, Random, difference, gpu, load, tolerance};
use crate::common::tiny_model::{TinySpec, write_hf_folder};
use secateur::config::RopeScaling;
use secateur::engine::Engine;
use secateur::model::ModelFiles;
use secateur::model::convert::{Conversion, Permissions, Recipe, Words};
use secateur::text::{Special, Tokenizer, export};
use std::path::Path;
use std::sync::Arc;

fn convert(files: &ModelFiles, recipe: &str, target: &Path) -> ModelFiles {
    let exported = export(&files.text, files.config.vocab_size).unwrap();
    let words = Words { vocabulary: &exported.vocabulary, text: &files.text, adds_bos: exported.adds_bos };
    let conversion = Conversion::new(files, Recipe::by_name(recipe).unwrap(), &words, Permissions::default()).unwrap();
    conversion.write(target, &mut |_, _| Ok(())).unwrap();
    ModelFiles::open(target).unwrap()
}

fn logits(engine: &Arc<Engine>, ids: &[u32]) -> Vec<f32> {
    let mut sequence: Sequences = sequences(engine, 1, 16);
    sequence.prefill(&[ids.to_vec()]).unwrap().remove(0)
}

#[test]
fn a_folder_says_the_same_as_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 64.0,
    };
    let spec = TinySpec { hidden: 256, head_dim: 64, channels: 320, rope_scaling: Some(llama3), ..TinySpec::default() };
    write_hf_folder(&dir.path().join("folder"), &spec);
    let folder = ModelFiles::open(&dir.path().join("folder")).unwrap();
    let text = "the rain and <|im_start|>  it's\n12345 Ünï 你好";
    let ids = |files: &ModelFiles| Tokenizer::new(&files.text).unwrap().encode(text, Special::Parse).unwrap();
    let tokens = Random(3).ids(9, spec.vocab);
    let expected: Vec<f64> = logits(&load(&gpu(), &folder), &tokens).into_iter().map(f64::from).collect();
    // Every rounding of a weight moves a logit by as much at most, relatively, as a rounding of a sum.
    let rounding = [("F32", 0.0), ("F16", 2f64.powi(-11)), ("BF16", 2f64.powi(-8))];
    for (recipe, rounding) in rounding {
        let made = convert(&folder, recipe, &dir.path().join(format!("{recipe}.gguf")));
        assert_eq!(ids(&made), ids(&folder), "{recipe}");
        let found = logits(&load(&gpu(), &made), &tokens);
        let (off, allowed) =
            (difference(&found, &expected), tolerance(&folder.config, 9) * (1.0 + rounding * 2f64.powi(24)));
        assert!(off <= allowed, "{recipe}: {off:e} of {allowed:e}");
    }
    for recipe in ["Q8_0", "Q4_K_M", "Q3_K_M", "Q2_K", "IQ4_NL"] {
        let made = convert(&folder, recipe, &dir.path().join(format!("{recipe}.gguf")));
        assert_eq!(ids(&made), ids(&folder), "{recipe}");
        let (engine, reference) = device::pair(&made);
        check(&engine, &reference, recipe);
    }
}
