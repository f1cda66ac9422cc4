//! Every task on made-up rows. The expected strings are what lm-eval 0.4.13 makes of the same rows.

use super::{assert_says, fixture, written};
use secateur::Error;
use secateur::eval::tasks::{FewShot, Item, TaskData, TaskName};
use std::path::PathBuf;

fn read(task: TaskName, rows: &str) -> Result<Vec<Item>, Error> {
    let (_dir, path) = written("rows.jsonl", rows);
    Ok(TaskData::read(task, &path, None, &FewShot::default())?.items)
}

/// Context, ending and length of every answer, and the right one.
#[track_caller]
fn assert_item(task: TaskName, row: &str, choices: &[(&str, &str, usize)], gold: usize) {
    let items = read(task, row).unwrap();
    let found: Vec<(&str, &str, usize)> =
        items[0].choices.iter().map(|choice| (choice.context.as_str(), choice.ending.as_str(), choice.chars)).collect();
    assert_eq!((found.as_slice(), items[0].gold), (choices, gold), "{task}");
}

#[test]
fn boolq_asks_for_no_or_yes() {
    let context = "Rain is water.\nQuestion: is rain wet?\nAnswer:";
    let choices = [(context, " no", 2), (context, " yes", 3)];
    let row = |answer: &str| format!("{{\"question\": \"is rain wet\", \"passage\": \"Rain is water.\", {answer}}}");
    assert_item(TaskName::BoolQ, &row("\"answer\": true"), &choices, 1);
    assert_item(TaskName::BoolQ, &row("\"answer\": false"), &choices, 0);
    assert_item(TaskName::BoolQ, &row("\"label\": 1, \"idx\": 0"), &choices, 1);
    assert_says(read(TaskName::BoolQ, &row("\"label\": -1")), &["line 1", "the row has no answer"]);
    assert_says(read(TaskName::BoolQ, &row("\"answer\": \"yes\"")), &["line 1", "neither true nor false"]);
    assert_says(read(TaskName::BoolQ, &row("\"label\": 2")), &["`label` is 2", "0 to 1"]);
}

#[test]
fn piqa_chooses_between_two_solutions() {
    let context = "Question: Dry a coat.\nAnswer:";
    let choices = [(context, " In the rain", 11), (context, " Im Öfchen ", 10)];
    let row = |label: &str| {
        format!(
            "{{\"goal\": \"Dry a coat.\", \"sol1\": \"In the rain\", \"sol2\": \"Im Öfchen \", \"label\": {label}}}"
        )
    };
    assert_item(TaskName::Piqa, &row("1"), &choices, 1);
    assert_item(TaskName::Piqa, &row("\"0\""), &choices, 0);
    assert_says(read(TaskName::Piqa, &row("-1")), &["line 1", "no answer", "validation"]);
    assert_says(read(TaskName::Piqa, &row("2")), &["`label` is 2"]);
    assert_says(read(TaskName::Piqa, &row("1.5")), &["`label` is 1.5"]);
}

#[test]
fn hellaswag_is_read_raw_and_prepared() {
    let raw = "{\"ind\": 4, \"activity_label\": \"Rain\", \"ctx_a\": \"[header] How to dry [title] Wait.\", \
        \"ctx_b\": \"then She\", \"endings\": [\"dances [step] on.\", \" goes [substeps] home\"], \"label\": \"1\"}";
    let context = "Rain: How to dry. Wait. Then she";
    assert_item(TaskName::HellaSwag, raw, &[(context, " dances on.", 10), (context, " goes home", 9)], 1);
    let prepared = "{\"query\": \"A: b\", \"choices\": [\"c\", \"d [e]\", \"f\"], \"label\": 2}";
    assert_item(TaskName::HellaSwag, prepared, &[("A: b", " c", 1), ("A: b", " d [e]", 5), ("A: b", " f", 1)], 2);
    assert_says(read(TaskName::HellaSwag, &raw.replace("\"1\"", "\"\"")), &["line 1", "no answer (`label` is hidden)"]);
    assert_says(read(TaskName::HellaSwag, &raw.replace("\"1\"", "\"2\"")), &["`label` is \"2\"", "0 to 1"]);
    assert_says(read(TaskName::HellaSwag, &prepared.replace("\"c\"", "3")), &["`choices` should be strings"]);
    assert_says(read(TaskName::HellaSwag, "{\"query\": \"a\", \"choices\": [\"b\"], \"label\": 0}"), &["at least two"]);
}

#[test]
fn winogrande_scores_what_follows_the_gap() {
    let row = |answer: &str| {
        format!(
            "{{\"sentence\": \"The cat saw the dog and _ ran_off. \", \"option1\": \"the cat\", \"option2\": \"it\", \
             \"answer\": {answer}}}"
        )
    };
    let choices =
        [("The cat saw the dog and the cat", " ran_off.", 31), ("The cat saw the dog and it", " ran_off.", 26)];
    assert_item(TaskName::WinoGrande, &row("\"2\""), &choices, 1);
    assert_item(TaskName::WinoGrande, &row("1"), &choices, 0);
    assert_says(read(TaskName::WinoGrande, &row("\"\"")), &["line 1", "no answer (`answer` is hidden)"]);
    assert_says(read(TaskName::WinoGrande, &row("\"0\"")), &["`answer` is \"0\"", "1 to 2"]);
    assert_says(read(TaskName::WinoGrande, &row("1").replace('_', "-")), &["line 1", "no gap"]);
}

#[test]
fn lettered_answers_are_found_by_their_labels() {
    let row = |field: &str, key: &str| {
        format!(
            "{{\"{field}\": \"What is wet?\", \"choices\": {{\"text\": [\"fire\", \"rain\", \"dust\"], \
             \"label\": [\"A\", \"B\", \"C\"]}}, \"answerKey\": {key}}}"
        )
    };
    let arc = "Question: What is wet?\nAnswer:";
    for task in [TaskName::ArcEasy, TaskName::ArcChallenge] {
        let choices = [(arc, " fire", 4), (arc, " rain", 4), (arc, " dust", 4)];
        assert_item(task, &row("question", "\"B\""), &choices, 1);
        let digits = row("question", "\"3\"").replace("\"A\", \"B\", \"C\"", "\"1\", \"2\", \"3\"");
        assert_item(task, &digits, &choices, 2);
    }
    let stem = "What is wet?";
    let choices = [(stem, " fire", 4), (stem, " rain", 4), (stem, " dust", 4)];
    assert_item(TaskName::OpenBookQa, &row("question_stem", "\" C\""), &choices, 2);
    assert_says(read(TaskName::ArcEasy, &row("question", "\"E\"")), &["line 1", "`E`", "A, B, C"]);
    assert_says(read(TaskName::ArcEasy, &row("question", "null")), &["line 1", "no answer (`answerKey` is hidden)"]);
    assert_says(read(TaskName::ArcEasy, &row("question", "\"\"")), &["no answer"]);
    assert_says(read(TaskName::ArcEasy, &row("q", "\"A\"")), &["line 1", "no field `question`", "answerKey"]);
    let uneven = row("question", "\"A\"").replace(", \"C\"", "");
    assert_says(read(TaskName::ArcEasy, &uneven), &["3 texts but 2 labels"]);
    let flat = "{\"question\": \"q\", \"choices\": [\"a\", \"b\"], \"answerKey\": \"A\"}";
    assert_says(read(TaskName::ArcEasy, flat), &["line 1", "`choices.text` is not a list"]);
}

#[test]
fn the_line_of_a_bad_row_is_said_and_a_limit_spares_it() {
    let rows = "{\"goal\": \"a\", \"sol1\": \"b\", \"sol2\": \"c\", \"label\": 0}\n\n{\"goal\": \"a\", \"sol1\": 1}\n";
    let (_dir, path) = written("rows.jsonl", rows);
    let of = |limit| TaskData::read(TaskName::Piqa, &path, limit, &FewShot::default());
    assert_says(of(None), &["rows.jsonl", "line 3", "`sol1` is not a string but a number"]);
    assert_eq!(of(Some(1)).unwrap().items.len(), 1);
    assert_says(of(Some(0)), &["rows.jsonl", "no row", "piqa"]);
    assert_says(read(TaskName::Piqa, "\n"), &["no row to ask about", "piqa"]);
}

#[test]
fn parquet_rows_are_questions_like_any_other() {
    let of = |task, name: &str| TaskData::read(task, &fixture(name), None, &FewShot::default()).unwrap().items;
    let arc = of(TaskName::ArcEasy, "arc.snappy.parquet");
    assert_eq!(arc.iter().map(|item| (item.choices.len(), item.gold)).collect::<Vec<_>>(), [(3, 1), (2, 0), (4, 3)]);
    assert_eq!(of(TaskName::BoolQ, "boolq.zstd.parquet")[0].gold, 1);
    assert_eq!(of(TaskName::Piqa, "piqa.gzip.parquet")[0].choices[1].ending, " Hang it in the sun.");
}

/// Rows whose goals are their numbers.
fn numbered(count: usize) -> (tempfile::TempDir, PathBuf) {
    let row =
        |i: usize| format!("{{\"goal\": \"g{i}\", \"sol1\": \"x{i}\", \"sol2\": \"y{i}\", \"label\": {}}}\n", i % 2);
    written("rows.jsonl", (0..count).map(row).collect::<String>())
}

/// The numbers of the examples before a question.
fn shown(item: &Item) -> Vec<usize> {
    let context = &item.choices[0].context;
    let goals = context.split("Question: g").skip(1);
    let mut numbers: Vec<usize> = goals.map(|text| text.split('\n').next().unwrap().parse().unwrap()).collect();
    numbers.pop();
    numbers
}

#[test]
fn examples_are_solved_questions_with_a_blank_line_between() {
    let (_dir, path) = numbered(2);
    let few_shot = FewShot { count: 1, data: None, seed: 0 };
    let data = TaskData::read(TaskName::Piqa, &path, None, &few_shot).unwrap();
    let want = "Question: g1\nAnswer: y1\n\nQuestion: g0\nAnswer:";
    assert_eq!(data.items[0].choices.iter().map(|choice| choice.context.as_str()).collect::<Vec<_>>(), [want; 2]);
    assert_eq!(data.items[0].choices[1].ending, " y0");
    // Where the answers differ in their contexts, an example shows the right one.
    let rows = "{\"sentence\": \"If _ is.\", \"option1\": \"a\", \"option2\": \"b\", \"answer\": \"2\"}\n".repeat(2);
    let (_dir, path) = written("rows.jsonl", rows);
    let data = TaskData::read(TaskName::WinoGrande, &path, None, &few_shot).unwrap();
    assert_eq!(data.items[0].choices[0].context, "If b is.\n\nIf a");
}

#[test]
fn examples_are_drawn_by_seed_and_row_and_never_the_row_itself() {
    let (_dir, path) = numbered(6);
    let of = |seed, limit| {
        let few_shot = FewShot { count: 4, data: None, seed };
        TaskData::read(TaskName::Piqa, &path, limit, &few_shot).unwrap().items
    };
    let all = of(1, None);
    for (row, item) in all.iter().enumerate() {
        let mut numbers = shown(item);
        assert!(numbers.len() == 4 && !numbers.contains(&row), "row {row}: {numbers:?}");
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 4, "row {row} shows one twice");
    }
    assert_eq!(of(1, Some(2)), all[..2], "a limit changes no draw");
    assert_ne!(of(2, None), all);
    assert!(all.iter().map(shown).collect::<std::collections::BTreeSet<_>>().len() > 1, "rows draw by themselves");
    let few_shot = FewShot { count: 6, data: None, seed: 1 };
    assert_says(TaskData::read(TaskName::Piqa, &path, None, &few_shot), &["6 examples", "5 rows", "--few-shot"]);
}

#[test]
fn examples_may_come_from_a_file_of_their_own() {
    let ((_dir, path), (_other, examples)) = (numbered(3), numbered(2));
    let few_shot = FewShot { count: 2, data: Some(examples.clone()), seed: 1 };
    let data = TaskData::read(TaskName::Piqa, &path, Some(2), &few_shot).unwrap();
    let mut numbers = shown(&data.items[0]);
    numbers.sort_unstable();
    assert_eq!((numbers, data.items.len()), (vec![0, 1], 2));
    assert_eq!(data.few_shot_sha256.unwrap().len(), 64);
    let few_shot = FewShot { count: 3, ..few_shot };
    assert_says(TaskData::read(TaskName::Piqa, &path, None, &few_shot), &["3 examples", "2 rows"]);
    let missing = FewShot { data: Some(fixture("missing.jsonl")), ..few_shot };
    assert_says(TaskData::read(TaskName::Piqa, &path, None, &missing), &["missing.jsonl"]);
}
