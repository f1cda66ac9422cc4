//! Prompts on matrix units against the same kernels' tiles, on the real model; on adapters without such units there is nothing to run.

use super::{FIRST, LENGTH, SAMPLES, calibrated, perplexity, pp, shared};
use secateur::engine::{Engine, Scorer};
use secateur::format::WeightFormat;
use secateur::gpu::{Gpu, GpuOptions, Tier};
use secateur::kernels::matrix;
use secateur::kernels::shapes::Shaped;
use secateur::prune::{Dense, Frozen, LayerMasks, Plan};

/// How far a perplexity may move, relatively, when every factor of a product is rounded to 11 bits and units are the same.
const PERPLEXITY: f64 = 1e-3;
/// Units that change places when scores move by that rounding, as a share of those kept: those whose scores nearly tie, and all that
/// follows from them, for a layer sees what the layers before it kept.
const SWAPPED: f64 = 0.05;

#[test]
fn matrix_units_give_the_same_perplexities() {
    let (shared, _turn) = shared();
    let options = GpuOptions { tier: Some(Tier::Gpu), ..GpuOptions::default() };
    let gpu = Gpu::open(&options).expect("a GPU adapter");
    if gpu.matrix_units().is_none() {
        eprintln!("{} has no matrix units: no prompt runs on them", gpu.info().name);
        let asked = std::env::var_os("SECATEUR_TEST_MATRIX_UNITS").is_some();
        assert!(!asked, "SECATEUR_TEST_MATRIX_UNITS is set, and {} has no matrix units", gpu.info().name);
        return;
    }
    let engine = Engine::load(gpu, &shared.files, &mut |_| Ok(())).expect("the default model loads");
    let (gpu, config) = (engine.gpu(), engine.config());
    let batch = shared.golden.samples("eval_ids");
    let mut scorer = Scorer::new(&engine, SAMPLES, LENGTH).expect("room");
    let masks = LayerMasks::for_plan(gpu, config, &Plan::new(config, &pp(0.4))).expect("room");
    let mean = |nll: Vec<Vec<f32>>| perplexity(nll.concat().into_iter().map(f64::from));
    let mut chosen = Vec::new();
    let mut perplexities = Vec::new();
    for formats in [&[][..], &WeightFormat::ALL] {
        Shaped::ALL.iter().for_each(|&op| matrix::choose(gpu, op, formats));
        let dense = mean(scorer.nll(&batch, &mut Dense).expect("a pass"));
        let mut chooser = engine.chooser(&pp(0.4), &calibrated(shared), LENGTH).expect("room");
        let own = mean(scorer.nll(&batch, chooser.prepare(SAMPLES, LENGTH).expect("room")).expect("a pass"));
        chosen.push(chooser.trace().expect("a trace").expect("probes"));
        // The units that the tiles chose, whoever computes.
        for (mask, halves) in masks.iter().zip(&chosen[0]).skip(FIRST) {
            for (mask, trace) in [&mask.heads, &mask.channels].into_iter().zip(halves) {
                let kept = &trace.as_ref().expect("a probe").kept;
                mask.as_ref().expect("pruned").set(gpu, kept, config.group_size()).expect("a mask");
            }
        }
        let given = mean(scorer.nll(&batch, &mut Frozen { masks: &masks, compensation: None }).expect("a pass"));
        perplexities.push([("dense", dense), ("given units", given), ("own choice", own)]);
    }
    for ((name, tiles), (_, units)) in perplexities[0].into_iter().zip(perplexities[1]) {
        eprintln!("{name}: perplexity {tiles} on tiles, {units} on matrix units ({:+.2e})", units / tiles - 1.0);
        assert_ne!(tiles, units, "the two are not the same kernels");
        assert!(name == "own choice" || (units / tiles - 1.0).abs() < PERPLEXITY, "{name}: {units}, on tiles {tiles}");
    }
    let kept = |run: usize| chosen[run].iter().flatten().map(|half| half.as_ref().map_or(&[][..], |half| &half.kept));
    let total: usize = kept(0).map(<[u32]>::len).sum();
    let swapped: usize = kept(0).zip(kept(1)).map(|(a, b)| a.iter().filter(|unit| !b.contains(unit)).count()).sum();
    let probes = |run: usize| chosen[run].iter().flatten().flatten().map(|half| (&half.samples, &half.tokens));
    let moved = probes(0).zip(probes(1)).filter(|(a, b)| a.0 != b.0).count();
    let tokens = probes(0).zip(probes(1)).filter(|(a, b)| a.1 != b.1).count();
    eprintln!(
        "{swapped} of {total} kept units are others; of {} probes {moved} took other samples, {tokens} other tokens",
        probes(0).count()
    );
    assert!((swapped as f64) < SWAPPED * total as f64, "{swapped} of {total} kept units are others");
    let golden = shared.golden.perplexity("dense");
    let tiles = perplexities[0][0].1;
    assert!((tiles / golden - 1.0).abs() < 1e-3, "perplexity {tiles} on tiles, golden {golden}");
}
