//! The evaluation: how data are cut, and perplexities against sums made by hand.

mod common;

use common::tiny_model::TinySpec;
use secateur::Error;
use secateur::config::{Method, PruneConfig, PrunePhases};
use secateur::engine::{Engine, SequenceOptions, Sequences};
use secateur::eval::data::TextData;
use secateur::eval::perplexity::{self, HistoryKind, Observer, Outcome, PerplexityOptions, Phase};
use secateur::gpu::{Gpu, GpuOptions};
use secateur::model::ModelFiles;
use secateur::prune::masks_file::{Choice, LayerLine, MasksWriter};
use secateur::prune::{Flops, ProbeSize, ProbeTrace};
use secateur::text::{Special, Tokenizer};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LENGTH: usize = 12;

fn model() -> ModelFiles {
    ModelFiles::from_gguf_bytes("tiny.gguf", TinySpec::default().gguf().to_bytes()).expect("a sound model")
}

fn engine() -> Arc<Engine> {
    let gpu = Gpu::open(&GpuOptions::default()).expect("an adapter");
    Engine::load(gpu, &model(), &mut |_| Ok(())).expect("a model")
}

fn written(name: &str, content: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join(name);
    fs::write(&path, content).expect("a file");
    (dir, path)
}

fn options(method: Method, ratio: f64, batch: usize) -> PerplexityOptions {
    let phases = PrunePhases { prefill: true, decode: false };
    let prune = PruneConfig { method, ratio, phases, dense_layers: 0, tile: 16, ..PruneConfig::default() };
    PerplexityOptions { seq_len: LENGTH, batch, prune, history: HistoryKind::Exact }
}

/// Made-up tokens.
fn chunks(count: usize, seed: u32) -> Vec<Vec<u32>> {
    let id = |i: u32| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 8) % 288;
    (0..count).map(|chunk| (0..LENGTH).map(|t| id((chunk * LENGTH + t) as u32)).collect()).collect()
}

#[derive(Default)]
struct Seen {
    calls: Vec<(Phase, usize, usize)>,
    kept: Vec<Vec<[Option<ProbeTrace>; 2]>>,
}

impl Observer for Seen {
    fn progress(&mut self, phase: Phase, done: usize, total: usize) {
        self.calls.push((phase, done, total));
    }

    fn wants_kept(&self) -> bool {
        true
    }

    fn kept(&mut self, batch: usize, layers: &[[Option<ProbeTrace>; 2]]) -> secateur::Result<()> {
        assert_eq!(batch, self.kept.len());
        self.kept.push(layers.to_vec());
        Ok(())
    }
}

fn run(
    engine: &Arc<Engine>,
    options: &PerplexityOptions,
    data: &[Vec<u32>],
    calibration: &[Vec<u32>],
) -> (Outcome, Seen) {
    let mut seen = Seen::default();
    let outcome = perplexity::run(engine, options, data, calibration, &mut seen).expect("a run");
    (outcome, seen)
}

#[test]
fn rows_are_joined_by_a_blank_line() {
    let (_dir, path) = written("a.jsonl", "{\"text\": \"one\", \"id\": 1}\n\n{\"text\": \"two\\nlines\"}\r\n");
    let data = TextData::read(&path, None).unwrap();
    assert_eq!(data.text, "one\n\ntwo\nlines");
    assert_eq!(TextData::read(&path, Some(4)).unwrap().text, "one\n");
}

#[test]
fn a_text_is_taken_as_it_is_and_cut_by_characters() {
    let (_dir, path) = written("a.raw", " ä\r\n{\"text\": 1}");
    let data = TextData::read(&path, None).unwrap();
    assert_eq!(data.text, " ä\r\n{\"text\": 1}");
    // sha256sum of these bytes.
    assert_eq!(data.sha256, "975f8547e02f5c9a118127f6309fd8861ed4522f13e83d4167ba68049b29f40f");
    assert_eq!(TextData::read(&path, Some(2)).unwrap().text, " ä");
    assert_eq!(TextData::read(&path, Some(100)).unwrap().text, data.text);
}

#[test]
fn chunks_are_consecutive_pieces_of_one_tokenisation() {
    let tokenizer = Tokenizer::new(&model().text).unwrap();
    let (_dir, path) = written("a.txt", "the rain and <|im_end|> the other rain");
    let data = TextData::read(&path, None).unwrap();
    let ids = tokenizer.encode(&data.text, Special::Text).unwrap();
    let cut = data.chunks(&tokenizer, 7, 100).unwrap();
    assert_eq!(cut.tokens, ids.len());
    assert_eq!(cut.ids.concat(), ids[..ids.len() / 7 * 7]);
    assert_eq!(data.chunks(&tokenizer, 7, 2).unwrap().ids, cut.ids[..2]);
    let needed = ids.len() + 1;
    let error = data.chunks(&tokenizer, needed, 1).unwrap_err();
    assert!(error.to_string().contains(&needed.to_string()) && error.to_string().contains(&ids.len().to_string()));
    assert!(matches!(data.chunks(&tokenizer, 1, 1), Err(Error::Setting(_))));
}

/// The sum by hand: one token after the other through the cache, the softmax in 64 bits.
fn naive_nll(engine: &Arc<Engine>, data: &[Vec<u32>]) -> f64 {
    let prune = PruneConfig::default();
    let mut sequences = Sequences::new(
        engine,
        SequenceOptions { samples: 1, context: LENGTH, prune, known: Knowledge::default(), live: false },
    )
    .unwrap();
    let mut losses = Vec::new();
    for chunk in data {
        sequences.clear().unwrap();
        let mut logits = sequences.prefill(&[chunk[..1].to_vec()]).unwrap();
        for &target in &chunk[1..] {
            let row: Vec<f64> = logits[0].iter().map(|&logit| f64::from(logit)).collect();
            let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log_sum = top + row.iter().map(|logit| (logit - top).exp()).sum::<f64>().ln();
            losses.push(log_sum - row[target as usize]);
            if losses.len() % (LENGTH - 1) != 0 {
                logits = sequences.step(&[target]).unwrap();
            }
        }
    }
    losses.iter().sum::<f64>() / losses.len() as f64
}

#[test]
fn dense_perplexity_is_that_of_the_logits() {
    let (engine, data) = (engine(), chunks(5, 1));
    let want = naive_nll(&engine, &data);
    for batch in [1, 2, 5, 9] {
        let (got, seen) = run(&engine, &options(Method::Dense, 0.0, batch), &data, &[]);
        // Logits are some 10 in size and sums of 64 products: f32 leaves 1e-5 of a nat at most.
        assert!((got.nll - want).abs() < 1e-5, "batches of {batch}: {} for {want}", got.nll);
        assert_eq!((got.tokens, got.chunks, got.batches), (5 * (LENGTH - 1), 5, 5usize.div_ceil(batch)));
        assert_eq!(got.flops, Flops { probe: 0.0, pass: got.flops.dense, dense: got.flops.dense });
        let total = got.batches;
        let calls: Vec<_> = (0..=total).map(|done| (Phase::Scoring, done, total)).collect();
        assert_eq!(seen.calls, calls);
        assert!(seen.kept.is_empty());
        assert!((got.perplexity() - want.exp()).abs() < 1e-3 * want.exp());
    }
}

#[test]
fn pruning_nothing_is_dense() {
    let (engine, data) = (engine(), chunks(4, 2));
    let dense = run(&engine, &options(Method::Dense, 0.0, 2), &data, &[]).0;
    for method in [Method::Pp, Method::FullBatch] {
        let (got, _) = run(&engine, &options(method, 0.0, 2), &data, &chunks(2, 3));
        assert_eq!((got.nll, got.probe), (dense.nll, None), "{method:?}");
    }
}

#[test]
fn a_last_batch_may_be_smaller() {
    let (engine, data) = (engine(), chunks(5, 4));
    for method in [Method::Pp, Method::FullBatch] {
        let (got, seen) = run(&engine, &options(method, 0.5, 2), &data, &[]);
        assert_eq!((got.tokens, got.batches, seen.kept.len()), (5 * (LENGTH - 1), 3, 3));
        let [Some(heads), Some(channels)] = &seen.kept[2][1] else { panic!("both halves are pruned") };
        assert_eq!((heads.kept.len(), channels.kept.len()), (2, 48));
        assert_eq!((&heads.samples[..], heads.tokens.len()), (&[0][..], if method == Method::Pp { 6 } else { LENGTH }));
        let full = ProbeSize { samples: if method == Method::Pp { 1 } else { 2 }, tokens: heads.tokens.len() };
        assert_eq!(got.probe, Some(full));
        assert!(got.flops.pass < got.flops.dense && got.flops.probe > 0.0);
    }
}

#[test]
fn history_is_filled_followed_or_left_out() {
    let (engine, data, calibration) = (engine(), chunks(6, 5), chunks(5, 6));
    let exact = options(Method::Pp, 0.5, 2);
    let off = PerplexityOptions { history: HistoryKind::Off, ..exact.clone() };
    let of = |options: &PerplexityOptions, calibration: &[Vec<u32>]| run(&engine, options, &data, calibration);
    let (calibrated, seen) = of(&exact, &calibration);
    assert_eq!(seen.calls[..4], [0, 1, 2, 3].map(|done| (Phase::Calibration, done, 3)));
    let (empty, _) = of(&exact, &[]);
    let (none, seen) = of(&off, &calibration);
    assert!(seen.calls.iter().all(|(phase, ..)| *phase == Phase::Scoring), "nothing is calibrated for nothing");
    assert_ne!(calibrated.nll, none.nll);
    // Before the first batch the history is empty, and an empty one changes nothing.
    let first = |options: &PerplexityOptions| run(&engine, options, &data[..2], &[]).1.kept;
    assert_eq!(kept(&first(&exact)), kept(&first(&off)));
    assert!(empty.nll.is_finite());
    assert_eq!(of(&exact, &calibration).0.nll, calibrated.nll, "a run repeats");
}

fn kept(batches: &[Vec<[Option<ProbeTrace>; 2]>]) -> Vec<Vec<u32>> {
    batches.iter().flatten().flatten().flatten().map(|trace| trace.kept.clone()).collect()
}

#[test]
fn runs_that_make_no_sense_are_refused() {
    let engine = engine();
    let refused = |options: PerplexityOptions, data: &[Vec<u32>]| {
        perplexity::run(&engine, &options, data, &[], &mut Seen::default()).unwrap_err()
    };
    assert!(matches!(refused(options(Method::Dense, 0.0, 0), &chunks(1, 0)), Error::Setting(_)));
    assert!(matches!(refused(options(Method::Dense, 0.0, 1), &[]), Error::Setting(_)));
    assert!(matches!(refused(options(Method::Pp, f64::NAN, 1), &chunks(1, 0)), Error::Setting(_)));
    let wide = PerplexityOptions { seq_len: 513, ..options(Method::Dense, 0.0, 1) };
    assert!(matches!(refused(wide, &[vec![0; 513]]), Error::PromptTooLong { .. }));
    assert!(matches!(refused(options(Method::Dense, 0.0, 1), &[vec![288; LENGTH]]), Error::Setting(_)));
}

#[test]
fn masks_are_whole_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("masks.jsonl");
    let trace =
        ProbeTrace { tokens: vec![0, 3], samples: vec![1], statistic: vec![0.5], scores: vec![], kept: vec![2, 7] };
    let mut masks = MasksWriter::create(&path).unwrap();
    masks.batch(4, &[[None, None], [None, Some(trace)]]).unwrap();
    // Read while the writer is still open: a batch is on the disk when it is written.
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<LayerLine> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let choice = Choice { kept: vec![2, 7], probe_tokens: vec![0, 3], probe_samples: vec![1] };
    assert_eq!(lines[0], LayerLine { batch: 4, layer: 0, heads: None, mlp: None });
    assert_eq!(lines[1], LayerLine { batch: 4, layer: 1, heads: None, mlp: Some(choice) });
    assert!(matches!(MasksWriter::create(Path::new("nowhere/masks.jsonl")), Err(Error::Io { .. })));
}
