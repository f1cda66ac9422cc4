//! Adapters that PEFT wrote against the logits that it gives with them. `make.py` beside this file makes the fixtures.

use crate::common::device::{assert_close, difference, gpu, load, tolerance};
use crate::common::reference::{Masks, Reference};
use crate::common::tiny_model::{TinySpec, write_hf_folder_with};
use safetensors::SafeTensors;
use secateur::config::Family;
use secateur::engine::{Engine, SequenceOptions, Sequences};
use secateur::model::ModelFiles;
use secateur::model::adapter::Adapter;
use secateur::prune::Knowledge;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

const CASES: &str = include_str!("../fixtures/adapter/cases.json");
const LOGITS: &[u8] = include_bytes!("../fixtures/adapter/logits.safetensors");

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    seed: u64,
    ids: Vec<u32>,
    config: Value,
}

impl Case {
    fn spec(&self) -> TinySpec {
        let number = |name: &str| self.config[name].as_u64().map(|value| value as usize);
        let (hidden, heads) = (number("hidden_size").unwrap(), number("num_attention_heads").unwrap());
        let family = Family::by_class(self.config["architectures"][0].as_str(), None).unwrap();
        let base = TinySpec {
            hidden,
            heads,
            layers: number("num_hidden_layers").unwrap(),
            kv_heads: number("num_key_value_heads").unwrap_or(heads),
            head_dim: number("head_dim").unwrap_or(hidden / heads),
            channels: number("intermediate_size").or(number("ffn_dim")).unwrap(),
            vocab: number("vocab_size").unwrap(),
            tied: self.config["tie_word_embeddings"].as_bool().unwrap_or(family.defaults.tie_word_embeddings),
            seed: self.seed,
            ..TinySpec::default()
        };
        TinySpec::of(family.gguf.unwrap(), base)
    }
}

pub fn logits(engine: &Arc<Engine>, ids: &[u32]) -> Vec<f32> {
    let (prune, known) = (Default::default(), Knowledge::default());
    let options = SequenceOptions { samples: 1, context: ids.len(), prune, known, live: false };
    Sequences::new(engine, options).unwrap().prefill(&[ids.to_vec()]).unwrap().remove(0)
}

/// From a folder, and from a GGUF file, whose rows of q and k lie otherwise.
#[test]
fn adapters_of_peft_give_its_logits() {
    let file = SafeTensors::deserialize(LOGITS).unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/adapter");
    for case in serde_json::from_str::<Fixture>(CASES).unwrap().cases {
        let (values, _) = file.tensor(&case.name).unwrap().data().as_chunks::<4>();
        let expected: Vec<f64> = values.iter().map(|&value| f64::from(f32::from_le_bytes(value))).collect();
        let (dir, spec) = (tempfile::tempdir().unwrap(), case.spec());
        write_hf_folder_with(dir.path(), &spec, &case.config);
        let from_folder = || ModelFiles::open(dir.path()).unwrap();
        let from_gguf = || ModelFiles::from_gguf_bytes("tiny.gguf", spec.gguf().to_bytes()).unwrap();
        for (what, files, base) in [("a folder", from_folder(), from_folder()), ("GGUF", from_gguf(), from_gguf())] {
            let (ids, named) = (&case.ids, format!("{}, {what}", case.name));
            let adapter = Adapter::open(&fixtures.join(&case.name), &files).unwrap();
            let files = files.adapted(&adapter).unwrap();
            let reference = Reference::new(&files);
            let run = reference.run_batch(std::slice::from_ref(ids), &mut Masks::new());
            let exact: Vec<f32> = reference.last_logits(&run.last[0]).into_iter().map(|logit| logit as f32).collect();
            // Merged values are rounded to 32 bits, as a sum is.
            let allowed = 2.0 * tolerance(&files.config, ids.len());
            assert_close(&exact, &expected, allowed, &format!("{named}: the reference"));
            assert_close(&logits(&load(&gpu(), &files), ids), &expected, 2.0 * allowed, &named);
            let bare = logits(&load(&gpu(), &base), ids);
            assert!(difference(&bare, &expected) > 0.05, "{named}: the adapter must show");
        }
    }
}
