//! What commands print and write.

use super::*;
use serde_json::Value;

#[track_caller]
fn has(value: &Value, fields: &[&str]) {
    for field in fields {
        assert!(value.get(field).is_some_and(|value| !value.is_null()), "no `{field}` in {value}");
    }
}

fn generate(bench: &Bench, options: &[&str]) -> Value {
    bench.tiny(&[&["generate", "--prompt", "the rain and", "--json", "-"], options].concat()).json()
}

#[test]
fn generate_writes_every_field() {
    let bench = Bench::new();
    let line =
        ["generate", "--raw", "--prompt", "the rain", "--max-tokens", "20", "--ignore-end", "--json", "out.json"];
    let ended = bench.tiny(&[&line[..], &PRUNED, &["--reprobe-every", "16"]].concat()).ok();
    let out = bench.json("out.json");
    has(&out, &["text", "ids", "prompt_tokens", "prefill_seconds", "decode_seconds", "tokens_per_second", "stop"]);
    has(&out, &["method", "ratio", "flops", "flops_dense", "flops_probe", "adapter", "version", "seed", "model"]);
    assert_eq!(ended.stdout.strip_suffix('\n'), out["text"].as_str(), "the text is streamed as well");
    assert_eq!(out["ids"].as_array().unwrap().len(), 20);
    assert_eq!((out["stop"].as_str(), out["method"].as_str()), (Some("length"), Some("pp")));
    // 4 heads and 96 channels at 0.5, in tiles of 16.
    assert_eq!((&out["kept_heads"][1], &out["kept_mlp"][1]), (&Value::from(2), &Value::from(48)));
    // Chosen after the prompt, and again after 16 tokens.
    assert_eq!(out["choices"], 2);
    assert!(out["decode_flops"].as_f64() < out["decode_flops_dense"].as_f64(), "{out}");
    assert!(ended.stderr.contains("without history"), "{}", ended.stderr);
}

#[test]
fn raw_prompts_get_no_template_and_no_special_token() {
    let bench = Bench::new();
    let raw = bench.tiny(&["generate", "--raw", "--prompt", "<|im_start|>", "--max-tokens", "1", "--json"]).json();
    assert_eq!(raw["prompt_tokens"], "<|im_start|>".len(), "twelve bytes, no token of that name");
    let chat = generate(&bench, &["--max-tokens", "1"]);
    // What the template writes around the prompt's own tokens.
    assert!(chat["prompt_tokens"].as_u64() > Some("<>user\n<>\n<>assistant\n".len() as u64));
    let told = generate(&bench, &["--max-tokens", "1", "--system", "Be brief."]);
    assert!(told["prompt_tokens"].as_u64() > chat["prompt_tokens"].as_u64());
}

#[test]
fn a_prompt_may_come_by_pipe() {
    let bench = Bench::new();
    let piped = bench.piped(&["generate", "--max-tokens", "8", "--json"], "the rain and").json();
    assert_eq!(piped["ids"], generate(&bench, &["--max-tokens", "8"])["ids"]);
}

#[test]
fn seeds_repeat_and_greedy_needs_none() {
    let bench = Bench::new();
    let drawn = |seed| generate(&bench, &["--max-tokens", "24", "--temperature", "1.5", "--seed", seed])["ids"].clone();
    assert_eq!(drawn("5"), drawn("5"));
    assert_ne!(drawn("5"), drawn("6"));
    let greedy = generate(&bench, &["--max-tokens", "24"]);
    assert_eq!(greedy["ids"], generate(&bench, &["--max-tokens", "24", "--seed", "9"])["ids"]);
    assert_eq!(greedy["ids"], generate(&bench, &["--max-tokens", "24", "--method", "pp", "--ratio", "0"])["ids"]);
}

#[test]
fn a_costly_probe_is_told() {
    let bench = Bench::new();
    let line = ["generate", "--prompt", "the rain", "--max-tokens", "2", "--prune", "prefill", "--ratio", "0.2"];
    let probed = ["--lead-tokens", "0", "--dense-layers", "0", "--tile", "16"];
    let ended = bench.tiny(&[&line[..], &probed].concat()).ok();
    assert!(ended.stderr.contains("of the FLOPs of a dense one"), "{}", ended.stderr);
}

#[test]
fn eval_writes_every_field() {
    let bench = Bench::new();
    bench.file("data.txt", prose());
    bench.file("more.jsonl", "{\"text\": \"the other rain and the rain\"}\n".repeat(20));
    let line = ["eval", "perplexity", "--data", "data.txt", "--seq-len", "16", "--batch", "4", "--batches", "2"];
    let calibration = ["--calibration", "more.jsonl", "--calibration-samples", "3", "--masks", "masks.jsonl", "--json"];
    let out = bench.tiny(&[&line[..], &calibration, &PRUNED].concat()).json();
    has(&out, &["perplexity", "nll", "tokens", "batches", "seq_len", "batch", "method", "ratio", "kept_mlp"]);
    has(&out, &["kept_heads", "flops", "flops_dense", "flops_probe", "seconds", "tokens_per_second", "model_sha256"]);
    has(
        &out,
        &["data_sha256", "adapter", "version", "history", "calibration", "probe_samples", "probe_tokens", "prune"],
    );
    has(&out, &["seed", "seconds_load", "seconds_calibration", "max_binding_bytes", "stride", "bos", "data_tokens"]);
    assert_eq!((&out["tokens"], &out["batches"]), (&Value::from(2 * 4 * 15), &Value::from(2)));
    assert_eq!(out["kept_mlp"], Value::from(vec![48, 48]));
    assert_eq!((&out["probe_samples"], &out["probe_tokens"]), (&Value::from(1), &Value::from(8)));
    assert_eq!(out["calibration"]["samples"], 3);
    let nll = out["nll"].as_f64().unwrap();
    assert!((out["perplexity"].as_f64().unwrap().ln() - nll).abs() < 1e-9);

    let masks = fs::read_to_string(bench.path("masks.jsonl")).unwrap();
    let lines: Vec<Value> = masks.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1 + 2 * 2, "a header, and a line for every batch and layer");
    assert_eq!(lines[0]["model_sha256"], out["model_sha256"]);
    for line in &lines[1..] {
        let kept: Vec<u64> =
            line["mlp"]["kept"].as_array().unwrap().iter().map(|unit| unit.as_u64().unwrap()).collect();
        assert!(kept.len() == 48 && kept.is_sorted_by(|a, b| a < b) && kept[47] < 96, "{kept:?}");
        assert_eq!(line["heads"]["kept"].as_array().unwrap().len(), 2);
        assert_eq!(line["heads"]["probe_tokens"].as_array().unwrap().len(), 8);
    }
}

#[test]
fn eval_says_what_it_starts_with_and_what_it_lacks() {
    let bench = Bench::new();
    bench.file("data.txt", prose());
    let line = ["eval", "perplexity", "--data", "data.txt", "--seq-len", "32", "--batch", "4"];
    let pruned = bench.tiny(&[&line[..], &["--batches", "1"], &PRUNED].concat()).ok();
    assert!(pruned.stderr.contains("starts without history"), "{}", pruned.stderr);
    assert!(pruned.stdout.contains("perplexity "), "{}", pruned.stdout);
    let short = bench.tiny(&[&line[..], &["--batches", "1000", "--json", "short.json"]].concat()).ok();
    assert!(short.stderr.contains("of the 4000 chunks"), "{}", short.stderr);
    let out = bench.json("short.json");
    assert_eq!(out["batches_asked"], 1000);
    assert_eq!(out["tokens"].as_u64().unwrap(), out["chunks"].as_u64().unwrap() * 31);
    assert!(out["history"].is_null() && out["calibration"].is_null(), "{out}");
}

#[test]
fn info_and_devices_describe() {
    let bench = Bench::new();
    let info = bench.tiny(&["info", "--ratio", "0.5", "--dense-layers", "0", "--tile", "16", "--json"]).json();
    has(&info, &["model", "format", "bytes", "sha256", "parameters", "config", "tokenizer", "weights", "pruning"]);
    let last = info["pruning"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["kept_heads"], &last["kept_mlp"]), (&Value::from(2), &Value::from(48)));
    assert!(bench.tiny(&["info"]).ok().stdout.contains("2 layers"));
    let devices = bench.run(&["devices", "--json"]).json();
    let first = &devices["devices"][0];
    has(first, &["index", "name", "backend", "kind", "driver", "max_binding_bytes"]);
    assert!(bench.run(&["devices"]).ok().stdout.contains(first["name"].as_str().unwrap()));
}

#[test]
fn a_device_is_chosen_by_name_or_number() {
    let bench = Bench::new();
    let devices = bench.run(&["devices", "--json"]).json();
    let name = devices["devices"][0]["name"].as_str().unwrap().to_uppercase();
    for device in ["0", &name] {
        assert_eq!(
            generate(&bench, &["--max-tokens", "1", "--device", device])["adapter"],
            devices["devices"][0]["name"]
        );
    }
}

#[test]
fn the_catalogue_is_listed() {
    let bench = Bench::new();
    let listed = bench.run(&["pull", "--list"]).ok().stdout;
    assert!(listed.contains("smollm2-135m (default)") && listed.contains("Apache-2.0"), "{listed}");
}

/// Where the project's shared data lies beside the checkout: a trained model with a SentencePiece vocabulary.
#[test]
fn a_trained_toy_tells_a_story() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/models/stories260K.gguf");
    if !path.exists() {
        eprintln!("skipped: the toy model is not beside the checkout");
        return;
    }
    let bench = Bench::new();
    let line =
        ["generate", "--raw", "--prompt", "Once upon a time", "--max-tokens", "24", "--json", "--model", text(&path)];
    let told = bench.run(&line).json();
    assert!(told["text"].as_str().unwrap().starts_with(", there was a"), "{told}");
}
