//! `secateur eval tasks` from the outside.

use super::*;
use serde_json::{Value, json};

/// Rows of two tasks.
fn rows(bench: &Bench) {
    let piqa = |n: usize| {
        let row =
            json!({"goal": format!("dry coat {n}"), "sol1": "in the sun", "sol2": "and the rain", "label": n % 2});
        format!("{row}\n")
    };
    bench.file("piqa.jsonl", (0..7).map(piqa).collect::<String>());
    let boolq = json!([
        {"question": "is rain wet", "passage": "Rain is water.", "answer": true},
        {"question": "is the fire in the rain", "passage": "The fire ran.", "answer": false},
    ]);
    bench.file("boolq.json", boolq.to_string());
}

const BOTH: [&str; 8] =
    ["eval", "tasks", "--task", "piqa,boolq", "--data", "piqa=piqa.jsonl", "--data", "boolq=boolq.json"];

fn lines(bench: &Bench, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(bench.path(name)).expect("predictions");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn every_field_is_written_for_every_task() {
    let bench = Bench::new();
    rows(&bench);
    let line = [&BOTH[..], &["--batch", "3", "--predictions", "out.jsonl", "--json"]].concat();
    let out = bench.tiny(&line).json();
    let [piqa, boolq] = out.as_array().unwrap().as_slice() else { panic!("{out}") };
    for field in [
        "task",
        "acc",
        "acc_stderr",
        "rows",
        "answers",
        "requests",
        "truncated",
        "protocol",
        "few_shot",
        "seed",
        "bos",
        "context",
        "longest",
        "tokens",
        "batches",
        "batch",
        "method",
        "ratio",
        "kept_mlp",
        "kept_heads",
        "flops",
        "flops_dense",
        "prune",
        "seconds",
        "seconds_load",
        "tokens_per_second",
        "model",
        "model_sha256",
        "data",
        "data_sha256",
        "adapter",
        "driver",
        "version",
    ] {
        assert!([piqa, boolq].iter().all(|record| !record[field].is_null()), "no `{field}` in {out}");
    }
    assert_eq!((&piqa["task"], &boolq["task"]), (&json!("piqa"), &json!("boolq")));
    assert_eq!((&piqa["rows"], &piqa["answers"], &piqa["batches"]), (&json!(7), &json!(14), &json!(5)));
    assert!(piqa["acc_norm"].is_f64() && boolq["acc_norm"].is_null(), "{out}");
    assert_eq!((&piqa["context"], &piqa["limit"]), (&json!(512), &Value::Null));

    let lines = lines(&bench, "out.jsonl");
    assert_eq!(lines.len(), 9);
    assert_eq!((&lines[8]["task"], &lines[8]["row"], &lines[8]["gold"]), (&json!("boolq"), &json!(1), &json!(0)));
    assert!(lines[8].get("prediction_norm").is_none());
    let mut right = 0;
    for line in &lines[..7] {
        let values: Vec<f64> = line["log_likelihoods"].as_array().unwrap().iter().flat_map(Value::as_f64).collect();
        assert!(values.len() == 2 && values.iter().all(|value| *value < 0.0), "{line}");
        assert_eq!(line["prediction"], json!(usize::from(values[1] > values[0])));
        // "in the sun" has ten characters, "and the rain" twelve.
        assert_eq!(line["prediction_norm"], json!(usize::from(values[1] / 12.0 > values[0] / 10.0)));
        right += usize::from(line["prediction"] == line["gold"]);
    }
    assert!((piqa["acc"].as_f64().unwrap() - right as f64 / 7.0).abs() < 1e-12);
}

#[test]
fn words_say_what_the_numbers_are() {
    let bench = Bench::new();
    rows(&bench);
    let ended = bench.tiny(&[&BOTH[..], &["--limit", "3"]].concat()).ok();
    for part in
        ["piqa ", "boolq ", "3 rows", "2 rows", "acc ", " ± ", "mean of 2", "divided by its characters", "dense"]
    {
        assert!(ended.stdout.contains(part), "`{}` lacks `{part}`", ended.stdout);
    }
    assert!(ended.stderr.contains("boolq: the file has 2 of the 3 rows"), "{}", ended.stderr);
}

#[test]
fn batches_limits_and_company_change_no_likelihood_and_pruning_does() {
    let bench = Bench::new();
    rows(&bench);
    let values = |options: &[&str]| {
        bench.tiny(&[&BOTH[..], &["--predictions", "out.jsonl"], options].concat()).ok();
        lines(&bench, "out.jsonl")
    };
    let value = |line: &Value, answer: usize| line["log_likelihoods"][answer].as_f64().unwrap();
    let all = values(&[]);
    let some = values(&["--batch", "1", "--limit", "2"]);
    for (line, same) in some.iter().zip([&all[0], &all[1], &all[7], &all[8]]) {
        assert_eq!((&line["task"], &line["row"]), (&same["task"], &same["row"]));
        // Some ten tokens, each within 1e-5: sums of 64 products of 32 bits.
        assert!((value(line, 0) - value(same, 0)).abs() < 1e-4, "{line} {same}");
    }
    let pruned = values(&PRUNED);
    assert!(all.iter().zip(&pruned).any(|(one, other)| (value(one, 0) - value(other, 0)).abs() > 1e-3));
    // A calibration is measured as long as the longest question.
    bench.file("more.txt", prose());
    let calibrated = [&PRUNED[..], &["--calibration", "more.txt", "--calibration-samples", "3"]].concat();
    assert_ne!(values(&calibrated), pruned);
}

#[test]
fn examples_are_drawn_by_the_seed() {
    let bench = Bench::new();
    rows(&bench);
    let out = |options: &[&str]| {
        let line = ["eval", "tasks", "--task", "piqa", "--data", "piqa.jsonl", "--limit", "2", "--json"];
        bench.tiny(&[&line[..], options].concat()).json()[0].clone()
    };
    let (none, two) = (out(&[]), out(&["--few-shot", "2", "--seed", "5"]));
    assert_eq!((&two["few_shot"], &two["seed"], &two["few_shot_data"]), (&json!(2), &json!(5), &Value::Null));
    assert!(two["tokens"].as_u64() > none["tokens"].as_u64());
    let other = out(&["--few-shot", "2", "--few-shot-data", "piqa.jsonl"]);
    assert_eq!(other["few_shot_data_sha256"], other["data_sha256"]);
}

#[test]
fn files_and_tasks_must_fit_each_other() {
    let bench = Bench::new();
    rows(&bench);
    let refused = |line: &[&str], words: &[&str]| bench.tiny(&[&["eval", "tasks"], line].concat()).refused(words);
    refused(&["--task", "piqa,boolq", "--data", "piqa.jsonl"], &["--data piqa.jsonl", "--data NAME=piqa.jsonl"]);
    refused(&["--task", "piqa,boolq", "--data", "piqa=piqa.jsonl"], &["boolq"]);
    refused(&["--task", "piqa", "--data", "boolq=boolq.json"], &["--data names boolq", "--task"]);
    refused(&["--task", "piqa", "--data", "piqa.jsonl", "--data", "more.jsonl"], &["more.jsonl", "a file already"]);
    refused(&["--task", "piqa,piqa", "--data", "piqa=piqa.jsonl"], &["piqa twice"]);
    refused(&["--task", "piqua", "--data", "piqa.jsonl"], &["piqua", "hellaswag"]);
    refused(&["--task", "boolq", "--data", "piqa.jsonl"], &["piqa.jsonl", "line 1", "`passage`", "goal"]);
    refused(&["--task", "piqa", "--data", "none.jsonl"], &["none.jsonl"]);
    let piqa = ["--task", "piqa", "--data", "piqa.jsonl"];
    refused(&[&piqa[..], &["--batch", "0"]].concat(), &["--batch"]);
    refused(&[&piqa[..], &["--batch", "9999"]].concat(), &["9999", "65535"]);
    refused(&[&piqa[..], &["--few-shot", "7"]].concat(), &["7 examples", "6 rows"]);
    refused(&[&piqa[..], &["--prune", "decode"]].concat(), &["--prune", "prefill"]);
    refused(&[&piqa[..], &["--predictions", "nowhere/out.jsonl"]].concat(), &["nowhere/out.jsonl"]);
    bench.file("old.jsonl", "old");
    refused(&[&piqa[..], &["--few-shot", "7", "--predictions", "old.jsonl"]].concat(), &["7 examples"]);
    assert_eq!(fs::read_to_string(bench.path("old.jsonl")).unwrap(), "old", "a failed run leaves it alone");
}

#[test]
fn pulled_data_sets_go_by_their_names() {
    let bench = Bench::new();
    rows(&bench);
    let listed = bench.run(&["eval", "pull", "--list"]).ok().stdout;
    for name in
        ["boolq", "piqa", "hellaswag", "winogrande", "arc-easy", "arc-challenge", "openbookqa", "wikitext2", "c4"]
    {
        assert!(listed.lines().any(|line| line.starts_with(name) && line.contains("licence")), "{name} in {listed}");
    }
    bench.run(&["eval", "pull", "imagenet"]).refused(&["imagenet", "wikitext2"]);
    // The folder of data lies beside the one of models; see `Bench::command`.
    bench.tiny(&["eval", "tasks", "--task", "boolq"]).refused(&["secateur eval pull boolq", text(&bench.path("data"))]);
    bench.tiny(&["eval", "perplexity", "--data", "wikitext2"]).refused(&["secateur eval pull wikitext2"]);
    fs::create_dir(bench.path("data")).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tasks/boolq.zstd.parquet");
    fs::copy(fixture, bench.path("data/boolq.parquet")).unwrap();
    let out = bench.tiny(&["eval", "tasks", "--task", "boolq", "--json"]).json();
    assert_eq!((&out[0]["rows"], &out[0]["data"]), (&json!(2), &json!(text(&bench.path("data/boolq.parquet")))));
}
