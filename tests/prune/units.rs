//! Sets of units that hold for every input, in files and at work.

use super::{Bendable, bent, model, phases, theirs};
use crate::common::calibrations::MODEL_SHA256;
use crate::common::device::{Random, assert_close, tiny, tolerance};
use crate::common::reference::{Before, Half, Method as Choosing, Reference, Site};
use safetensors::Dtype;
use secateur::Error;
use secateur::config::{Method, ModelConfig, PruneConfig, RopeLayout};
use secateur::engine::{Scorer, SequenceOptions, Sequences};
use secateur::prune::{Frozen, Knowledge, LayerMasks, LayerUnits, Origin, UnitSets, Units};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn origin() -> Origin {
    let prune = PruneConfig { method: Method::WandaSp, ratio: 0.4, ..PruneConfig::default() };
    Origin::of_method(MODEL_SHA256, &prune, Some(("a text".into(), "cafe".into())))
}

/// Some units of every half but a few, biases for some of them.
fn made(config: &ModelConfig, seed: u64, biases: bool) -> UnitSets {
    let mut random = Random(seed);
    let mut half = |half: secateur::prune::Half, layer: usize| {
        let (total, _) = half.units(config);
        let count = 1 + random.below(total - 1);
        let kept = random.some_of(count, total);
        let value = |i: usize| (i as f32 * 0.37 + layer as f32).sin() * 0.1;
        let bias = (biases && layer % 2 == 1).then(|| (0..config.hidden_size).map(value).collect());
        (layer != 0 && random.below(4) > 0).then_some(Units { kept, bias })
    };
    let layers = (0..config.num_hidden_layers)
        .map(|layer| LayerUnits::new(half(theirs(Half::Attention), layer), half(theirs(Half::Mlp), layer)))
        .collect();
    UnitSets { origin: origin(), layers }
}

fn config(shape: usize) -> ModelConfig {
    model(shape, 1).config(RopeLayout::Adjacent)
}

#[test]
fn units_come_back_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    for (shape, biases) in [(0, false), (1, true), (2, true)] {
        let (config, path) = (config(shape), dir.path().join("units.safetensors"));
        let units = made(&config, 5 + shape as u64, biases);
        units.save(&path).unwrap();
        assert_eq!(UnitSets::open(&path, &config, MODEL_SHA256).unwrap(), units);
        let plan = units.plan(&config);
        for (layer, units) in units.layers.iter().enumerate() {
            let count = |half, all| units.half(half).map_or(all, |units| units.kept.len());
            let heads = count(theirs(Half::Attention), config.num_attention_heads);
            let channels = count(theirs(Half::Mlp), config.intermediate_size);
            assert_eq!((plan.layers[layer].heads, plan.layers[layer].channels), (heads, channels));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }
    // A set that keeps everything has no tensor at all.
    let (config, path) = (config(0), dir.path().join("all.safetensors"));
    let all = UnitSets { origin: origin(), layers: vec![LayerUnits::default(); config.num_hidden_layers] };
    all.save(&path).unwrap();
    assert_eq!(UnitSets::open(&path, &config, MODEL_SHA256).unwrap(), all);
    assert!(!all.plan(&config).prunes());
}

/// Of a file that another program made only the model's hash is needed.
#[test]
fn a_short_origin_is_enough() {
    let (dir, config) = (tempfile::tempdir().unwrap(), config(0));
    let path = dir.path().join("units.safetensors");
    let units = made(&config, 6, false);
    units.save(&path).unwrap();
    let short =
        bent(&fs::read(&path).unwrap(), |_, origin| *origin = serde_json::json!({"model_sha256": MODEL_SHA256}));
    fs::write(&path, short).unwrap();
    let opened = UnitSets::open(&path, &config, MODEL_SHA256).unwrap();
    assert_eq!(opened.layers, units.layers);
    assert_eq!((&opened.origin.made_by[..], &opened.origin.prune), ("masks", &None));
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn sets_that_cannot_be_are_refused() {
    let (dir, config) = (tempfile::tempdir().unwrap(), config(0));
    let path = dir.path().join("units.safetensors");
    let units = |attention: &[u32], bias: Option<Vec<f32>>| {
        let mut layers = vec![LayerUnits::default(); config.num_hidden_layers];
        layers[1] = LayerUnits::new(Some(Units { kept: attention.to_vec(), bias }), None);
        UnitSets { origin: origin(), layers }
    };
    units(&[1, 3], Some(vec![0.5; config.hidden_size])).save(&path).unwrap();
    let sound = fs::read(&path).unwrap();
    let refused = |bytes: &[u8], model: &ModelConfig, sha256: &str, parts: &[&str]| {
        let path = dir.path().join("bent.safetensors");
        fs::write(&path, bytes).unwrap();
        let error = UnitSets::open(&path, model, sha256).unwrap_err();
        assert!(error.is_user_fault(), "{error}");
        for part in parts {
            assert!(error.to_string().contains(part), "`{error}` lacks `{part}`");
        }
    };
    let open = |bytes: &[u8], parts: &[&str]| refused(bytes, &config, MODEL_SHA256, parts);
    refused(&sound, &config, &"b".repeat(64), &["another model", MODEL_SHA256, &"b".repeat(64)]);
    // 8 heads of hidden size 64 by 4 layers; a model that has fewer of each.
    let fewer = ModelConfig { num_attention_heads: 3, ..config.clone() };
    refused(&sound, &fewer, MODEL_SHA256, &["layer 1", "attention", "below 3"]);
    refused(&sound, &ModelConfig { num_hidden_layers: 1, ..config.clone() }, MODEL_SHA256, &["layer"]);
    refused(&sound, &ModelConfig { hidden_size: 32, ..config.clone() }, MODEL_SHA256, &["bias", "32", "64"]);
    for (kept, part) in [(&[][..], "no unit"), (&[3, 1], "ascend"), (&[1, 1], "ascend"), (&[1, 8], "below 8")] {
        let bytes = bent(&sound, |tensors, _| {
            let tensor = find(tensors, "layers.1.attention.kept");
            (tensor.2, tensor.3) = (vec![kept.len()], words(kept));
        });
        open(&bytes, &["layer 1", "attention", part]);
        assert!(units(kept, None).check_shape(&config).is_err());
    }
    let nan = bent(&sound, |tensors, _| {
        find(tensors, "layers.1.attention.bias").3[8..12].copy_from_slice(&words(&[0x7fc0_0000]))
    });
    open(&nan, &["layers.1.attention.bias", "element 2"]);
    let floats = bent(&sound, |tensors, _| find(tensors, "layers.1.attention.kept").1 = Dtype::F32);
    open(&floats, &["layers.1.attention.kept", "F32", "U32"]);
    open(&bent(&sound, |_, origin| origin["format"] = 7.into()), &["format 7", "update"]);
    open(&bent(&sound, |_, origin| *origin = serde_json::json!({})), &["model_sha256"]);
    for length in [0, 7, 60, sound.len() - 1] {
        open(&sound[..length], &["bent.safetensors"]);
    }
    let calibration = bent(&sound, |_, origin| *origin = serde_json::json!({"seq_len": 5}));
    open(&calibration, &["secateur masks"]);
    let missing = dir.path().join("missing");
    assert!(matches!(UnitSets::open(&missing, &config, MODEL_SHA256), Err(Error::Io { .. })));
    let three = UnitSets { origin: origin(), layers: vec![LayerUnits::default(); 3] };
    assert!(three.check_shape(&config).unwrap_err().to_string().contains("3 layers for a model of 4"));
    let bias = units(&[1], Some(vec![0.0; 3])).check_shape(&config).unwrap_err().to_string();
    assert!(bias.contains("64 values"), "{bias}");
}

fn find<'t>(tensors: &'t mut [Bendable], name: &str) -> &'t mut Bendable {
    tensors.iter_mut().find(|tensor| tensor.0 == name).expect("a tensor of that name")
}

/// Given units.
struct Given<'u>(&'u UnitSets);

impl Choosing for Given<'_> {
    fn choose(&mut self, _: &Reference, site: Site, _: &Before<'_>) -> Option<Vec<u32>> {
        self.0.layers[site.layer].half(theirs(site.half)).map(|units| units.kept.clone())
    }
}

/// The method `masks` runs what the same masks by hand run, to the bit; without biases that is the reference's pruned pass.
#[test]
fn units_of_a_file_run_as_masks_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    for shape in 0..3 {
        let (engine, reference) = tiny(&model(shape, 200 + shape as u64));
        let (gpu, config) = (engine.gpu(), engine.config());
        let written = |biases: bool, name: &str| -> (UnitSets, PathBuf) {
            let path = dir.path().join(name);
            let units = made(config, 40 + shape as u64, biases);
            units.save(&path).unwrap();
            (units, path)
        };
        let known = |path: &Path| {
            let units = UnitSets::open(path, config, MODEL_SHA256).unwrap();
            Knowledge { calibration: None, masks: Some(Arc::new(units)) }
        };
        let (units, path) = written(false, "plain");
        assert!(units.plan(config).prunes());
        let masks = LayerMasks::for_plan(gpu, config, &units.plan(config)).unwrap();
        for (masks, units) in masks.iter().zip(&units.layers) {
            for (half, mask) in [(Half::Attention, &masks.heads), (Half::Mlp, &masks.channels)] {
                let kept = units.half(theirs(half)).map(|units| &units.kept[..]);
                assert_eq!(kept.is_some(), mask.is_some());
                kept.into_iter().for_each(|kept| mask.as_ref().unwrap().set(gpu, kept, config.group_size()).unwrap());
            }
        }
        let batch = Random(6).batch(&[18, 7, 12], config.vocab_size);
        let mut scorer = Scorer::new(&engine, 3, 18).unwrap();
        let by_hand = scorer.nll(&batch, &mut Frozen { masks: &masks, compensation: None }).unwrap();
        let prune = PruneConfig { method: Method::Masks, ..PruneConfig::default() };
        let mut chooser = engine.chooser(&prune, &known(&path), 18).unwrap();
        assert_eq!(chooser.plan(), &units.plan(config));
        assert_eq!(scorer.nll(&batch, chooser.prepare(3, 18).unwrap()).unwrap(), by_hand);
        let logits = scorer.last_logits(&batch, chooser.prepare(3, 18).unwrap()).unwrap();
        let run = reference.run_batch(&batch, &mut Given(&units));
        for (logits, last) in logits.iter().zip(&run.last) {
            let exact = reference.last_logits(last);
            assert_close(logits, &exact, tolerance(config, 18), &format!("shape {shape}"));
        }
        // With biases something else comes out, in batches as in conversations.
        let (with, path) = written(true, "biases");
        assert_eq!(with.plan(config), units.plan(config));
        let mut chooser = engine.chooser(&prune, &known(&path), 18).unwrap();
        let biased = scorer.last_logits(&batch, chooser.prepare(3, 18).unwrap()).unwrap();
        let prune = PruneConfig { phases: phases(true, true), ..prune };
        let options = SequenceOptions { samples: 1, context: 40, prune, known: known(&path), live: false };
        let mut sequence = Sequences::new(&engine, options).unwrap();
        let mut last = sequence.prefill(&[batch[0][..10].to_vec()]).unwrap();
        batch[0][10..].iter().for_each(|&id| last = sequence.step(&[id]).unwrap());
        let exact: Vec<f64> = biased[0].iter().map(|&logit| f64::from(logit)).collect();
        assert_close(&last[0], &exact, 2.0 * tolerance(config, 18), &format!("shape {shape}: a conversation"));
        assert_ne!(biased[0], logits[0]);
    }
    // Nothing to run.
    let (engine, _) = tiny(&model(0, 200));
    let prune = PruneConfig { method: Method::Masks, ..PruneConfig::default() };
    let error = engine.chooser(&prune, &Knowledge::default(), 18).err().expect("no units").to_string();
    assert!(error.contains("--masks-in"), "{error}");
}
