//! LLaMA's relatives against transformers: the same tiny weights, the configuration as transformers writes it, its logits. From
//! folders and from GGUF files, in one piece, step by step, in padded batches. `make.py` beside this file makes the fixtures.

#[path = "../common/mod.rs"]
mod common;

mod converted;
mod pruned;
mod refused;

use common::device::{assert_close, difference, files, gpu, load, open, tolerance};
use common::fixtures;
use common::reference::{Masks, Reference};
use common::tiny_model::{TinySpec, write_hf_folder_with};
use safetensors::SafeTensors;
use secateur::config::{ModelConfig, Norms, RopeScaling};
use secateur::engine::{Engine, Scorer, SequenceOptions, Sequences};
use secateur::gpu::{GpuOptions, Tier};
use secateur::model::ModelFiles;
use secateur::prune::{Dense, Knowledge};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

const CASES: &str = include_str!("../fixtures/relatives/cases.json");
const LOGITS: &[u8] = include_bytes!("../fixtures/relatives/logits.safetensors");

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    seed: u64,
    ids: Vec<u32>,
    /// Tokens after which logits are known.
    positions: Vec<usize>,
    config: Value,
    /// By position.
    #[serde(skip)]
    logits: Vec<Vec<f64>>,
}

fn cases() -> Vec<Case> {
    let file = SafeTensors::deserialize(LOGITS).unwrap();
    let fixture: Fixture = serde_json::from_str(CASES).unwrap();
    let filled = |mut case: Case| {
        let values = fixtures::floats(file.tensor(&case.name).unwrap().data());
        case.logits = values.chunks_exact(values.len() / case.positions.len()).map(<[f64]>::to_vec).collect();
        case
    };
    fixture.cases.into_iter().map(filled).collect()
}

impl Case {
    fn spec(&self) -> TinySpec {
        fixtures::spec(&self.config, self.seed)
    }

    fn folder(&self) -> (tempfile::TempDir, ModelFiles) {
        let dir = tempfile::tempdir().unwrap();
        write_hf_folder_with(dir.path(), &self.spec(), &self.config);
        let files = ModelFiles::open(dir.path()).unwrap();
        (dir, files)
    }

    /// The same model as a GGUF file; `None` where such files cannot say what it does.
    fn gguf(&self, config: &ModelConfig) -> Option<ModelFiles> {
        let mut spec = self.spec();
        spec.rope_scaling = config.rope_scaling.clone();
        spec.blocks.sliding_window = config.blocks.sliding_window;
        let everywhere = config.blocks.full_attention_layers.is_empty();
        (everywhere && spec.blocks == config.blocks).then(|| files(&spec.gguf()))
    }

    /// Logits of an engine, in every way in which it makes them.
    fn check(&self, engine: &Arc<Engine>, what: &str) -> f64 {
        let (ids, name) = (&self.ids, format!("{} from {what}", self.name));
        // Both sides err.
        let allowed = 2.0 * tolerance(engine.config(), ids.len());
        let mut worst = 0.0f64;
        let mut close = |found: &[f32], position: usize, how: &str| {
            let at = self.positions.iter().position(|&known| known == position).expect("a known position");
            assert_close(found, &self.logits[at], allowed, &format!("{name}, {how} of {} tokens", position + 1));
            worst = worst.max(difference(found, &self.logits[at]));
        };
        let start = |samples: usize| {
            let (known, context) = (Knowledge::default(), ids.len());
            let options = SequenceOptions { samples, context, prune: Default::default(), known, live: false };
            Sequences::new(engine, options).unwrap()
        };
        let last = ids.len() - 1;
        close(&start(1).prefill(std::slice::from_ref(ids)).unwrap()[0], last, "a prompt");
        let mut steps = start(1);
        for (position, &id) in ids.iter().enumerate() {
            let logits = steps.step(&[id]).unwrap();
            if self.positions.contains(&position) {
                close(&logits[0], position, "steps");
            }
        }
        let batch: Vec<Vec<u32>> = self.positions.iter().map(|&position| ids[..=position].to_vec()).collect();
        let together = start(batch.len()).prefill(&batch).unwrap();
        let mut scorer = Scorer::new(engine, batch.len(), ids.len()).unwrap();
        let scored = scorer.last_logits(&batch, &mut Dense).unwrap();
        for ((&position, logits), scored) in self.positions.iter().zip(&together).zip(&scored) {
            close(logits, position, "padded prompts");
            close(scored, position, "a padded batch");
        }
        // A prompt, and an answer behind it.
        let mut answer = start(1);
        answer.prefill(&[ids[..last - 1].to_vec()]).unwrap();
        close(&answer.step(&[ids[last - 1]]).unwrap()[0], last - 1, "a step behind a prompt");
        close(&answer.step(&[ids[last]]).unwrap()[0], last, "a second step behind a prompt");
        worst
    }
}

#[test]
fn folders_and_gguf_files_give_the_logits_of_transformers() {
    let mut from_gguf = Vec::new();
    for case in cases() {
        let (_dir, folder) = case.folder();
        let reference = Reference::new(&folder);
        let run = reference.run_batch(std::slice::from_ref(&case.ids), &mut Masks::new());
        let exact = reference.logits(&run.last[0]);
        let allowed = tolerance(&folder.config, case.ids.len());
        for (&position, expected) in case.positions.iter().zip(&case.logits) {
            let found: Vec<f32> = exact[position].iter().map(|&logit| logit as f32).collect();
            assert_close(&found, expected, allowed, &format!("{}: the reference at {position}", case.name));
        }
        let worst = case.check(&load(&gpu(), &folder), "a folder");
        println!("{}: largest difference {worst:.1e}, allowed {:.1e}", case.name, 2.0 * allowed);
        if let Some(gguf) = case.gguf(&folder.config) {
            from_gguf.push(case.name.clone());
            case.check(&load(&gpu(), &gguf), "GGUF");
        }
    }
    let expected =
        ["llama3", "qwen2", "mistral", "mistral-full", "qwen3", "smollm3", "phi3", "phi3-window", "opt", "opt-behind"];
    assert_eq!(from_gguf, expected);
}

/// The kernel shapes meant for hardware run on any adapter, with the checks that a browser adds.
#[test]
fn kernel_shapes_for_hardware_give_the_same() {
    let gpu = open(&GpuOptions { tier: Some(Tier::Gpu), checked_shaders: true, ..GpuOptions::default() });
    for case in cases() {
        let (_dir, folder) = case.folder();
        case.check(&load(&gpu, &folder), "a folder, hardware shapes");
    }
}

/// What sets a case apart must show: without it, the logits are others.
#[test]
fn nothing_of_a_family_is_without_effect() {
    for case in cases() {
        let (_dir, folder) = case.folder();
        let logits = |config: ModelConfig| {
            let mut reference = Reference::new(&folder);
            reference.config = config;
            let run = reference.run_batch(std::slice::from_ref(&case.ids), &mut Masks::new());
            reference.last_logits(&run.last[0])
        };
        let whole = logits(folder.config.clone());
        let differs = |what: &str, bend: &dyn Fn(&mut ModelConfig)| {
            let mut config = folder.config.clone();
            bend(&mut config);
            if config != folder.config {
                let bent: Vec<f32> = logits(config).into_iter().map(|logit| logit as f32).collect();
                assert!(difference(&bent, &whole) > 1e-2, "{}: {what} must matter", case.name);
            }
        };
        differs("the window", &|config| config.blocks.sliding_window = None);
        differs("the layers of the window", &|config| config.blocks.full_attention_layers.clear());
        differs("layers without rope", &|config| config.blocks.no_rope_layers.clear());
        differs("learned positions", &|config| config.position_offset = None);
        differs("rows before the first position", &|config| {
            config.position_offset = config.position_offset.map(|offset| offset - 1)
        });
        differs("the place of norms", &|config| {
            config.blocks.norms = match config.blocks.norms {
                Norms::LayerBehind => Norms::LayerBefore,
                other => other,
            }
        });
        differs("head norms", &|config| config.blocks.qk_norm = false);
    }
}

#[test]
fn configurations_are_what_transformers_means() {
    let config = |name: &str| {
        let case = cases().into_iter().find(|case| case.name == name).unwrap();
        case.folder().1.config
    };
    let sliding = config("qwen2-window").blocks;
    assert_eq!((sliding.sliding_window, sliding.full_attention_layers), (Some(7), vec![0, 1]));
    assert_eq!(config("qwen2").blocks.sliding_window, None);
    assert_eq!(config("mistral").blocks.sliding_window, Some(6));
    assert_eq!(config("mistral-full").blocks, Default::default());
    let mixed = config("smollm3-window").blocks;
    assert_eq!(
        (mixed.sliding_window, mixed.full_attention_layers, mixed.no_rope_layers),
        (Some(5), vec![0, 2], vec![1])
    );
    assert_eq!(config("smollm3").blocks.no_rope_layers, [3]);
    assert!(matches!(config("llama3").rope_scaling, Some(RopeScaling::Llama3 { .. })));
    let families = ["llama3", "qwen2", "mistral", "qwen3", "smollm3", "phi3", "opt"]
        .map(|name| config(name).family_name().to_owned());
    assert_eq!(families, ["LLaMA", "Qwen2", "Mistral", "Qwen3", "SmolLM3", "Phi-3", "OPT"]);
    let (before, behind) = (config("opt"), config("opt-behind"));
    assert_eq!((before.blocks.norms, before.word_embed_proj_dim), (Norms::LayerBefore, None));
    assert_eq!((behind.blocks.norms, behind.word_embed_proj_dim), (Norms::LayerBehind, Some(64)));
    assert_eq!((before.position_offset, before.max_position_embeddings), (Some(2), 512));
}
