//! `--lora`: every command runs the model with its adapter, and says so.

use super::*;
use crate::common::adapters::{adapter, factors, matrices, save_adapter};
use secateur::model::ModelFiles;
use secateur::model::adapter::Adapter;
use serde_json::Value;

/// A bench with an adapter of the tiny model.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.file("text.txt", prose());
    let files = ModelFiles::open(&bench.path("tiny.gguf")).unwrap();
    save_adapter(&bench.path("lora"), &files, &adapter(&files.config));
    bench
}

const SCORE: [&str; 8] = ["eval", "perplexity", "--data", "text.txt", "--seq-len", "16", "--batches", "2"];

fn nll(result: &Value) -> f64 {
    result["nll"].as_f64().expect("a likelihood")
}

#[test]
fn a_model_with_an_adapter_is_the_file_that_it_is_merged_into() {
    let bench = bench();
    bench.run(&["convert", "tiny.gguf", "--lora", "lora", "--format", "F32", "--out", "merged.gguf"]).ok();
    let score = |more: &[&str]| bench.run(&[&SCORE[..], &["--json"], more].concat()).json();
    let (base, adapted) = (score(&["--model", "tiny.gguf"]), score(&["--model", "tiny.gguf", "--lora", "lora"]));
    let merged = score(&["--model", "merged.gguf"]);
    assert_eq!(nll(&adapted).to_bits(), nll(&merged).to_bits());
    assert!((nll(&adapted) - nll(&base)).abs() > 1e-3, "the adapter must show");
    assert_eq!((&base["lora"], &base["lora_sha256"]), (&Value::Null, &Value::Null));
    assert_eq!(adapted["lora"], "lora");
    assert_eq!(adapted["lora_sha256"].as_str().map(str::len), Some(64));
    assert_eq!(adapted["model"], base["model"]);
    assert_ne!(adapted["model_sha256"], base["model_sha256"]);

    let line = ["generate", "--prompt", "the rain", "--max-tokens", "6", "--ignore-end", "--json"];
    let said = |more: &[&str]| bench.run(&[&line[..], more].concat()).json();
    let (own, made) = (said(&["--model", "tiny.gguf", "--lora", "lora"]), said(&["--model", "merged.gguf"]));
    assert_eq!((&own["ids"], &own["lora"]), (&made["ids"], &"lora".into()));
    let info = bench.tiny(&["info", "--lora", "lora"]).ok();
    assert!(info.stdout.contains("lora       lora, SHA-256 "), "{}", info.stdout);
    let chat = bench.piped(&["chat", "--lora", "lora", "--ratio", "0", "--max-tokens", "2"], "hello\n").ok();
    assert!(chat.stderr.contains("tiny.gguf with lora on "), "{}", chat.stderr);
}

/// Units of the base run with the adapter; what was measured of the base is not the adapted model's.
#[test]
fn what_was_made_for_the_model_is_told_from_what_was_made_for_both() {
    let bench = bench();
    let small = [&PRUNED[..], &["--method", "flap", "--seq-len", "16", "--calibration", "text.txt"]].concat();
    bench.tiny(&[&["masks", "--out", "base.safetensors"][..], &small].concat()).ok();
    bench.tiny(&[&["masks", "--lora", "lora", "--out", "own.safetensors"][..], &small].concat()).ok();
    let score = |more: &[&str]| bench.tiny(&[&SCORE[..], &["--json"], more].concat());
    let base = score(&["--masks-in", "base.safetensors"]).json();
    let with = score(&["--masks-in", "base.safetensors", "--lora", "lora"]).json();
    assert_eq!(with["kept_mlp"], base["kept_mlp"]);
    assert_ne!(nll(&with), nll(&base));
    score(&["--masks-in", "own.safetensors", "--lora", "lora"]).ok();
    score(&["--masks-in", "own.safetensors"]).refused(&["own.safetensors", "another model"]);

    bench
        .tiny(&["calibrate", "--data", "text.txt", "--samples", "4", "--seq-len", "16", "--out", "c.safetensors"])
        .ok();
    let line = ["--method", "flap", "--ratio", "0.5", "--dense-layers", "0", "--calibration", "c.safetensors"];
    score(&line).ok();
    score(&[&line[..], &["--lora", "lora"]].concat()).refused(&["another model"]);
}

#[test]
fn what_cannot_be_adapted_is_said() {
    let bench = bench();
    let score = |lora: &str| bench.tiny(&[&SCORE[..], &["--lora", lora]].concat());
    score("gone").refused(&["gone"]);
    score("tiny.gguf").refused(&["tiny.gguf", "not a folder"]);
    score(".").refused(&["adapter_config.json"]);
    write_gguf(&bench.path("other.gguf"), &TinySpec { seed: 2, ..TinySpec::default() });
    bench.run(&[&SCORE[..], &["--model", "other.gguf", "--lora", "lora"]].concat()).refused(&["another model"]);
    bench.run(&["convert", "tiny.gguf", "--lora", "gone", "--format", "F16", "--out", "x.gguf"]).refused(&["gone"]);
    assert!(!bench.path("x.gguf").exists());
    bench.tiny(&["bench", "--lora", "lora", "--llama-bench", "x"]).refused(&["--llama-bench", "--lora"]);
    bench.run(&["bench", "--lora", "lora", "--shape", "smollm2-135m"]).refused(&["--shape", "--lora"]);
}

/// Units of FLAP at 0.5, chosen of the base.
fn units(bench: &Bench) {
    let small = [&PRUNED[..], &["--method", "flap", "--seq-len", "16", "--calibration", "text.txt"]].concat();
    bench.tiny(&[&["masks", "--out", "flap.safetensors"][..], &small].concat()).ok();
}

const TABLE: [&str; 13] = [
    "eval",
    "table",
    "--data",
    "text.txt",
    "--methods",
    "dense",
    "--seq-len",
    "16",
    "--batch",
    "10",
    "--batches",
    "2",
    "--json",
];

fn table<'a>(bench: &Bench, out: &'a str, more: &[&'a str]) -> Ended {
    bench.tiny(&[&TABLE[..], &["--out", out], more].concat())
}

fn rows(table: &Value) -> Vec<(String, u64)> {
    let of = |row: &Value| (row["name"].as_str().unwrap().to_owned(), row["value"].as_f64().unwrap().to_bits());
    table["rows"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn a_table_has_rows_of_files() {
    let bench = bench();
    units(&bench);
    let tuned = ["--tuned", "flap.safetensors", "flap.safetensors,lora", "again=flap.safetensors,lora"];
    let whole = table(&bench, "whole", &tuned).json();
    let names: Vec<String> = rows(&whole).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["dense", "flap 0.5", "flap + LoRA 0.5", "again 0.5"]);
    let score =
        |more: &[&str]| bench.tiny(&[&SCORE[..], &["--json", "--masks-in", "flap.safetensors"], more].concat()).json();
    for (row, alone) in [(1, score(&[])), (2, score(&["--lora", "lora"])), (3, score(&["--lora", "lora"]))] {
        let row = &whole["rows"][row];
        let (want, got) = (alone["perplexity"].as_f64().unwrap(), row["value"].as_f64().unwrap());
        assert!((got - want).abs() < 1e-12 * want, "{}: {got} for {want}", row["name"]);
        for field in ["flops", "flops_dense", "kept_heads", "kept_mlp", "method"] {
            assert_eq!(row[field], alone[field], "{}: {field}", row["name"]);
        }
        assert_eq!((&row["ratio"], &row["tuned"]["masks"]), (&0.5.into(), &"flap.safetensors".into()));
        assert_eq!(row["tuned"]["lora_sha256"], alone["lora_sha256"]);
    }
    let [dense, plain] = [0, 1].map(|row| &whole["rows"][row]["tuned"]);
    assert_eq!((dense, &plain["lora"]), (&Value::Null, &Value::Null));
    let markdown = fs::read_to_string(bench.path("whole/table.md")).unwrap();
    for part in
        ["| 0.5 | flap + LoRA |", "- flap + LoRA 0.5: units of flap.safetensors, SHA-256 `", "weights with lora, SHA"]
    {
        assert!(markdown.contains(part), "{markdown} lacks {part}");
    }
    bench.file(
        "spec.toml",
        "[[tuned]]\nmasks = \"flap.safetensors\"\n[[tuned]]\nname = \"b\"\nmasks = \"flap.safetensors\"\nlora = \"lora\"\n",
    );
    let of_spec = rows(&table(&bench, "spec", &["--spec", "spec.toml"]).json());
    assert_eq!(of_spec.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["dense", "flap 0.5", "b 0.5"]);
    assert_eq!(of_spec[2].1, rows(&whole)[2].1);

    // As a kill leaves it, with the first step known.
    let cut = |out: &str| {
        let log = fs::read_to_string(bench.path("whole/table.batches.jsonl")).unwrap();
        fs::create_dir_all(bench.path(out)).unwrap();
        let lines: Vec<&str> = log.lines().take(6).collect();
        bench.file(&format!("{out}/table.partial.jsonl"), lines.join("\n") + "\n");
    };
    let resume = |out: &str, tuned: &[&str]| {
        cut(out);
        table(&bench, out, &[tuned, &["--resume"]].concat())
    };
    assert_eq!(rows(&resume("again", &tuned).json()), rows(&whole));
    fs::rename(bench.path("lora"), bench.path("moved")).unwrap();
    let moved = ["--tuned", "flap.safetensors", "flap.safetensors,moved", "again=flap.safetensors,moved"];
    assert_eq!(rows(&resume("elsewhere", &moved).json()), rows(&whole), "the same bytes elsewhere");
    let files = ModelFiles::open(&bench.path("tiny.gguf")).unwrap();
    let other = Adapter::new(&files.config, 2, 1.0, factors(&files.config, 2, &matrices(&files.config))).unwrap();
    save_adapter(&bench.path("lora"), &files, &other);
    resume("other", &tuned).refused(&["arms[2].tuned.lora_sha256"]);
    bench
        .tiny(&[
            "masks",
            "--method",
            "wanda-sp",
            "--out",
            "flap.safetensors",
            "--ratio",
            "0.5",
            "--dense-layers",
            "0",
            "--tile",
            "16",
            "--seq-len",
            "16",
            "--calibration",
            "text.txt",
        ])
        .ok();
    resume("others", &moved).refused(&["arms[1]", "masks_sha256"]);
}

#[test]
fn rows_that_cannot_be_are_said() {
    let bench = bench();
    units(&bench);
    let refused = |more: &[&str], words: &[&str]| {
        table(&bench, "out", more).refused(words);
        assert!(!bench.path("out").exists());
    };
    refused(&["--tuned", "gone.safetensors"], &["gone.safetensors"]);
    refused(&["--tuned", "text.txt"], &["text.txt"]);
    refused(&["--tuned", "flap.safetensors,gone"], &["gone"]);
    refused(&["--tuned", "flap.safetensors", "flap.safetensors"], &["two arms are called `flap 0.5`"]);
    refused(&["--tuned", "flap.safetensors,lora", "--lora", "lora"], &["--lora", "--tuned"]);
    refused(&["--tuned", "flap.safetensors", "--methods", "masks"], &["--tuned FILE"]);
    write_gguf(&bench.path("other.gguf"), &TinySpec { seed: 2, ..TinySpec::default() });
    let line = [&TABLE[..], &["--out", "out", "--tuned", "flap.safetensors", "--model", "other.gguf"]].concat();
    bench.run(&line).refused(&["another model"]);
    assert_eq!(table(&bench, "x", &["--tuned", "flap.safetensors,"]).code, Some(2));
}

#[cfg(feature = "burn")]
#[test]
fn a_merged_folder_runs() {
    let bench = bench();
    let line = ["tune", "merge", "--lora", "lora", "--out", "merged"];
    let made = bench.tiny(&line).ok();
    assert!(made.stdout.starts_with("merged: ") && made.stderr.contains("tiny.gguf with lora to merged: "), "{made:?}");
    let score = |more: &[&str]| nll(&bench.run(&[&SCORE[..], &["--json"], more].concat()).json());
    let (merged, own) = (score(&["--model", "merged"]), score(&["--model", "tiny.gguf", "--lora", "lora"]));
    assert!((merged - own).abs() < 1e-4 * own, "{merged} for {own}");
    bench.tiny(&line).refused(&["merged is there already"]);
    // A folder again, by the adapter that was made for it.
    let files = ModelFiles::open(&bench.path("merged")).unwrap();
    save_adapter(&bench.path("second"), &files, &adapter(&files.config));
    bench.run(&["tune", "merge", "--model", "merged", "--lora", "second", "--out", "twice"]).ok();
    assert_ne!(score(&["--model", "twice"]), merged);
    bench.run(&["tune", "merge", "--model", "merged", "--lora", "lora", "--out", "x"]).refused(&["another model"]);
    bench.tiny(&["tune", "merge", "--lora", "gone", "--out", "x"]).refused(&["gone"]);
    assert!(!bench.path("x").exists() && !bench.path("x.part").exists());
}
