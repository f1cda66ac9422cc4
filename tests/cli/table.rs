//! `eval table`, whole and interrupted.

use super::*;
use serde_json::Value;
use std::time::{Duration, Instant};

/// Options that make every method bite on the tiny model.
const SMALL: [&str; 12] = [
    "--ratios",
    "0.5",
    "--dense-layers",
    "0",
    "--tile",
    "16",
    "--seq-len",
    "16",
    "--batch",
    "3",
    "--calibration",
    "calibration.txt",
];
const METHODS: [&str; 2] = ["--methods", "full-batch,wanda-sp,flap,pp"];
const PARTIAL: &str = "table.partial.jsonl";

fn bench() -> Bench {
    let bench = Bench::new();
    bench.file("text.txt", prose());
    bench.file("calibration.txt", prose().replace("rain", "sun and the rain"));
    bench
}

fn table<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["eval", "table", "--out", out, "--data", "text.txt"], &METHODS[..], &SMALL, more].concat()
}

/// Names and qualities, to the last bit.
fn qualities(table: &Value) -> Vec<(String, String, u64)> {
    let rows = table["rows"].as_array().expect("rows");
    let of = |row: &Value| {
        let text = |name: &str| row[name].as_str().expect("a text").to_string();
        (text("name"), text("quality"), row["value"].as_f64().expect("a number").to_bits())
    };
    rows.iter().map(of).collect()
}

fn row<'a>(table: &'a Value, name: &str) -> &'a Value {
    let rows = table["rows"].as_array().expect("rows");
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no row `{name}`"))
}

#[test]
fn a_table_has_the_perplexities_of_eval_perplexity() {
    let bench = bench();
    let ended = bench.tiny(&table("out", &["--batches", "3"])).ok();
    assert!(ended.stdout.contains("| 0.5 | wanda-sp |"), "{}", ended.stdout);
    let out = bench.json("out/table.json");
    let names: Vec<String> = qualities(&out).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["dense", "full-batch 0.5", "wanda-sp 0.5", "flap 0.5", "pp 0.5"]);
    let alone = |method: &str| {
        let line = ["eval", "perplexity", "--data", "text.txt", "--batches", "3", "--json", "--method", method];
        let ratio = if method == "dense" { "0" } else { "0.5" };
        let own: Vec<&str> = SMALL.iter().copied().skip(2).chain(["--ratio", ratio]).collect();
        bench.tiny(&[&line[..], &own].concat()).json()
    };
    for (method, name) in [("dense", "dense"), ("flap", "flap 0.5"), ("pp", "pp 0.5")] {
        let (alone, row) = (alone(method), row(&out, name));
        let (want, got) = (alone["perplexity"].as_f64().unwrap(), row["value"].as_f64().unwrap());
        assert!((got - want).abs() < 1e-12 * want, "{name}: {got} for {want}");
        for field in ["flops", "flops_dense", "flops_probe", "kept_heads", "kept_mlp", "prune", "model_sha256"] {
            assert_eq!(row[field], alone[field], "{name}: {field}");
        }
        assert_eq!(row["data_tokens"], alone["tokens"]);
    }
    let pp = row(&out, "pp 0.5");
    assert_eq!((pp["seconds_by_batch"].as_array().unwrap().len(), &pp["rounds_agree"]), (3, &Value::Null));
    let loss = pp["value"].as_f64().unwrap() - pp["value_dense"].as_f64().unwrap();
    let saved = 1.0 - pp["flops"].as_f64().unwrap() / pp["flops_dense"].as_f64().unwrap();
    assert!((pp["prr_flops"].as_f64().unwrap() * saved - loss).abs() < 1e-9 * loss.abs());
    for file in ["table.csv", "table.md", "kept.svg", "text.perplexity.ratio.svg", "table.batches.jsonl"] {
        assert!(bench.path("out").join(file).exists(), "{file}");
    }
    assert!(!bench.path("out").join(PARTIAL).exists());
    bench.tiny(&table("out", &[])).refused(&["table.json", "--out"]);
    bench.tiny(&table("out", &["--resume"])).refused(&["nothing to resume"]);
}

#[test]
fn a_killed_run_goes_on_to_the_same_qualities() {
    let bench = bench();
    let long = ["--batches", "30", "--rounds", "2"];
    let whole = bench.tiny(&[&table("whole", &long)[..], &["--json"]].concat()).json();
    let mut child = bench.command(&[&table("cut", &long)[..], &["--model", "tiny.gguf"]].concat());
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
    let log = bench.path("cut").join(PARTIAL);
    let known = || fs::read_to_string(&log).map_or(0, |text| text.lines().count());
    let since = Instant::now();
    while known() < 40 {
        assert!(since.elapsed() < Duration::from_secs(300), "the program logs nothing");
        assert!(child.try_wait().expect("a child").is_none(), "the program ended before it was killed");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    let left = known();
    assert!(left < 1 + 5 * 60, "{left} lines: nothing was left to do");
    assert!(!bench.path("cut/table.json").exists());

    bench.tiny(&table("cut", &long)).refused(&[PARTIAL, "--resume"]);
    let other = |more: &[&str]| bench.tiny(&[&table("cut", &long)[..], &["--resume"], more].concat());
    other(&["--ema", "0.5"]).refused(&["arms[0].prune.ema (0.99 then, 0.5 now)"]);
    other(&["--seed", "3"]).refused(&["protocol.seed (0 then, 3 now)"]);
    bench.file("text.txt", prose() + "More.");
    other(&[]).refused(&["data[0].data_sha256"]);
    bench.file("text.txt", prose());
    write_gguf(&bench.path("other.gguf"), &TinySpec { seed: 2, ..TinySpec::default() });
    let line = [&table("cut", &long)[..], &["--resume", "--model", "other.gguf"]].concat();
    bench.run(&line).refused(&["protocol.model_sha256"]);

    let resumed = other(&["--json"]).json();
    assert_eq!(qualities(&resumed), qualities(&whole));
    assert_eq!(row(&resumed, "pp 0.5")["rounds_agree"], true, "history begins anew with every round");
    assert_eq!(row(&resumed, "pp 0.5")["seconds_by_batch"].as_array().unwrap().len(), 60);
}

#[test]
fn questions_and_a_file_of_methods_with_options_of_their_own() {
    let bench = bench();
    let rows = (0..7).map(|n| {
        format!("{{\"goal\": \"In the year {n}\", \"sol1\": \"the rain ran.\", \"sol2\": \"the other sun.\", \"label\": {}}}\n", n % 2)
    });
    bench.file("piqa.jsonl", rows.collect::<String>());
    bench.file(
        "spec.toml",
        "ratios = [0.25]\ndata = [\"prose=text.txt\"]\nseq_len = 16\nbatch = 4\nbatches = 2\n\
         tasks = [{ name = \"piqa\", data = \"piqa.jsonl\" }]\noptions = { dense_layers = 0, tile = 16 }\n\
         methods = [\"full-batch\", { method = \"pp\", name = \"pp, no history\", history = \"off\", ratios = [0.5] }]\n",
    );
    let out = bench.tiny(&["eval", "table", "--out", "out", "--spec", "spec.toml", "--json"]).json();
    let found: Vec<(String, String)> = qualities(&out).into_iter().map(|(name, quality, _)| (name, quality)).collect();
    let arms = ["dense", "full-batch 0.25", "pp, no history 0.5"];
    let want: Vec<(String, String)> = ["perplexity", "acc", "acc_norm"]
        .iter()
        .flat_map(|quality| arms.iter().map(move |arm| (arm.to_string(), quality.to_string())))
        .collect();
    assert_eq!(found, want);
    for row in out["rows"].as_array().unwrap().iter().filter(|row| row["data"] == "piqa") {
        assert_eq!((&row["data_rows"], &row["data_kind"]), (&Value::from(7), &Value::from("task")));
        let value = row["value"].as_f64().unwrap();
        assert!(((value * 7.0).round() - value * 7.0).abs() < 1e-9, "{value} is no share of 7");
        assert!(row["stderr"].is_f64() && row["tokens_per_second"].as_f64().unwrap() > 0.0);
    }
    assert_eq!(row(&out, "pp, no history 0.5")["prune"]["history"], "off");
}

#[test]
fn what_a_user_can_get_wrong_is_found_before_anything_is_run() {
    let bench = bench();
    bench.tiny(&["eval", "table", "--out", "out"]).refused(&["--data"]);
    bench.tiny(&table("out", &["--rounds", "0"])).refused(&["--rounds is 0"]);
    bench.tiny(&table("out", &["--resume"])).refused(&["nothing to resume", PARTIAL]);
    let bare = ["eval", "table", "--out", "out", "--data", "text.txt", "--seq-len", "16"];
    bench.tiny(&[&bare[..], &["--ratios", "1.5"]].concat()).refused(&["1.5", "(0, 1)"]);
    bench.tiny(&[&bare[..], &["--methods", "flap"]].concat()).refused(&["`flap`", "--calibration"]);
    bench.tiny(&[&bare[..], &["--methods", "pp,pp"]].concat()).refused(&["`pp 0.2`"]);
    bench.tiny(&[&bare[..], &["--data", "text.txt", "text.txt"]].concat()).refused(&["`text`", "NAME=FILE"]);
    bench.file("bad.toml", "batch = 2\nmethodes = []\n");
    bench.tiny(&[&bare[..], &["--spec", "bad.toml"]].concat()).refused(&["bad.toml", "methodes"]);
    assert!(!bench.path("out").exists(), "nothing was begun");
}
