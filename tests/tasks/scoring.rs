//! Likelihoods of answers against sums made by hand, and what accuracies they make.

use super::{assert_says, written};
use crate::common::device;
use crate::common::tiny_model::TinySpec;
use secateur::Error;
use secateur::engine::{Engine, Scorer, SequenceOptions, Sequences, Target};
use secateur::eval::tasks::{FewShot, Questions, Request, TaskData, TaskName, score_batch};
use secateur::model::ModelFiles;
use secateur::prune::Dense;
use secateur::text::{Special, Tokenizer};
use std::sync::Arc;

const CONTEXT: usize = 64;

fn files() -> ModelFiles {
    device::files(&TinySpec::default().gguf())
}

fn tokenizer() -> Tokenizer {
    Tokenizer::new(&files().text).expect("a tokenizer")
}

fn data(task: TaskName, rows: &str) -> TaskData {
    let (_dir, path) = written("rows.jsonl", rows);
    TaskData::read(task, &path, None, &FewShot::default()).expect("sound rows")
}

fn piqa(rows: &[(&str, &str, &str, usize)]) -> TaskData {
    let row = |(goal, sol1, sol2, label): &(&str, &str, &str, usize)| {
        format!("{}\n", serde_json::json!({"goal": goal, "sol1": sol1, "sol2": sol2, "label": label}))
    };
    data(TaskName::Piqa, &rows.iter().map(row).collect::<String>())
}

fn some() -> TaskData {
    piqa(&[
        ("dry the coat", "in the sun", "and then in the rain", 0),
        ("a", "b", "c", 1),
        ("the other", "an answer that is longer", "x", 0),
        ("a", "the", "then", 1),
        // Cut on the left: more tokens than positions.
        ("very long and then still longer and the rest of it, on and on", "in the end, nothing", "so", 1),
    ])
}

fn scores(engine: &Arc<Engine>, questions: &Questions, batch: usize) -> Vec<f64> {
    let mut scorer = Scorer::new(engine, batch, questions.longest()).expect("a scorer");
    let mut all = vec![f64::NAN; questions.answers()];
    for batch in questions.batches(batch) {
        let requests: Vec<&Request> = batch.iter().map(|&index| &questions.requests[index]).collect();
        for scored in score_batch(&mut scorer, &mut Dense, &requests).expect("a batch") {
            assert!(all[scored.answer].is_nan(), "an answer is scored once");
            all[scored.answer] = scored.log_likelihood;
        }
    }
    all
}

/// The log likelihood of `ending` behind `context`, one token after the other through the cache, softmax in 64 bits.
fn naive(sequences: &mut Sequences, context: &[u32], ending: &[u32]) -> f64 {
    sequences.clear().unwrap();
    let mut logits = sequences.prefill(&[context.to_vec()]).unwrap();
    let mut sum = 0.0;
    for (at, &token) in ending.iter().enumerate() {
        let row: Vec<f64> = logits[0].iter().map(|&logit| f64::from(logit)).collect();
        let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        sum += row[token as usize] - top - row.iter().map(|logit| (logit - top).exp()).sum::<f64>().ln();
        if at + 1 < ending.len() {
            logits = sequences.step(&[token]).unwrap();
        }
    }
    sum
}

#[test]
fn likelihoods_are_those_of_each_answer_on_its_own() {
    let (engine, tokenizer, data) = (device::load(&device::gpu(), &files()), tokenizer(), some());
    let questions = Questions::new(&data, &tokenizer, CONTEXT).unwrap();
    assert_eq!((questions.len(), questions.answers(), questions.truncated), (5, 10, 2));
    assert_eq!(questions.longest(), CONTEXT);
    let options = SequenceOptions {
        samples: 1,
        context: CONTEXT + 1,
        prune: Default::default(),
        known: Default::default(),
        live: false,
    };
    let mut sequences = Sequences::new(&engine, options).unwrap();
    let mut want = Vec::new();
    for choice in data.items.iter().flat_map(|item| &item.choices) {
        let encode = |text: &str| tokenizer.encode(text, Special::Text).unwrap();
        let (context, whole) = (encode(&choice.context), encode(&format!("{}{}", choice.context, choice.ending)));
        let ending = &whole[context.len()..];
        // The last CONTEXT + 1 tokens count, of which the very last is not run.
        let from = whole.len().saturating_sub(CONTEXT + 1);
        want.push(naive(&mut sequences, &context[from..], ending));
    }
    for batch in [1, 3, 20] {
        for (answer, (found, want)) in scores(&engine, &questions, batch).iter().zip(&want).enumerate() {
            // An ending has some 25 tokens at most, each within 1e-5 as in the tests of perplexity.
            assert!((found - want).abs() < 2.5e-4, "answer {answer} in batches of {batch}: {found} for {want}");
        }
    }
}

#[test]
fn batches_go_from_the_longest_to_the_shortest() {
    let questions = Questions::new(&some(), &tokenizer(), CONTEXT).unwrap();
    let batches = questions.batches(3);
    let order: Vec<usize> = batches.concat();
    let mut every = order.clone();
    every.sort_unstable();
    assert_eq!(every, (0..questions.requests.len()).collect::<Vec<_>>());
    assert!(batches.iter().rev().skip(1).all(|batch| batch.len() == 3));
    let lengths: Vec<usize> = order.iter().map(|&index| questions.requests[index].input.len()).collect();
    assert!(lengths.is_sorted_by(|one, next| one >= next), "{lengths:?}");
    assert_eq!(questions.batches(0).len(), questions.requests.len());
}

#[test]
fn answers_of_one_token_share_a_request() {
    // "b" and "c" are one token each behind the blank before them... which is a token of its own here.
    let questions = Questions::new(&piqa(&[("a", "b", "c", 0), ("a", "b", "bc", 0)]), &tokenizer(), CONTEXT).unwrap();
    let shared: Vec<Vec<usize>> =
        questions.requests.iter().map(|request| request.endings.iter().map(|ending| ending.answer).collect()).collect();
    // The second question's first answer has the first's context as well; "bc" runs "b", too.
    assert_eq!(shared, [vec![0, 1, 2], vec![3]]);
}

#[test]
fn accuracies_are_means_with_their_errors() {
    let rows = [("a", "b", "cccc", 0), ("a", "b", "cccc", 1), ("a", "b", "cccc", 0), ("a", "", "c", 0)];
    let questions = Questions::new(&piqa(&rows), &tokenizer(), CONTEXT).unwrap();
    // By the sum: right, wrong, right (the first of equals), right. By the character ("cccc" has four, "" none): wrong,
    // right, wrong, wrong.
    let outcome = questions.outcome(&[-2.0, -3.0, -2.0, -3.0, -4.0, -4.0, -1.0, -2.0]).unwrap();
    let chosen: Vec<(usize, usize)> = outcome.predictions.iter().map(|one| (one.chosen, one.chosen_norm)).collect();
    assert_eq!(chosen, [(0, 1), (0, 1), (0, 1), (0, 1)]);
    let norm = outcome.acc_norm.unwrap();
    assert_eq!((outcome.acc.value, norm.value), (0.75, 0.25));
    // Of 1, 0, 1, 1 the sample's standard deviation is 0.5; over the root of four that is a quarter.
    assert!((outcome.acc.stderr.unwrap() - 0.25).abs() < 1e-12);
    assert_eq!(outcome.predictions[1].log_likelihoods, [-2.0, -3.0]);
    let one = Questions::new(&piqa(&rows[..1]), &tokenizer(), CONTEXT).unwrap().outcome(&[-1.0, -2.0]).unwrap();
    assert_eq!((one.acc.value, one.acc.stderr), (1.0, None));
    assert!(matches!(questions.outcome(&[0.0]), Err(Error::Internal(_))));
    let mut broken = vec![-1.0; questions.answers()];
    broken[3] = f64::NAN;
    assert!(matches!(questions.outcome(&broken), Err(Error::Device(_))));
}

#[test]
fn only_some_tasks_have_acc_norm() {
    let row = "{\"sentence\": \"a _ c\", \"option1\": \"a\", \"option2\": \"b\", \"answer\": \"1\"}";
    let questions = Questions::new(&data(TaskName::WinoGrande, row), &tokenizer(), CONTEXT).unwrap();
    assert_eq!(questions.outcome(&[-1.0, -2.0]).unwrap().acc_norm, None);
}

#[test]
fn an_answer_that_cannot_fit_is_refused() {
    let long = "a long answer and then some more of it";
    let error = Questions::new(&piqa(&[("a", "b", "c", 0), ("a", long, "c", 0)]), &tokenizer(), 8);
    assert_says(error, &["rows.jsonl", "question 2", "the model's context is 8"]);
}

#[test]
fn targets_outside_their_sample_are_refused() {
    let engine = device::load(&device::gpu(), &files());
    let mut scorer = Scorer::new(&engine, 2, 4).unwrap();
    let mut of = |targets: &[Vec<Target>]| scorer.nll_of(&[vec![1, 2, 3]], targets, &mut Dense);
    let target = |position, token| Target { position, token };
    for wrong in [vec![], vec![vec![]], vec![vec![target(3, 1)]], vec![vec![target(0, 288)]]] {
        assert!(matches!(of(&wrong), Err(Error::Setting(_))), "{wrong:?}");
    }
    // In any order and repeated, also more of them than the scorer has rows: each is exactly what it is alone.
    let some = [target(2, 5), target(0, 7), target(2, 5), target(1, 7), target(0, 7)];
    let many: Vec<Target> = some.iter().cycle().take(20).copied().collect();
    let found = of(&[many]).unwrap().remove(0);
    let single: Vec<f32> = some.iter().map(|&one| of(&[vec![one]]).unwrap()[0][0]).collect();
    assert!(found.len() == 20 && found.chunks(5).all(|chunk| chunk == single), "{found:?} {single:?}");
}
