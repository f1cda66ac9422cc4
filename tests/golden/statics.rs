//! The static methods, decided from the golden calibration samples.

use super::{FIRST, LAYERS, LENGTH, SAMPLES, assert_last_logits, assert_likelihoods, calibrated, calibration, shared};
use secateur::config::{Method, PruneConfig};
use secateur::engine::Scorer;
use secateur::prune::Half;

fn settings(method: Method) -> PruneConfig {
    PruneConfig { method, ratio: 0.4, ..PruneConfig::default() }
}

#[test]
fn wanda_keeps_the_same_units() {
    let (shared, _turn) = shared();
    let golden = &shared.golden;
    let units = shared.engine.static_units(&settings(Method::WandaSp), &calibration(shared)).expect("a choice");
    for (half, name) in [(Half::Attention, "wanda40.attn_keep"), (Half::Mlp, "wanda40.mlp_keep")] {
        let golden = golden.indices(name);
        let per_layer = golden.len() / (LAYERS - FIRST);
        for layer in 0..LAYERS {
            let kept = units.layers[layer].half(half).map(|units| &units.kept[..]);
            let row = layer.checked_sub(FIRST).map(|row| &golden[row * per_layer..][..per_layer]);
            assert_eq!(kept, row, "{name} of layer {layer}");
        }
    }
}

#[test]
fn flap_keeps_as_many_units() {
    let (shared, _turn) = shared();
    let units = shared.engine.static_units(&settings(Method::Flap), &calibration(shared)).expect("a choice");
    let config = shared.engine.config();
    for layer in FIRST..LAYERS {
        let golden = ["a", "m"].map(|half| shared.golden.meta["flap40_kept"][format!("{half}{layer}")].as_u64());
        let counts = units.plan(config).layers[layer];
        let found = [counts.heads, counts.channels].map(|count| Some(count as u64));
        assert_eq!(found, golden, "heads and channels of layer {layer}");
    }
}

#[test]
fn likelihoods_of_static_methods_agree() {
    let (shared, _turn) = shared();
    let mut scorer = Scorer::new(&shared.engine, SAMPLES, LENGTH).expect("room");
    let batch = shared.golden.samples("eval_ids");
    for (name, method) in [("wanda40", Method::WandaSp), ("flap40", Method::Flap)] {
        let mut chooser = shared.engine.chooser(&settings(method), &calibrated(shared), LENGTH).expect("a choice");
        let nll = scorer.nll(&batch, chooser.prepare(SAMPLES, LENGTH).expect("room")).expect("a pass");
        assert_likelihoods(shared, name, &nll, 5e-3);
        let logits = scorer.last_logits(&batch, chooser.prepare(SAMPLES, LENGTH).expect("room")).expect("a pass");
        assert_last_logits(shared, name, &logits);
    }
}
