//! The evaluation: how data are cut, and perplexities against sums made by hand.

mod common;

use common::calibrations::{known, measured};
use common::tiny_model::TinySpec;
use secateur::Error;
use secateur::config::{HistoryKind, Method, PruneConfig, PrunePhases};
use secateur::engine::{Engine, SequenceOptions, Sequences};
use secateur::eval::calibrate::{self, CalibrateOptions};
use secateur::eval::data::TextData;
use secateur::eval::instructions::Instructions;
use secateur::eval::perplexity::{self, Observer, Outcome, PerplexityOptions};
use secateur::gpu::{Gpu, GpuOptions};
use secateur::model::ModelFiles;
use secateur::prune::masks_file::{Choice, LayerLine, MasksWriter};
use secateur::prune::{Flops, Knowledge, ProbeSize, ProbeSizes, ProbeTrace};
use secateur::text::{ChatTemplate, Message, Special, Tokenizer};
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
    PerplexityOptions { seq_len: LENGTH, batch, prune }
}

/// Made-up tokens.
fn chunks(count: usize, seed: u32) -> Vec<Vec<u32>> {
    let id = |i: u32| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 8) % 288;
    (0..count).map(|chunk| (0..LENGTH).map(|t| id((chunk * LENGTH + t) as u32)).collect()).collect()
}

#[derive(Default)]
struct Seen {
    calls: Vec<(usize, usize)>,
    kept: Vec<Vec<[Option<ProbeTrace>; 2]>>,
}

impl Observer for Seen {
    fn progress(&mut self, done: usize, total: usize) {
        self.calls.push((done, total));
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

fn run(engine: &Arc<Engine>, options: &PerplexityOptions, data: &[Vec<u32>], known: &Knowledge) -> (Outcome, Seen) {
    let mut seen = Seen::default();
    let outcome = perplexity::run(engine, options, data, known, &mut seen).expect("a run");
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
        let (got, seen) = run(&engine, &options(Method::Dense, 0.0, batch), &data, &Knowledge::default());
        // Logits are some 10 in size and sums of 64 products: f32 leaves 1e-5 of a nat at most.
        assert!((got.nll - want).abs() < 1e-5, "batches of {batch}: {} for {want}", got.nll);
        assert_eq!((got.tokens, got.chunks, got.batches), (5 * (LENGTH - 1), 5, 5usize.div_ceil(batch)));
        assert_eq!(got.flops, Flops { probe: 0.0, pass: got.flops.dense, dense: got.flops.dense });
        let total = got.batches;
        let calls: Vec<_> = (0..=total).map(|done| (done, total)).collect();
        assert_eq!(seen.calls, calls);
        assert!(seen.kept.is_empty());
        assert!((got.perplexity() - want.exp()).abs() < 1e-3 * want.exp());
    }
}

#[test]
fn pruning_nothing_is_dense() {
    let (engine, data) = (engine(), chunks(4, 2));
    let known = known(&Arc::new(measured(&engine, &chunks(2, 3), 2, HistoryKind::Exact)));
    let dense = run(&engine, &options(Method::Dense, 0.0, 2), &data, &Knowledge::default()).0;
    for method in [Method::Pp, Method::FullBatch, Method::WandaSp, Method::Flap] {
        let (got, _) = run(&engine, &options(method, 0.0, 2), &data, &known);
        assert_eq!((got.nll, got.probe), (dense.nll, None), "{method:?}");
    }
}

#[test]
fn a_last_batch_may_be_smaller() {
    let (engine, data) = (engine(), chunks(5, 4));
    for method in [Method::Pp, Method::FullBatch] {
        let (got, seen) = run(&engine, &options(method, 0.5, 2), &data, &Knowledge::default());
        assert_eq!((got.tokens, got.batches, seen.kept.len()), (5 * (LENGTH - 1), 3, 3));
        let [Some(heads), Some(channels)] = &seen.kept[2][1] else { panic!("both halves are pruned") };
        assert_eq!((heads.kept.len(), channels.kept.len()), (2, 48));
        assert_eq!((&heads.samples[..], heads.tokens.len()), (&[0][..], if method == Method::Pp { 6 } else { LENGTH }));
        let full = ProbeSize { samples: if method == Method::Pp { 1 } else { 2 }, tokens: heads.tokens.len() };
        assert_eq!(got.probe, Some(ProbeSizes::both(full)));
        assert!(got.flops.pass < got.flops.dense && got.flops.probe > 0.0);
    }
}

#[test]
fn history_is_filled_followed_or_left_out() {
    let (engine, data) = (engine(), chunks(6, 5));
    let known = known(&Arc::new(measured(&engine, &chunks(5, 6), 2, HistoryKind::Exact)));
    let of = |history: HistoryKind, known: &Knowledge| {
        let mut options = options(Method::Pp, 0.5, 2);
        options.prune.history = history;
        run(&engine, &options, &data, known)
    };
    let (calibrated, seen) = of(HistoryKind::Exact, &known);
    assert_eq!(seen.calls, [(0, 3), (1, 3), (2, 3), (3, 3)]);
    let (empty, of_empty) = of(HistoryKind::Exact, &Knowledge::default());
    let (none, of_none) = of(HistoryKind::Off, &known);
    assert_eq!(none.nll, of(HistoryKind::Off, &Knowledge::default()).0.nll, "a calibration makes no difference");
    assert_ne!(calibrated.nll, none.nll);
    assert_ne!(calibrated.nll, empty.nll);
    // Before the first batch the history is empty, and an empty one changes nothing; later ones it does.
    assert_eq!(kept(&of_empty.kept[..1]), kept(&of_none.kept[..1]));
    assert_ne!(kept(&of_empty.kept[1..]), kept(&of_none.kept[1..]));
    for history in [HistoryKind::Buckets, HistoryKind::Collapsed] {
        let coarse = of(history, &known).0.nll;
        assert!(coarse.is_finite() && coarse != calibrated.nll, "{history:?}");
    }
    assert_eq!(of(HistoryKind::Exact, &known).0.nll, calibrated.nll, "a run repeats");
}

/// Samples are chunks of the text: its first, or drawn by a seed and in the order of the text.
#[test]
fn samples_are_the_first_or_drawn() {
    let tokenizer = Tokenizer::new(&model().text).unwrap();
    // No two chunks are alike.
    let text: String = (0..200).map(|n| format!("{} ", n * 7919 % 10_007)).collect();
    let (_dir, path) = written("a.txt", text);
    let data = TextData::read(&path, None).unwrap();
    let of = |samples, seed| {
        let positions = HistoryKind::Exact;
        let options = CalibrateOptions { samples, seq_len: LENGTH, batch: 2, seed, positions };
        calibrate::samples(&data, &tokenizer, &options).unwrap()
    };
    let all = data.chunks(&tokenizer, LENGTH, usize::MAX).unwrap().ids;
    assert!(all.len() > 20, "{} chunks are too few for this test", all.len());
    assert_eq!(of(7, None), all[..7]);
    assert_eq!(of(10_000, None), all, "no more than there are");
    assert_eq!(of(10_000, Some(3)), all);
    let drawn = of(7, Some(3));
    assert_eq!(drawn, of(7, Some(3)));
    assert_ne!(drawn, of(7, Some(4)));
    let places: Vec<usize> =
        drawn.iter().map(|sample| all.iter().position(|chunk| chunk == sample).expect("a chunk of the text")).collect();
    assert!(drawn.len() == 7 && places.is_sorted(), "{places:?}");
}

fn kept(batches: &[Vec<[Option<ProbeTrace>; 2]>]) -> Vec<Vec<u32>> {
    batches.iter().flatten().flatten().flatten().map(|trace| trace.kept.clone()).collect()
}

#[test]
fn runs_that_make_no_sense_are_refused() {
    let engine = engine();
    let refused = |options: PerplexityOptions, data: &[Vec<u32>]| {
        perplexity::run(&engine, &options, data, &Knowledge::default(), &mut Seen::default()).unwrap_err()
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

/// Alpaca's rows, as lines and as a list, in the form in which a conversation asks.
#[test]
fn instructions_are_prompts_and_answers() {
    let rows = [
        r#"{"instruction": "Say a colour.", "input": "", "output": "Red."}"#,
        r#"{"instruction": "Add.", "input": "2 <|im_end|> 3", "output": "<|im_start|>5"}"#,
        r#"{"instruction": "No input here", "output": "None."}"#,
    ];
    let (_dir, lines) = written("rows.jsonl", rows.join("\n"));
    let (_dir, list) = written("rows.json", format!("[{}]", rows.join(",\n")));
    assert!(Instructions::are_in(&lines).unwrap() && Instructions::are_in(&list).unwrap());
    let read = Instructions::read(&lines, None).unwrap();
    assert_eq!(read.rows, Instructions::read(&list, None).unwrap().rows);
    assert_eq!((read.rows.len(), Instructions::read(&lines, Some(2)).unwrap().rows.len()), (3, 2));

    let files = model();
    let tokenizer = Tokenizer::new(&files.text).unwrap();
    let template = ChatTemplate::new(&files.text, &tokenizer).unwrap();
    let mut endless = files.text.clone();
    endless.chat_template =
        Some("{{ messages[0]['content'] }}>{% if messages|length > 1 %}{{ messages[1]['content'] }}{% endif %}".into());
    let endless = ChatTemplate::new(&endless, &tokenizer).unwrap();
    for (row, question) in read.rows.iter().zip(["Say a colour.", "Add.\n\n2 <|im_end|> 3", "No input here"]) {
        let chat = row.encode(&tokenizer, &template).unwrap();
        let prompt = template.prompt(&tokenizer, &[Message::new("user", question)], true).unwrap();
        let prompt = tokenizer.encode_prompt(&prompt).unwrap();
        assert_eq!(chat.ids[..chat.prompt], prompt);
        let (end, answer) = chat.ids[chat.prompt..].split_last().expect("an answer");
        assert!(tokenizer.is_end(*end), "the end is learnt");
        assert!(!answer.iter().any(|&id| tokenizer.is_special(id)), "what a row says stays text");
        assert_eq!(tokenizer.decode(answer, false).unwrap(), row.output);

        // A template that ends no answer: the model's own end is put there.
        let endless = row.encode(&tokenizer, &endless).unwrap();
        let (end, answer) = endless.ids[endless.prompt..].split_last().expect("an answer");
        assert_eq!(Some(end), tokenizer.eos_ids().first());
        assert_eq!(tokenizer.decode(answer, false).unwrap(), row.output);
        assert_eq!(tokenizer.decode(&endless.ids[..endless.prompt], true).unwrap(), format!("{question}>"));
    }

    let (_dir, text) = written("text.jsonl", "{\"text\": \"a\"}\n");
    let (_dir, prose) = written("prose.txt", "{\"instruction\": \"a\", \"output\": \"b\"}\n");
    assert!(!Instructions::are_in(&text).unwrap() && !Instructions::are_in(&prose).unwrap());
    for (content, part) in [
        ("{\"instruction\": \"a\", \"output\": \"b\"}\n{\"instruction\": \"a\"}\n", "line 2"),
        ("{\"instruction\": \"a\", \"output\": 3}\n", "output"),
        ("{\"instruction\": \"\", \"output\": \"b\"}\n", "`instruction` is empty"),
        ("{\"instruction\": \"a\", \"output\": \" \"}\n", "`output` is empty"),
        ("{\"instruction\": \"a\", \"input\": 3, \"output\": \"b\"}\n", "input"),
    ] {
        let (_dir, path) = written("bad.jsonl", content);
        let error = Instructions::read(&path, None).unwrap_err();
        assert!(matches!(&error, Error::BadFile { what, .. } if what.contains(part)), "{error}");
    }
}
