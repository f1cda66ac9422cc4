//! Gradients and LLM-Pruner's importance against PyTorch, on tiny models that both sides make from the same numbers; `make.py` beside
//! this file makes the fixtures. The choices run in the engine. burn runs on its CPU backend, once on an adapter.
#![cfg(feature = "burn")]

#[path = "../common/mod.rs"]
mod common;
mod training;

use common::device::{self, assert_close, difference, files, gpu, load, tolerance};
use common::fixtures;
use common::reference::{self, Masks, Site};
use common::tiny_model::{POSITIONS, TinySpec, hf_name, write_hf_folder};
use safetensors::SafeTensors;
use secateur::Error;
use secateur::config::{Method, ModelConfig, PruneConfig, RopeLayout};
use secateur::engine::Scorer;
use secateur::model::{LayerTensor, ModelFiles, TensorRole};
use secateur::prune::{Fixed, Half, Origin, UnitSets, statics};
use secateur::tune::{
    self, Backend, Importance, LayerGradients, Options, Passes, Processor, Reduction, Step, Taylor, TrainOptions,
    Wanted, importance,
};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::LazyLock;

const CASES: &str = include_str!("../fixtures/tune/cases.json");
const VALUES: &[u8] = include_bytes!("../fixtures/tune/values.safetensors");

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    seed: u64,
    ids: Vec<Vec<u32>>,
    config: Value,
}

static VALUES_BY_NAME: LazyLock<BTreeMap<String, Vec<f64>>> = LazyLock::new(|| {
    let file = SafeTensors::deserialize(VALUES).expect("a fixture");
    file.iter().map(|(name, tensor)| (name.to_string(), fixtures::floats(tensor.data()))).collect()
});

fn cases() -> Vec<Case> {
    serde_json::from_str::<Fixture>(CASES).expect("a fixture").cases
}

fn case(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).expect("a case")
}

impl Case {
    fn spec(&self) -> TinySpec {
        fixtures::spec(&self.config, self.seed)
    }

    fn folder(&self) -> (tempfile::TempDir, ModelFiles) {
        let dir = tempfile::tempdir().expect("a folder");
        write_hf_folder(dir.path(), &self.spec());
        let files = ModelFiles::open(dir.path()).expect("a well-formed model");
        (dir, files)
    }

    fn gguf(&self) -> ModelFiles {
        files(&self.spec().gguf())
    }

    /// Indices, which are stored as floats like everything else.
    fn indices(&self, name: &str) -> Vec<u32> {
        self.value(name).iter().map(|&index| index as u32).collect()
    }

    fn value(&self, name: &str) -> &'static [f64] {
        let name = format!("{}/{name}", self.name);
        VALUES_BY_NAME.get(&name).unwrap_or_else(|| panic!("no value {name}"))
    }

    /// Importance of every head and channel of a layer, from PyTorch's rows and columns.
    fn units(&self, layer: usize, options: &Options) -> [Vec<f64>; 2] {
        let config = self.spec().config(RopeLayout::Halves);
        let (d, group) = (config.head_dim, config.group_size());
        let of = |tensor: &str, along: &str| {
            self.value(&format!("{}/{layer}/{tensor}/{along}", options.taylor.name())).to_vec()
        };
        let reduce = |members: &[f64]| match options.reduction {
            Reduction::Sum => members.iter().sum::<f64>(),
            Reduction::Max => members.iter().copied().fold(0.0, f64::max),
            Reduction::Prod => members.iter().product(),
        };
        let (q, o) = (of("q", "rows"), of("o", "columns"));
        let (k, v) = (of("k", "rows"), of("v", "rows"));
        let head = |head: usize| -> f64 {
            if options.whole_groups || group == 1 {
                let kv = head / group;
                let shared = |elements: &[f64], i: usize| -> f64 {
                    (kv * group..(kv + 1) * group).map(|head| elements[head * d + i]).sum()
                };
                (0..d).map(|i| reduce(&[shared(&q, i), k[kv * d + i], v[kv * d + i], shared(&o, i)])).sum()
            } else {
                (0..d).map(|i| reduce(&[q[head * d + i], o[head * d + i]])).sum()
            }
        };
        let (gate, up, down) = (of("gate", "rows"), of("up", "rows"), of("down", "columns"));
        let channel = |i: usize| reduce(&[gate[i], up[i], down[i]]);
        [(0..config.num_attention_heads).map(head).collect(), (0..config.intermediate_size).map(channel).collect()]
    }
}

fn options(taylor: Taylor) -> Options {
    Options { taylor, reduction: Reduction::Sum, whole_groups: false, layers: 0..2 }
}

/// How far gradients may lie from exact ones, relative to the largest of their matrix: a gradient has come through all of the
/// chain of sums that logits come through, and as many once more on its way back, where the product of a layer takes both a state and
/// a gradient, each with its own error.
fn gradient_tolerance(config: &ModelConfig, tokens: usize) -> f64 {
    2.0 * 3f64.sqrt() * tolerance(config, tokens)
}

fn close(found: &[f64], exact: &[f64], allowed: f64, what: &str) -> f64 {
    let found: Vec<f32> = found.iter().map(|&value| value as f32).collect();
    assert_close(&found, exact, allowed, what);
    difference(&found, exact)
}

const NAMES: [(&str, LayerTensor); 9] = [
    ("q", LayerTensor::Q),
    ("k", LayerTensor::K),
    ("v", LayerTensor::V),
    ("o", LayerTensor::O),
    ("gate", LayerTensor::Gate),
    ("up", LayerTensor::Up),
    ("down", LayerTensor::Down),
    ("attention_norm", LayerTensor::AttentionNorm),
    ("mlp_norm", LayerTensor::MlpNorm),
];

/// Logits, losses and the gradient of every weight of the layers.
fn check_gradients(case: &Case, files: &ModelFiles, processor: &Processor) {
    let (config, samples) = (&files.config, &case.ids);
    let (mut steps, what) = (Vec::new(), format!("{} on {}", case.name, processor.name()));
    let mut heard = |step: Step| {
        steps.push(step);
        Ok(())
    };
    let passes = Passes::forward(files, processor, samples, 0, &mut heard).unwrap();
    let allowed = tolerance(config, samples[0].len());
    let logits = passes.logits(0).unwrap();
    assert_close(&logits, case.value("logits"), allowed, &format!("{what}: logits"));
    // The engine on the same files.
    let mut scorer = Scorer::new(&load(&gpu(), files), 1, samples[0].len()).unwrap();
    let engine = scorer.last_logits(&samples[..1], &mut secateur::prune::Dense).unwrap().remove(0);
    let engine: Vec<f64> = engine.into_iter().map(f64::from).collect();
    assert_close(&logits, &engine, 2.0 * allowed, &format!("{what}: logits of the engine"));
    assert!(passes.logits(samples.len()).unwrap_err().is_user_fault());

    let (mut visited, mut worst) = (Vec::new(), 0.0f64);
    let wanted = Wanted { mean: true, squares: false };
    let mut visit = |layer: usize, gradients: &LayerGradients| {
        visited.push(layer);
        for (name, tensor) in NAMES {
            let found = gradients.mean(tensor)?;
            let exact = case.value(&format!("gradient/{layer}/{name}"));
            let case = format!("{what}: gradient of {}", hf_name(TensorRole::Layer(layer, tensor)));
            assert_close(&found, exact, gradient_tolerance(config, samples[0].len()), &case);
            worst = worst.max(difference(&found, exact));
        }
        assert!(matches!(gradients.mean(LayerTensor::QBias), Err(Error::Internal(_))));
        Ok(())
    };
    let losses = passes.backward(wanted, &mut heard, &mut visit).unwrap();
    println!("{what}: gradients off by {worst:.1e}");
    assert_eq!(visited, [1, 0]);
    close(&losses, case.value("loss"), allowed, &format!("{what}: losses"));
    let last = steps.last().unwrap();
    assert_eq!((last.done, steps.len()), (last.total, last.total), "every step is told once");
    let mean = losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(steps[0].loss.is_none() && (last.loss.unwrap() - mean).abs() < 1e-12);
}

#[test]
fn gradients_are_those_of_pytorch() {
    let case = case("grouped");
    let (_dir, files) = case.folder();
    check_gradients(&case, &files, &Processor::cpu());
}

/// Both backends give one result. burn tunes its kernels on the way, which is most of what this takes.
#[test]
fn gradients_on_an_adapter_are_those_of_pytorch() {
    let case = case("grouped");
    let (_dir, files) = case.folder();
    let processor = Processor::of_adapter(&gpu()).unwrap();
    assert_eq!(processor.backend(), Backend::Wgpu);
    check_gradients(&case, &files, &processor);
}

fn judge(files: &ModelFiles, case: &Case, options: &Options) -> Importance {
    importance(files, &Processor::cpu(), &case.ids, options, &mut |_| Ok(())).unwrap()
}

/// Every order, heads alone and in groups, from a folder; from a GGUF file, whose rows of q and k are in another order.
#[test]
fn importance_is_that_of_pytorch() {
    for case in cases() {
        let (_dir, folder) = case.folder();
        let gguf = case.gguf();
        assert_eq!(gguf.config.rope_layout, RopeLayout::Adjacent);
        let mut worst = 0.0f64;
        for taylor in Taylor::ALL {
            for (whole_groups, reduction, files) in [
                (false, Reduction::Sum, &folder),
                (true, Reduction::Sum, &folder),
                (true, Reduction::Max, &gguf),
                (false, Reduction::Prod, &gguf),
            ] {
                let options = Options { whole_groups, reduction, ..options(taylor) };
                let found = judge(files, &case, &options);
                // A product of as many as four values has the errors of all of them, a square twice that of its root.
                let factors = if reduction == Reduction::Prod { 4.0 } else { 1.0 }
                    * if taylor.uses_squares() { 2.0 } else { 1.0 };
                let allowed = factors * gradient_tolerance(&files.config, case.ids[0].len());
                for (layer, [heads, channels]) in found.layers.iter().enumerate() {
                    let [exact_heads, exact_channels] = case.units(layer, &options);
                    let what = format!("{}, {options:?}, layer {layer}", case.name);
                    worst = worst.max(close(heads, &exact_heads, allowed, &format!("{what}: heads")) / factors);
                    worst =
                        worst.max(close(channels, &exact_channels, allowed, &format!("{what}: channels")) / factors);
                }
                let loss = case.value("loss").iter().sum::<f64>() / case.ids.len() as f64;
                assert!((found.loss / loss - 1.0).abs() < tolerance(&files.config, case.ids[0].len()));
            }
        }
        println!("{}: importance off by {worst:.1e}", case.name);
    }
}

fn prune(whole_groups: bool) -> PruneConfig {
    let method = Method::Masks;
    PruneConfig { method, ratio: 0.5, whole_groups, dense_layers: 0, tile: 8, ..PruneConfig::default() }
}

/// The best of `scores`, ascending.
fn best(scores: &[f64], count: usize) -> Vec<u32> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut kept: Vec<u32> = order[..count].iter().map(|&unit| unit as u32).collect();
    kept.sort_unstable();
    kept
}

fn theirs(half: Half) -> reference::Half {
    match half {
        Half::Attention => reference::Half::Attention,
        Half::Mlp => reference::Half::Mlp,
    }
}

/// The units that PyTorch's importance keeps, in a file, are those that the engine runs.
#[test]
fn choices_are_those_of_pytorch_and_run_in_the_engine() {
    let case = case("grouped");
    let files = case.gguf();
    let (engine, reference) = device::pair(&files);
    let sha256 = files.sha256().unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (taylor, whole_groups) in [(Taylor::ParamFirst, false), (Taylor::ParamMix, true), (Taylor::Vectorize, true)] {
        let options = Options { whole_groups, ..options(taylor) };
        let found = judge(&files, &case, &options);
        let origin = Origin::of_method(&sha256, &prune(whole_groups), None);
        let units = statics::by_scores(&files.config, &prune(whole_groups), &found.layers, origin).unwrap();
        let mut masks = Masks::new();
        for (layer, kept) in units.layers.iter().enumerate() {
            let exact = case.units(layer, &options);
            for (half, count) in [(Half::Attention, 2), (Half::Mlp, 24)] {
                let kept = &kept.half(half).expect("a choice").kept;
                assert_eq!(*kept, best(&exact[half.index()], count), "{taylor:?}, layer {layer}, {half:?}");
                masks.insert(Site { layer, half: theirs(half) }, kept.clone());
            }
        }
        let path = dir.path().join("units.safetensors");
        units.save(&path).unwrap();
        let read = UnitSets::open(&path, &files.config, &sha256).unwrap();
        assert_eq!(read, units);
        let mut fixed = Fixed::new(engine.gpu(), &files.config, &read).unwrap();
        let mut scorer = Scorer::new(&engine, 1, case.ids[0].len()).unwrap();
        let logits = scorer.last_logits(&case.ids[..1], &mut fixed).unwrap().remove(0);
        let run = reference.run_batch(&case.ids[..1], &mut masks);
        let exact = reference.last_logits(&run.last[0]);
        assert_close(&logits, &exact, tolerance(&files.config, case.ids[0].len()), &format!("{taylor:?}"));
        let dense = reference.last_logits(&reference.run_batch(&case.ids[..1], &mut Masks::new()).last[0]);
        assert!(difference(&logits, &dense) > 1e-2, "pruning shows");
    }
}

#[test]
fn dense_layers_are_not_judged() {
    let case = case("grouped");
    let (_dir, files) = case.folder();
    let mut steps = 0;
    let options = Options { layers: 1..2, ..options(Taylor::ParamFirst) };
    let found = importance(&files, &Processor::cpu(), &case.ids, &options, &mut |step| {
        steps = step.total;
        Ok(())
    })
    .unwrap();
    assert!(found.layers[0].iter().all(Vec::is_empty));
    assert_eq!(steps, 3 * (2 + 1 + 1), "what is not judged is not run backwards");
    assert_eq!(found.layers[1], judge(&files, &case, &self::options(Taylor::ParamFirst)).layers[1]);
    // Scores of a layer that is to be pruned must be there.
    let origin = Origin::of_method("", &prune(false), None);
    let error = statics::by_scores(&files.config, &prune(false), &found.layers, origin.clone()).unwrap_err();
    assert!(error.is_user_fault() && error.to_string().contains("layer 0 has 0 scores"), "{error}");
    let error = statics::by_scores(&files.config, &prune(false), &found.layers[1..], origin).unwrap_err();
    assert!(error.is_user_fault() && error.to_string().contains("1 layers for a model of 2"), "{error}");
}

#[test]
fn what_cannot_run_is_refused_with_the_reason() {
    let case = case("grouped");
    let (_dir, files) = case.folder();
    let refused = |files: &ModelFiles, samples: &[Vec<u32>], part: &str| {
        let error =
            importance(files, &Processor::cpu(), samples, &options(Taylor::ParamFirst), &mut |_| Ok(())).unwrap_err();
        assert!(error.is_user_fault() && error.to_string().contains(part), "{error}");
    };
    refused(&files, &[], "no sample");
    refused(&files, &[vec![1]], "samples of 1 tokens");
    refused(&files, &[vec![1; POSITIONS + 1]], "512 at most");
    refused(&files, &[vec![1, 2, 3], vec![1, 2]], "sample 1 has 2 tokens");
    refused(&files, &[vec![1, 2], vec![1, 272]], "token id 272 of sample 1");
    refused(&common::device::files(&TinySpec::of("qwen2", case.spec()).gguf()), &case.ids, "Qwen2");
    refused(&common::device::files(&TinySpec::of("opt", case.spec()).gguf()), &case.ids, "OPT");
}

#[test]
fn a_loss_that_is_no_number_is_told() {
    let mut file = case("grouped").spec().gguf();
    for name in ["blk.0.ffn_up.weight", "blk.0.ffn_gate.weight", "blk.0.ffn_down.weight"] {
        let data = &mut file.tensor(name).data;
        for value in data.as_chunks_mut::<4>().0 {
            *value = 1e20f32.to_le_bytes();
        }
    }
    let samples = &case("grouped").ids;
    let error = importance(&files(&file), &Processor::cpu(), samples, &options(Taylor::ParamFirst), &mut |_| Ok(()))
        .unwrap_err();
    assert!(matches!(&error, Error::BadFile { what, .. } if what.contains("the loss of sample 0 is NaN")), "{error}");
}

#[test]
fn whoever_watches_can_end_it() {
    let case = case("grouped");
    let (_dir, files) = case.folder();
    // In the forward pass, in the head, in the backward pass.
    for end in [1, 7, 10] {
        let mut steps = 0;
        let mut heard = |step: Step| {
            steps = step.done;
            if step.done == end { Err(Error::Cancelled) } else { Ok(()) }
        };
        let ended = importance(&files, &Processor::cpu(), &case.ids, &options(Taylor::Vectorize), &mut heard);
        assert!(matches!(ended, Err(Error::Cancelled)));
        assert_eq!(steps, end, "nothing runs behind it");
    }
}

#[test]
fn memory_is_known_before() {
    let config = case("alone").spec().config(RopeLayout::Halves);
    let of = |samples, length, first, taylor| tune::needed_bytes(&config, (samples, length), first, taylor);
    let base = of(4, 64, 0, Taylor::ParamFirst);
    assert!(of(8, 64, 0, Taylor::ParamFirst) > base && of(4, 128, 0, Taylor::ParamFirst) > base);
    assert!(of(4, 64, 1, Taylor::ParamFirst) < base && of(4, 64, 0, Taylor::ParamMix) >= base);
    let train = |rank, length, gradual| {
        let options = TrainOptions { rank, ..training::options() };
        tune::training_bytes(&config, &options, length, gradual).unwrap()
    };
    let base_of_training = train(4, 64, false);
    assert!(train(5, 64, false) > base_of_training && train(4, 128, false) > base_of_training);
    assert!(train(4, 64, true) >= base_of_training);
    let processor = Processor::cpu();
    tune::check_memory(&processor, base, "try less").unwrap();
    if processor.memory_available().is_some() {
        let error = tune::check_memory(&processor, u64::MAX, "try less").unwrap_err();
        assert!(error.is_user_fault() && error.to_string().contains("try less"), "{error}");
    }
}
