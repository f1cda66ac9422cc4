//! Prompts and answers: in one piece or in many, side by side or alone, cut back and gone on with.

use super::{sequences, tolerance};
use crate::common::device::{Random, assert_close, files, load, pair, tiny};
use crate::common::gguf_writer::Meta;
use crate::common::reference::Masks;
use crate::common::tiny_model::TinySpec;
use secateur::Error;
use secateur::config::ModelConfig;
use secateur::engine::{Engine, Scorer, Sequences};
use secateur::model::TensorType;
use secateur::prune::{Dense, Knowledge};
use std::sync::Arc;

fn model(seed: u64) -> (Arc<Engine>, crate::common::reference::Reference) {
    tiny(&TinySpec { seed, heads: 6, kv_heads: 2, ..TinySpec::default() })
}

fn exact(row: &[f32]) -> Vec<f64> {
    row.iter().copied().map(f64::from).collect()
}

/// Two roads of the engine to the same logits: each may be off by the tolerance.
#[track_caller]
fn assert_same(config: &ModelConfig, tokens: usize, found: &[f32], other: &[f32], case: &str) {
    assert_close(found, &exact(other), 2.0 * tolerance(config, tokens), case);
}

#[test]
fn padding_is_as_if_it_were_not_there() {
    let (engine, reference) = model(11);
    let lengths = [4, 19, 2, 33, 1];
    let batch = Random(3).batch(&lengths, 288);
    let run = reference.run_batch(&batch, &mut Masks::new());
    let together = sequences(&engine, 5, 40).prefill(&batch).unwrap();
    for (sample, prompt) in batch.iter().enumerate() {
        let case = format!("{} of 33 tokens", prompt.len());
        let alone = sequences(&engine, 1, 40).prefill(std::slice::from_ref(prompt)).unwrap();
        assert_same(engine.config(), 33, &together[sample], &alone[0], &case);
        let exact = reference.last_logits(&run.last[sample]);
        assert_close(&together[sample], &exact, tolerance(engine.config(), 33), &case);
    }
    // The scorer pads too, and what it padded with before must not matter.
    let mut scorer = Scorer::new(&engine, 4, 33).unwrap();
    let batch = &batch[..4];
    let first = scorer.nll(batch, &mut Dense).unwrap();
    scorer.nll(&Random(4).batch(&[33; 4], 288), &mut Dense).unwrap();
    assert_eq!(scorer.nll(batch, &mut Dense).unwrap(), first);
    for (sample, ids) in batch.iter().enumerate() {
        let alone = Scorer::new(&engine, 1, 33).unwrap().nll(std::slice::from_ref(ids), &mut Dense).unwrap();
        assert_same(engine.config(), 33, &first[sample], &alone[0], &format!("likelihoods of {} tokens", ids.len()));
    }
}

#[test]
fn prefill_is_the_same_as_step_by_step() {
    let (engine, reference) = model(12);
    let ids = Random(5).ids(70, 288);
    let run = reference.run_batch(std::slice::from_ref(&ids), &mut Masks::new());
    let exact = reference.logits(&run.last[0]);
    let mut steps = sequences(&engine, 1, 70);
    for (t, &id) in ids.iter().enumerate() {
        let logits = steps.step(&[id]).unwrap();
        assert_close(&logits[0], &exact[t], tolerance(engine.config(), 70), &format!("step {t}"));
    }
    // Pieces of every size class of the kernels: 1 to 2, 3 to 32, more.
    for pieces in [vec![70], vec![2, 3, 65], vec![33, 1, 36], vec![5, 5, 60]] {
        let mut sequence = sequences(&engine, 1, 70);
        let mut start = 0;
        for piece in &pieces {
            let logits = sequence.prefill(&[ids[start..start + piece].to_vec()]).unwrap();
            start += piece;
            let case = format!("{pieces:?} after {start}");
            assert_close(&logits[0], &exact[start - 1], tolerance(engine.config(), 70), &case);
        }
    }
}

#[test]
fn sequences_side_by_side_are_as_if_alone() {
    let (engine, reference) = model(13);
    let mut random = Random(6);
    let prompts = random.batch(&[17, 4, 9], 288);
    let answers = random.batch(&[8, 8, 8], 288);
    let more = random.batch(&[3, 12, 1], 288);
    let mut together = sequences(&engine, 3, 48);
    let mut all: Vec<Vec<Vec<f32>>> = vec![together.prefill(&prompts).unwrap()];
    let step_all = |together: &mut Sequences, t: usize| {
        together.step(&answers.iter().map(|answer| answer[t]).collect::<Vec<u32>>()).unwrap()
    };
    all.extend((0..4).map(|t| step_all(&mut together, t)));
    // A second turn, padded onto sequences of different lengths.
    all.push(together.prefill(&more).unwrap());
    all.extend((4..8).map(|t| step_all(&mut together, t)));
    for sample in 0..3 {
        let (prompt, answer) = (&prompts[sample], &answers[sample]);
        let ids = [&prompt[..], &answer[..4], &more[sample], &answer[4..]].concat();
        assert_eq!(together.lengths()[sample], ids.len());
        let run = reference.run_batch(std::slice::from_ref(&ids), &mut Masks::new());
        let exact = reference.logits(&run.last[0]);
        let mut ends: Vec<usize> = (prompt.len()..=prompt.len() + 4).collect();
        let second = prompt.len() + 4 + more[sample].len();
        ends.extend(second..=second + 4);
        let mut alone = sequences(&engine, 1, 48);
        for (turn, &end) in ends.iter().enumerate() {
            let piece = ids[alone.lengths()[0]..end].to_vec();
            let logits = alone.prefill(&[piece]).unwrap();
            let case = format!("sample {sample}, turn {turn}");
            assert_same(engine.config(), 48, &all[turn][sample], &logits[0], &case);
            assert_close(&all[turn][sample], &exact[end - 1], tolerance(engine.config(), 48), &case);
        }
    }
}

/// A prompt of more than two internal passes of 1024 tokens.
#[test]
fn a_long_prompt_is_the_same_in_pieces_and_as_the_reference() {
    let spec = TinySpec { hidden: 64, heads: 2, kv_heads: 1, head_dim: 16, channels: 32, ..TinySpec::default() };
    let mut file = spec.gguf();
    file.set("llama.context_length", Meta::U32(4096));
    let (engine, reference) = pair(&files(&file));
    let ids = Random(8).ids(2060, 288);
    let run = reference.run_batch(std::slice::from_ref(&ids), &mut Masks::new());
    let exact = reference.last_logits(&run.last[0]);
    let allowed = tolerance(engine.config(), 2060);
    let mut whole = sequences(&engine, 1, 2100);
    assert_close(&whole.prefill(std::slice::from_ref(&ids)).unwrap()[0], &exact, allowed, "one prompt");
    assert_eq!(whole.lengths(), [2060]);
    let mut pieces = sequences(&engine, 1, 2100);
    let mut logits = Vec::new();
    for piece in ids.chunks(700) {
        logits = pieces.prefill(&[piece.to_vec()]).unwrap();
    }
    assert_close(&logits[0], &exact, allowed, "pieces of 700");
    let scored = Scorer::new(&engine, 1, 2060).unwrap().last_logits(std::slice::from_ref(&ids), &mut Dense).unwrap();
    assert_close(&scored[0], &exact, allowed, "one pass of the scorer");
    assert_same(engine.config(), 2060, &whole.step(&[7]).unwrap()[0], &pieces.step(&[7]).unwrap()[0], "a step on");
}

#[test]
fn a_sequence_cut_back_goes_on_like_a_fresh_one() {
    let (engine, reference) = model(14);
    let mut random = Random(9);
    let ids = random.ids(30, 288);
    let other = random.ids(6, 288);
    let mut cut = sequences(&engine, 1, 40);
    cut.prefill(std::slice::from_ref(&ids)).unwrap();
    cut.step(&[3]).unwrap();
    cut.truncate(0, 100);
    assert_eq!(cut.lengths(), [31], "cutting back never lengthens");
    for keep in [21, 5, 0] {
        cut.truncate(0, keep);
        let whole = [&ids[..keep], &other[..]].concat();
        let run = reference.run_batch(std::slice::from_ref(&whole), &mut Masks::new());
        let logits = cut.prefill(std::slice::from_ref(&other)).unwrap();
        let exact = reference.last_logits(&run.last[0]);
        assert_close(&logits[0], &exact, tolerance(engine.config(), 40), &format!("kept {keep}"));
        let fresh = sequences(&engine, 1, 40).prefill(&[whole]).unwrap();
        assert_same(engine.config(), 40, &logits[0], &fresh[0], &format!("kept {keep}"));
    }
    cut.clear().unwrap();
    assert_eq!(cut.lengths(), [0]);
    let again = cut.prefill(std::slice::from_ref(&ids)).unwrap();
    assert_eq!(again, sequences(&engine, 1, 40).prefill(&[ids]).unwrap());
}

#[test]
fn one_of_several_sequences_cut_back() {
    let (engine, reference) = model(15);
    let mut random = Random(10);
    let prompts = random.batch(&[12, 20], 288);
    let mut both = sequences(&engine, 2, 40);
    both.prefill(&prompts).unwrap();
    both.truncate(1, 6);
    assert_eq!(both.lengths(), [12, 6]);
    let logits = both.step(&[4, 5]).unwrap();
    for (sample, (keep, id)) in [(12, 4u32), (6, 5)].into_iter().enumerate() {
        let whole = [&prompts[sample][..keep], &[id]].concat();
        let run = reference.run_batch(std::slice::from_ref(&whole), &mut Masks::new());
        let exact = reference.last_logits(&run.last[0]);
        assert_close(&logits[sample], &exact, tolerance(engine.config(), 20), &format!("sample {sample}"));
    }
}

/// Errors leave a sequence as it was.
#[test]
fn wrong_requests_are_refused_by_name() {
    let spec = TinySpec { kind: TensorType::Q8_0, ..TinySpec::default() };
    let engine = load(&crate::gpu(), &files(&spec.gguf()));
    let mut sequence = sequences(&engine, 1, 8);
    let before = sequence.prefill(&[vec![1, 2, 3, 4, 5, 6]]).unwrap();
    let refused = |result: Result<Vec<Vec<f32>>, Error>, words: &[&str]| {
        let error = result.expect_err(&words.join(" "));
        assert!(error.is_user_fault(), "{error:?}");
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "`{text}` should say {words:?}");
    };
    let too_long = sequence.prefill(&[vec![1, 2, 3]]);
    assert!(matches!(too_long, Err(Error::PromptTooLong { prompt_tokens: 9, context: 8, trained: 512 })));
    refused(too_long, &["9", "8", "512", "--context"]);
    refused(sequence.prefill(&[vec![1, 288]]), &["288", "vocabulary"]);
    refused(sequence.step(&[u32::MAX]), &["4294967295", "vocabulary"]);
    refused(sequence.prefill(&[vec![]]), &["empty"]);
    refused(sequence.prefill(&[]), &["0 prompts", "1 sequences"]);
    refused(sequence.prefill(&[vec![1], vec![2]]), &["2 prompts", "1 sequences"]);
    refused(sequence.step(&[]), &["0 tokens", "1 sequences"]);
    refused(sequence.step(&[1, 2]), &["2 tokens", "1 sequences"]);
    assert_eq!(sequence.lengths(), [6]);
    sequence.truncate(0, 5);
    assert_same(engine.config(), 8, &sequence.step(&[6]).unwrap()[0], &before[0], "after errors");
    sequence.step(&[1]).unwrap();
    sequence.step(&[1]).unwrap();
    refused(sequence.step(&[1]), &["9", "8", "--context"]);
    assert_eq!(sequence.lengths(), [8]);

    let mut scorer = Scorer::new(&engine, 2, 8).unwrap();
    refused(scorer.nll(&[vec![1, 2], vec![3]], &mut Dense), &["no token to score"]);
    refused(scorer.nll(&[vec![1, 2, 400]], &mut Dense), &["400", "vocabulary"]);
    refused(scorer.nll(&[vec![1; 9]], &mut Dense), &["1 x 9", "2 x 8"]);
    refused(scorer.nll(&[vec![1; 4], vec![1; 4], vec![1; 4]], &mut Dense), &["3 x 4", "2 x 8"]);
    refused(scorer.nll(&[], &mut Dense), &["no token"]);
    refused(Scorer::new(&engine, 1, 513).map(|_| Vec::new()), &["513", "512"]);
    refused(Scorer::new(&engine, 200, 400).map(|_| Vec::new()), &["200 x 400", "65535"]);
    let options = |context: usize| {
        let prune = Default::default();
        secateur::engine::SequenceOptions { samples: 1, context, prune, known: Knowledge::default(), live: false }
    };
    for context in [0, 513] {
        refused(
            Sequences::new(&engine, options(context)).map(|_| Vec::new()),
            &["--context", &context.to_string(), "512"],
        );
    }
}
