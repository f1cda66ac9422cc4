//! Probe Pruning of what both files say: engines made from a folder and from a GGUF file keep what the reference keeps.

use super::cases;
use crate::common::device::{Random, assert_close, pair, tolerance};
use crate::common::reference::Half;
use crate::common::reference::probing::ProbePruning;
use secateur::config::{HistoryKind, Method, PruneConfig};
use secateur::engine::Scorer;
use secateur::model::ModelFiles;
use secateur::prune::Knowledge;

/// A choice closer than this, relative to the weakest kept, could go either way in 32 bits.
const CLOSE: f64 = 1e-5;

/// How many halves of layers one model chose for, all of them as the reference does.
fn check(files: &ModelFiles, batch: &[Vec<u32>], prune: &PruneConfig, what: &str) -> usize {
    let (engine, reference) = pair(files);
    let length = batch.iter().map(Vec::len).max().unwrap();
    let mut expected = ProbePruning::new(prune, None, false, None);
    let run = reference.run_batch(batch, &mut expected);
    let mut chooser = engine.chooser(prune, &Knowledge::default(), length).unwrap();
    let mut scorer = Scorer::new(&engine, batch.len(), length).unwrap();
    let found = scorer.last_logits(batch, chooser.prepare(batch.len(), length).unwrap()).unwrap();
    let traces = chooser.trace().unwrap().expect("probes");
    for (site, exact) in &expected.traces {
        let clear = exact.token_margin.min(exact.sample_margin).min(exact.score_margin);
        assert!(clear > CLOSE, "{what}, {site:?}: a margin of {clear:.1e} tells nothing; take another batch");
        let found = traces[site.layer][usize::from(site.half == Half::Mlp)].as_ref().expect("a probe");
        assert_eq!((&found.tokens, &found.samples), (&exact.tokens, &exact.samples), "{what}, {site:?}: the probe");
        assert_eq!(found.kept, exact.kept, "{what}, {site:?}: kept units");
    }
    for (sample, (found, last)) in found.iter().zip(&run.last).enumerate() {
        let allowed = tolerance(engine.config(), length);
        assert_close(found, &reference.last_logits(last), allowed, &format!("{what}, logits of sample {sample}"));
    }
    expected.traces.len()
}

#[test]
fn folders_and_gguf_files_are_pruned_alike() {
    let prune = PruneConfig {
        method: Method::Pp,
        ratio: 0.4,
        dense_layers: 0,
        tile: 8,
        probe_samples: 0.5,
        history: HistoryKind::Off,
        ..PruneConfig::default()
    };
    for case in cases() {
        let (_dir, folder) = case.folder();
        let batch = Random(400 + case.seed).batch(&[29, 40, 8, 17], folder.config.vocab_size);
        let sites = 2 * folder.config.num_hidden_layers;
        assert_eq!(check(&folder, &batch, &prune, &format!("{} from a folder", case.name)), sites);
        if let Some(gguf) = case.gguf(&folder.config) {
            assert_eq!(check(&gguf, &batch, &prune, &format!("{} from GGUF", case.name)), sites);
        }
    }
}
