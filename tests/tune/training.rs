//! LoRA's training against PyTorch's, step by step; what runs that are cut short, or that fail, leave behind; adapters in the engine.

use super::{Case, case, gradient_tolerance};
use crate::common::device::{assert_close, gpu, load, tolerance};
use secateur::Error;
use secateur::config::{Method, PruneConfig, RopeLayout};
use secateur::engine::Scorer;
use secateur::model::LayerTensor;
use secateur::model::ModelFiles;
use secateur::model::adapter::Adapter;
use secateur::prune::{Dense, Fixed, LayerUnits, Origin, UnitSets};
use secateur::tune::{Gradual, Processor, Sample, TARGETS, TrainOptions, Training, Units, check_training_samples};

/// Tokens of the first sample that are only read; as in `make.py`, like all settings below.
const PROMPT: usize = 5;

pub fn options() -> TrainOptions {
    TrainOptions {
        rank: 4,
        alpha: 8.0,
        targets: TARGETS.map(|(name, _)| name.to_string()).to_vec(),
        steps: 10,
        // All samples: their order makes no difference.
        batch: 3,
        learning_rate: 2e-2,
        warmup_steps: 2,
        weight_decay: 0.01,
        max_grad_norm: 0.5,
        seed: 5,
    }
}

fn samples(case: &Case) -> Vec<Sample> {
    let sample =
        |(number, ids): (usize, &Vec<u32>)| Sample { ids: ids.clone(), first: if number == 0 { PROMPT } else { 1 } };
    case.ids.iter().enumerate().map(sample).collect()
}

fn fixed() -> Units {
    let units = |kept: Vec<u32>| Some(secateur::prune::Units { kept, bias: None });
    let layers = vec![
        LayerUnits::new(units(vec![0, 3]), units((0..48).step_by(2).collect())),
        LayerUnits::new(units(vec![1, 2, 3]), units((16..48).collect())),
    ];
    Units::Fixed(UnitSets { origin: Origin::of_method("", &PruneConfig::default(), None), layers })
}

fn fewer() -> Units {
    let prune = PruneConfig { method: Method::Masks, ratio: 0.5, dense_layers: 0, tile: 8, ..PruneConfig::default() };
    Units::Fewer(Gradual { prune, every: 3, warmup: 0.1, cooldown: 0.1 })
}

fn training<'f>(files: &'f ModelFiles, options: TrainOptions, units: Units) -> Training<'f> {
    Training::new(files, &Processor::cpu(), samples(&case("grouped")), options, units).unwrap()
}

/// A factor behind the last step, and how far errors of its gradients sway it.
///
/// A step of AdamW is its rate times `m / v`, the mean of gradients and the root of the mean of their squares. Where gradients are off by a
/// share of the largest of their matrix, both means are by as much, and the step, as `m` is hardly larger than `v`, by twice that
/// over `v`. `sway` is the steps' sum of rate times largest over `v`. No step can be off by more than twice its rate.
struct Swayed {
    exact: &'static [f64],
    sway: &'static [f64],
    rates: f64,
}

impl Swayed {
    fn of(case: &Case, name: &str, rates: f64) -> Swayed {
        Swayed { exact: case.value(name), sway: case.value(&format!("{name}/sway")), rates }
    }

    /// How far each element may be off where gradients are by this share.
    fn allowed(&self, share: f64) -> impl Iterator<Item = f64> {
        // The last term is the rounding of the factor itself, once a step.
        let of = move |(exact, sway): (&f64, &f64)| {
            2.0 * (share * sway).min(self.rates) + 10.0 * f64::from(f32::EPSILON) * exact.abs()
        };
        self.exact.iter().zip(self.sway).map(of)
    }

    /// How far the matrix may be off, as a share of its norm.
    fn share(&self, share: f64) -> f64 {
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
        norm(&mut self.allowed(share)) / norm(&mut self.exact.iter().copied())
    }

    /// The largest error, as a share of what is allowed.
    fn check(&self, found: &[f32], share: f64, what: &str) -> f64 {
        assert_eq!(found.len(), self.exact.len(), "{what}");
        let mut worst = 0.0f64;
        for (element, ((&found, exact), allowed)) in found.iter().zip(self.exact).zip(self.allowed(share)).enumerate() {
            let off = (f64::from(found) - exact).abs();
            assert!(off <= allowed, "{what}, element {element}: {found} for {exact}, {allowed:.1e} allowed");
            worst = worst.max(off / allowed.max(f64::MIN_POSITIVE));
        }
        worst
    }
}

fn quietly(_: usize, _: usize) -> Result<(), Error> {
    Ok(())
}

fn run(training: &mut Training<'_>, steps: usize) {
    for _ in 0..steps {
        training.step(&mut quietly).unwrap().expect("a step is left");
    }
}

fn as_f64(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// Losses of every step and the factors behind the last, from a folder and from a GGUF file, whose rows of q and k are in another
/// order; with all units, with fixed ones, and with fewer and fewer, which are the same ones.
///
/// [`Swayed`] says how far factors may be off.
#[test]
fn steps_are_those_of_pytorch() {
    let case = case("grouped");
    let (_dir, folder) = case.folder();
    let gguf = case.gguf();
    let config = case.spec().config(RopeLayout::Halves);
    for (name, units) in [("all", Units::All), ("fixed", fixed()), ("fewer", fewer())] {
        for files in [&folder, &gguf] {
            let what = format!("{name}, {:?}", files.config.rope_layout);
            let mut training = training(files, options(), units.clone());
            let (mut ratios, mut worst) = (Vec::new(), 0.0f64);
            while let Some(step) = training.step(&mut quietly).unwrap() {
                assert_eq!((step.step, step.steps), (training.losses().len(), 10));
                assert!((step.learning_rate - options().learning_rate(step.step - 1)).abs() < 1e-12);
                ratios.push(step.ratio);
            }
            let allowed = gradient_tolerance(&config, case.ids[0].len());
            let rates: f64 = (0..10).map(|step| options().learning_rate(step)).sum();
            let exact = case.value(&format!("training-{name}/loss"));
            let losses: Vec<f32> = training.losses().iter().map(|&loss| loss as f32).collect();
            assert_close(&losses, exact, allowed, &format!("{what}: losses"));
            let adapter = training.adapter().unwrap();
            assert_eq!((adapter.rank(), adapter.scale()), (4, 2.0));
            for (short, tensor) in [("k", LayerTensor::K), ("down", LayerTensor::Down)] {
                let factors = &adapter.factors()[&(1, tensor)];
                let of = |letter: &str| Swayed::of(&case, &format!("training-{name}/1/{short}/{letter}"), rates);
                let (a, b) = (of("a"), of("b"));
                // Each factor's gradient is a product with the other one, whose errors are its own too.
                let of_a = allowed + b.share(allowed);
                let of_b = allowed + a.share(of_a);
                for (found, swayed) in [(&factors.a, &a), (&factors.b, &b)] {
                    // A worst case of every element is far off. What was measured is 10 times `allowed` of the largest.
                    assert_close(found, swayed.exact, 100.0 * allowed, &format!("{what}: {short}"));
                }
                worst = worst.max(a.check(&factors.a, of_a, &format!("{what}: {short}'s a")));
                worst = worst.max(b.check(&factors.b, of_b, &format!("{what}: {short}'s b")));
            }
            println!("{what}: factors off by {worst:.2} of what is allowed");
            if name != "fewer" {
                assert!(ratios.iter().all(Option::is_none));
                continue;
            }
            assert_eq!((ratios[0], ratios[9]), (Some(0.0), Some(0.5)));
            assert!(ratios.is_sorted());
            let kept = training.kept().expect("units");
            for (layer, units) in kept.layers.iter().enumerate() {
                for (half, name) in
                    [(secateur::prune::Half::Attention, "heads"), (secateur::prune::Half::Mlp, "channels")]
                {
                    let exact = case.indices(&format!("training-fewer/kept/{layer}/{name}"));
                    assert_eq!(units.half(half).expect("a choice").kept, exact, "{what}: {name} of layer {layer}");
                }
            }
        }
    }
}

/// What is written and read again goes on to the very same bits.
#[test]
fn a_run_that_was_cut_short_goes_on_as_if_it_had_not_been() {
    let case = case("grouped");
    let (_dir, files) = case.folder();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.safetensors");
    // Two of three samples a step: the order makes a difference.
    let options = TrainOptions { batch: 2, ..options() };
    for (units, at) in [(fewer(), 0), (fewer(), 2), (fewer(), 5), (fixed(), 3), (Units::All, 9), (Units::All, 10)] {
        let mut whole = training(&files, options.clone(), units.clone());
        run(&mut whole, 10);
        let mut first = training(&files, options.clone(), units.clone());
        run(&mut first, at);
        first.save(&path).unwrap();
        run(&mut first, 10 - at);
        let mut second = training(&files, options.clone(), units.clone());
        second.resume(&path).unwrap();
        assert_eq!(second.losses().len(), at);
        run(&mut second, 10 - at);
        for other in [&first, &second] {
            assert_eq!(other.losses(), whole.losses());
            assert_eq!(other.adapter().unwrap(), whole.adapter().unwrap());
            assert_eq!(other.kept(), whole.kept());
        }
        assert!(second.step(&mut quietly).unwrap().is_none(), "all steps are taken");
    }
    let training_of = |options: TrainOptions, units: Units| {
        let mut run = training(&files, options, units);
        run.resume(&path)
    };
    for (options, units) in [
        (TrainOptions { seed: 6, ..options.clone() }, Units::All),
        (TrainOptions { steps: 11, ..options.clone() }, Units::All),
        (options.clone(), fixed()),
        (options.clone(), fewer()),
    ] {
        let error = training_of(options, units).unwrap_err();
        assert!(matches!(&error, Error::BadFile { what, .. } if what.contains("other settings")), "{error}");
    }
    let mut other = samples(&case);
    other[1].first = 2;
    let mut run = Training::new(&files, &Processor::cpu(), other, options.clone(), Units::All).unwrap();
    assert!(run.resume(&path).unwrap_err().to_string().contains("other samples"));
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 40]).unwrap();
    assert!(matches!(training_of(options.clone(), Units::All).unwrap_err(), Error::BadFile { .. }));
    let units = folder.path().join("units.safetensors");
    let Units::Fixed(sets) = fixed() else { unreachable!() };
    sets.save(&units).unwrap();
    std::fs::rename(&units, &path).unwrap();
    let error = training_of(options, Units::All).unwrap_err();
    assert!(matches!(&error, Error::BadFile { what, .. } if what.contains("not a training run")), "{error}");
}

/// The next loss of a run is what the engine makes of its adapter, its units and the same text.
#[test]
fn an_adapter_runs_in_the_engine() {
    let case = case("grouped");
    let Units::Fixed(sets) = fixed() else { unreachable!() };
    let folder = tempfile::tempdir().unwrap();
    for (files, again) in [(case.folder().1, case.folder().1), (case.gguf(), case.gguf())] {
        let mut training = training(&files, options(), Units::Fixed(sets.clone()));
        run(&mut training, 4);
        let path = folder.path().join(format!("{:?}", files.config.rope_layout));
        training.adapter().unwrap().save(&path, "tiny", &files.sha256().unwrap()).unwrap();
        let next = training.step(&mut quietly).unwrap().expect("a step").loss;
        let adapter = Adapter::open(&path, &again).unwrap();
        let adapted = load(&gpu(), &again.adapted(&adapter).unwrap());
        let mut scorer = Scorer::new(&adapted, 3, case.ids[0].len()).unwrap();
        let mut units = Fixed::new(adapted.gpu(), &files.config, &sets).unwrap();
        let nll = scorer.nll(&case.ids, &mut units).unwrap();
        let mean = |nll: &[Vec<f32>]| {
            // Every sample has a loss for each of its tokens but the first.
            let learnt =
                nll.iter().enumerate().flat_map(|(number, nll)| &nll[if number == 0 { PROMPT - 1 } else { 0 }..]);
            let learnt = as_f64(&learnt.copied().collect::<Vec<f32>>());
            learnt.iter().sum::<f64>() / learnt.len() as f64
        };
        // An adapted matrix is rounded as the file stores it: to F32 here.
        let allowed = 2.0 * tolerance(&files.config, case.ids[0].len());
        assert!((mean(&nll) / next - 1.0).abs() < allowed, "{} in the engine, {next} in burn", mean(&nll));
        let dense = scorer.nll(&case.ids, &mut Dense).unwrap();
        assert!((mean(&dense) / next - 1.0).abs() > 1e-2, "units make a difference");
    }
}

/// A step that fails changes nothing: the run can be kept, and goes on.
#[test]
fn what_fails_leaves_the_last_good_step() {
    let case = case("grouped");
    let (_dir, files) = case.folder();
    let mut whole = training(&files, options(), fewer());
    run(&mut whole, 10);
    let mut stopped = training(&files, options(), fewer());
    for step in 0..10 {
        let ended = stopped.step(&mut |done, of| if done == 1 + step % of { Err(Error::Cancelled) } else { Ok(()) });
        assert!(matches!(ended, Err(Error::Cancelled)));
        run(&mut stopped, 1);
    }
    assert_eq!(stopped.losses(), whole.losses());

    // Rates that leave the range of 32-bit floats.
    let wild = TrainOptions { learning_rate: 1e30, warmup_steps: 0, ..options() };
    let mut training = training(&files, wild, Units::All);
    let mut taken = 0;
    let error = loop {
        match training.step(&mut quietly) {
            Ok(step) => taken = step.expect("it fails before its end").step,
            Err(error) => break error,
        }
    };
    assert_eq!(training.losses().len(), taken);
    assert!(training.losses().iter().all(|loss| loss.is_finite()));
    let text = error.to_string();
    assert!(
        error.is_user_fault() && text.contains(&format!("step {}", taken + 1)) && text.contains("--learning-rate"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_learnt_is_refused() {
    let case = case("grouped");
    let (_dir, files) = case.folder();
    let refused = |samples: &[Sample], part: &str| {
        let error = check_training_samples(&files.config, samples).unwrap_err();
        assert!(error.is_user_fault() && error.to_string().contains(part), "{error}");
        assert!(Training::new(&files, &Processor::cpu(), samples.to_vec(), options(), Units::All).is_err());
    };
    refused(&[], "no sample");
    refused(&[Sample { ids: vec![1, 2], first: 2 }], "no token to learn");
    refused(&[Sample { ids: vec![1, 2], first: 0 }], "no token to learn");
    refused(&[Sample::whole(vec![1; 513])], "513 tokens");
    refused(&[Sample::whole(vec![1, 2]), Sample::whole(vec![1, 272])], "token id 272 of sample 1");
    let fails = |options: TrainOptions, units: Units, part: &str| {
        let error = Training::new(&files, &Processor::cpu(), samples(&case), options, units).err().expect("an error");
        assert!(error.is_user_fault() && error.to_string().contains(part), "{error}");
    };
    fails(TrainOptions { rank: 0, ..options() }, Units::All, "--rank is 0");
    let only = |name: &str| TrainOptions { targets: vec![name.into()], ..options() };
    fails(only("gate_proj"), fewer(), "nothing of heads");
    fails(only("o_proj"), fewer(), "nothing of channels");
    fails(only("k_proj"), fewer(), "nothing of heads");
    let Units::Fixed(mut sets) = fixed() else { unreachable!() };
    sets.layers.pop();
    fails(options(), Units::Fixed(sets), "units of 1 layers");
}
