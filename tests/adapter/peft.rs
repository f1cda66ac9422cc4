//! Adapters that PEFT wrote against the logits that it gives with them. `make.py` beside this file makes the fixtures.

use crate::common::device::{assert_close, difference, gpu, load, tolerance};
use crate::common::fixtures;
use crate::common::reference::{Masks, Reference};
use crate::common::tiny_model::write_hf_folder_with;
use safetensors::SafeTensors;
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
        let expected = fixtures::floats(file.tensor(&case.name).unwrap().data());
        let (dir, spec) = (tempfile::tempdir().unwrap(), fixtures::spec(&case.config, case.seed));
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
