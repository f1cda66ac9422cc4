//! Real rows against what lm-eval itself makes of them: the strings of every request, and their tokens. The fixture holds
//! hashes alone; `lm_eval.py golden` beside this file writes it.

use super::fixture;
use secateur::eval::tasks::{FewShot, Item, Questions, TaskData, TaskName};
use secateur::model::{ModelFiles, pull};
use secateur::text::Tokenizer;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

const FILES: [(TaskName, &str); 5] = [
    (TaskName::BoolQ, "boolq_val_500.jsonl"),
    (TaskName::Piqa, "piqa_val_500.jsonl"),
    (TaskName::HellaSwag, "hellaswag_val_sample1000_500.jsonl"),
    (TaskName::WinoGrande, "winogrande_xl_dev_500.jsonl"),
    (TaskName::ArcEasy, "arc_easy_test_500.jsonl"),
];
/// Examples of the golden's second part, and its rows.
const SHOTS: usize = 2;
const SHOT_ROWS: usize = 50;

fn data(task: TaskName) -> TaskData {
    let (_, name) = FILES.iter().find(|(of, _)| *of == task).expect("a file");
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/tasks").join(name);
    assert!(path.exists(), "{} is missing: this test needs the rows that its README describes", path.display());
    TaskData::read(task, &path, None, &FewShot::default()).expect("sound rows")
}

fn tokenizer() -> Tokenizer {
    let path = pull::models_dir().and_then(|dir| pull::resolve("smollm2-135m", &dir));
    let path = path.unwrap_or_else(|error| panic!("this test needs the default model: {error}"));
    Tokenizer::new(&ModelFiles::open(&path).expect("a model").text).expect("a tokenizer")
}

/// What is kept of a row: hashes of its strings and of its tokens, and the tokens' number.
type Kept = (String, String, usize);

/// Rows by task and number of examples.
fn golden() -> HashMap<(String, usize), Vec<Kept>> {
    let mut golden: HashMap<_, Vec<Kept>> = HashMap::new();
    for line in fs::read_to_string(fixture("golden.txt")).expect("the golden").lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let key = (words[0].to_owned(), words[1].parse().expect("a number"));
        let row = (words[2].to_owned(), words[3].to_owned(), words[4].parse().expect("a number"));
        golden.entry(key).or_default().push(row);
    }
    golden
}

fn short(text: &str) -> String {
    Sha256::digest(text).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// The tokens of every answer of every question: `context|ending`, a line each.
fn tokens(data: &TaskData, tokenizer: &Tokenizer) -> Vec<(String, usize)> {
    let questions = Questions::new(data, tokenizer, 8192).expect("questions");
    assert_eq!(questions.truncated, 0);
    let mut answers = vec![(String::new(), 0); questions.answers()];
    let words = |ids: &[u32]| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    for request in &questions.requests {
        for ending in &request.endings {
            let context = request.input.len() + 1 - ending.tokens.len();
            assert_eq!(request.input[context..], ending.tokens[..ending.tokens.len() - 1]);
            let line = format!("{}|{}\n", words(&request.input[..context]), words(&ending.tokens));
            answers[ending.answer] = (line, request.input.len() + 1);
        }
    }
    let mut answers = answers.into_iter();
    let of = |item: &Item| {
        let own: Vec<(String, usize)> = answers.by_ref().take(item.choices.len()).collect();
        (own.iter().map(|(line, _)| line.as_str()).collect(), own.iter().map(|(_, count)| count).sum())
    };
    data.items.iter().map(of).collect()
}

#[test]
fn requests_are_those_of_lm_eval() {
    let (golden, tokenizer) = (golden(), tokenizer());
    for (task, _) in FILES {
        let plain = data(task);
        // lm-eval's "first_n": the first rows, whichever is asked.
        let shown = plain.items.iter().take(SHOT_ROWS).map(|item| item.behind(&plain.items[..SHOTS])).collect();
        for (shots, data) in [(0, plain.clone()), (SHOTS, TaskData { items: shown, ..plain.clone() })] {
            let want = &golden[&(task.name().to_owned(), shots)];
            assert_eq!(data.items.len(), want.len(), "{task}");
            let tokens = tokens(&data, &tokenizer);
            for (row, ((item, want), (ids, count))) in data.items.iter().zip(want).zip(&tokens).enumerate() {
                let of = |choice: &secateur::eval::tasks::Choice| format!("{}\0{}\0", choice.context, choice.ending);
                let strings: String = item.choices.iter().map(of).collect();
                let found = (short(&strings), short(ids), *count);
                assert_eq!(found, *want, "{task}, row {row}, {shots} examples: {strings:?}");
            }
        }
    }
}

#[test]
fn one_token_answers_share_their_context() {
    let data = data(TaskName::BoolQ);
    let questions = Questions::new(&data, &tokenizer(), 8192).expect("questions");
    assert_eq!((questions.answers(), questions.requests.len()), (1000, 500));
}
