//! Calibrations and masks: measured, interrupted, resumed, used, refused.

use super::*;
use serde_json::Value;

/// A measurement on the tiny model that is over at once.
const SHORT: [&str; 7] = ["calibrate", "--data", "data.txt", "--samples", "6", "--seq-len", "16"];

const SCORE: [&str; 9] = ["eval", "perplexity", "--data", "data.txt", "--seq-len", "16", "--batches", "2", "--json"];

/// A bench with a text.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.file("data.txt", prose());
    bench
}

fn nll(result: &Value) -> f64 {
    result["nll"].as_f64().expect("a likelihood")
}

#[test]
fn a_calibration_is_written_once_and_used() {
    let bench = bench();
    let made = bench.tiny(&[&SHORT[..], &["--out", "c.safetensors"]].concat()).ok();
    assert_eq!(made.stdout, "c.safetensors\n");
    assert!(made.stderr.contains("6 samples of 16 tokens"), "{}", made.stderr);
    assert!(!bench.path("c.safetensors.partial").exists());
    let first = fs::read(bench.path("c.safetensors")).unwrap();
    bench.tiny(&[&SHORT[..], &["--out", "d.safetensors"]].concat()).ok();
    assert_eq!(fs::read(bench.path("d.safetensors")).unwrap(), first, "a measurement repeats to the bit");
    // Measured on the way from the same text it is the same.
    for method in ["pp", "wanda-sp", "flap"] {
        let with = |calibration: &[&str]| {
            bench.tiny(&[&SCORE[..], &PRUNED, &["--method", method], calibration].concat()).json()
        };
        let of_file = with(&["--calibration", "c.safetensors"]);
        let of_text = with(&["--calibration", "data.txt", "--calibration-samples", "6", "--batch", "8"]);
        assert_eq!(of_file["calibration"]["samples"], 6, "{method}");
        assert_eq!(of_file["calibration"]["data_sha256"], of_text["calibration"]["data_sha256"]);
        assert_eq!(of_file["method"], method);
        // Batches of 10 and 8 samples in other orders of summing.
        let (a, b) = (nll(&of_file), nll(&with(&["--calibration", "data.txt", "--calibration-samples", "6"])));
        assert!((a - b).abs() < 1e-5, "{method}: {a}, {b}");
        assert!(of_text["seconds_calibration"].as_f64() > of_file["seconds_calibration"].as_f64());
        assert!(of_file["flops"].as_f64() < of_file["flops_dense"].as_f64());
    }
}

/// Without --out the measurement lies where conversations look for it: beside the models' folder.
#[test]
fn a_calibration_without_a_name_belongs_to_its_model() {
    let bench = bench();
    let made = bench.tiny(&SHORT).ok();
    let sha256 = bench.tiny(&["info", "--json"]).json()["sha256"].as_str().unwrap().to_string();
    let path = bench.path("calibrations").join(format!("{sha256}.safetensors"));
    assert_eq!(made.stdout.trim_end(), text(&path));
    assert!(path.is_file());
}

#[test]
fn masks_are_written_and_run() {
    let bench = bench();
    bench.tiny(&[&SHORT[..], &["--out", "c.safetensors"]].concat()).ok();
    for method in ["wanda-sp", "flap"] {
        let choice = [&PRUNED[..], &["--method", method, "--calibration", "c.safetensors"]].concat();
        let made = bench.tiny(&[&["masks", "--out", "m.safetensors"][..], &choice].concat()).ok();
        assert!(made.stdout.contains(method) && made.stdout.contains("of 8 heads"), "{}", made.stdout);
        let direct = bench.tiny(&[&SCORE[..], &choice].concat()).json();
        let given = bench.tiny(&[&SCORE[..], &["--masks-in", "m.safetensors"]].concat()).json();
        assert_eq!((nll(&given), &given["method"]), (nll(&direct), &Value::from("masks")), "{method}");
        assert_eq!((&given["kept_mlp"], &given["kept_heads"]), (&direct["kept_mlp"], &direct["kept_heads"]));
        assert_eq!((given["flops_probe"].as_f64(), given["probe_tokens"].as_u64()), (Some(0.0), Some(0)));
        assert_ne!(nll(&given), nll(&bench.tiny(&SCORE).json()), "something is dropped");
    }
}

#[test]
fn what_cannot_be_calibrated_or_run_is_refused() {
    let bench = bench();
    let calibrate = |more: &[&str]| bench.tiny(&[&["calibrate", "--out", "c.safetensors"][..], more].concat());
    for zero in ["--samples", "--batch"] {
        calibrate(&["--data", "data.txt", zero, "0"]).refused(&[zero]);
    }
    calibrate(&["--data", "data.txt", "--seq-len", "1"]).refused(&["--seq-len", "1"]);
    calibrate(&["--data", "data.txt", "--seq-len", "513"]).refused(&["513", "512"]);
    calibrate(&["--data", "data.txt", "--seq-len", "16", "--positions", "off"]).refused(&["--positions off"]);
    calibrate(&["--data", "none.txt"]).refused(&["none.txt"]);
    bench.file("rows.jsonl", "{\"text\": \"a\"}\n{\"body\": \"b\"}\n");
    calibrate(&["--data", "rows.jsonl"]).refused(&["line 2", "`text`"]);
    bench.tiny(&[&SHORT[..], &["--out", "nowhere/c"]].concat()).refused(&["nowhere/c"]);
    assert!(!bench.path("c.safetensors").exists(), "nothing is written for what was refused");

    let masks = |more: &[&str]| bench.tiny(&[&["masks", "--out", "m.safetensors"][..], &PRUNED, more].concat());
    masks(&["--method", "pp"]).refused(&["`pp`", "wanda-sp"]);
    masks(&["--method", "flap"]).refused(&["--calibration"]);
    let score = |more: &[&str]| bench.tiny(&[&SCORE[..], more].concat());
    for method in ["wanda-sp", "flap"] {
        score(&["--method", method, "--ratio", "0.4"]).refused(&[method, "--calibration"]);
    }
    for needy in [&["--compensate"][..], &["--statistic", "fluctuation"], &["--layer-ratios", "threshold"]] {
        score(&[&PRUNED[..], needy].concat()).refused(&["--calibration"]);
    }
    score(&["--method", "masks"]).refused(&["--masks-in"]);
    score(&["--masks-in", "m.safetensors", "--ratio", "0.4"]).refused(&["--masks-in", "--ratio"]);
    score(&["--masks-in", "m.safetensors", "--method", "pp"]).refused(&["--masks-in", "--method masks"]);
    score(&["--masks-in", "m.safetensors"]).refused(&["m.safetensors"]);
    score(&["--ratio", "0.2", "--fusion", "1.5"]).refused(&["--fusion", "1.5"]);
    score(&["--ratio", "0.2", "--fusion", "sideways"]).refused(&["--fusion", "sideways"]);
    score(&["--ratio", "0.2", "--probe-head-tokens", "0"]).refused(&["--probe-head-tokens", "0"]);
}

/// Files that are damaged, of another kind, or of another model.
#[test]
fn files_that_do_not_fit_are_refused() {
    let bench = bench();
    bench.tiny(&[&SHORT[..], &["--out", "c.safetensors"]].concat()).ok();
    let choice = [&PRUNED[..], &["--method", "wanda-sp", "--calibration", "c.safetensors"]].concat();
    bench.tiny(&[&["masks", "--out", "m.safetensors"][..], &choice].concat()).ok();
    let pruned = [&SCORE[..], &PRUNED].concat();
    let calibrated = |model: &str, file: &str| {
        bench.run(&[&pruned[..], &["--method", "wanda-sp", "--calibration", file, "--model", model]].concat())
    };
    let masked = |model: &str, file: &str| bench.run(&[&SCORE[..], &["--masks-in", file, "--model", model]].concat());
    write_gguf(&bench.path("other.gguf"), &TinySpec { seed: 2, ..TinySpec::default() });
    calibrated("other.gguf", "c.safetensors").refused(&["c.safetensors", "another model", "tiny.gguf"]);
    masked("other.gguf", "m.safetensors").refused(&["m.safetensors", "another model"]);
    calibrated("tiny.gguf", "m.safetensors").refused(&["m.safetensors", "secateur calibrate"]);
    masked("tiny.gguf", "c.safetensors").refused(&["c.safetensors"]);
    for name in ["c", "m"] {
        let whole = fs::read(bench.path(&format!("{name}.safetensors"))).unwrap();
        bench.file("cut.safetensors", &whole[..whole.len() - 3]);
        match name {
            "c" => calibrated("tiny.gguf", "cut.safetensors").refused(&["cut.safetensors", "cut short"]),
            _ => masked("tiny.gguf", "cut.safetensors").refused(&["cut.safetensors", "cut short"]),
        }
    }
    // Positions that were measured together cannot be told apart.
    bench.tiny(&[&SHORT[..], &["--positions", "collapsed", "--out", "one.safetensors"]].concat()).ok();
    let line = [&pruned[..], &["--calibration", "one.safetensors"]].concat();
    bench.tiny(&line).refused(&["one.safetensors", "--history"]);
    bench.tiny(&[&line[..], &["--history", "collapsed"]].concat()).ok();
}

#[cfg(unix)]
mod interrupted {
    use super::*;
    use std::process::Child;
    use std::time::Duration;

    /// A measurement of some seconds, by single samples.
    const LONG: [&str; 13] = [
        "calibrate",
        "--data",
        "long.txt",
        "--samples",
        "1500",
        "--seq-len",
        "16",
        "--batch",
        "1",
        "--positions",
        "buckets",
        "--model",
        "tiny.gguf",
    ];

    fn start(bench: &Bench, out: &str) -> Child {
        let mut command = bench.command(&[&LONG[..], &["--out", out]].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
    }

    fn signal(child: &Child, name: &str) {
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().expect("kill").success());
    }

    /// Runs until something was put aside, interrupting later and later: it is not known when measuring begins.
    fn until_partial(bench: &Bench, out: &str) -> Ended {
        for round in 1..20 {
            let mut child = start(bench, out);
            std::thread::sleep(Duration::from_millis(250 * round));
            assert!(child.try_wait().expect("a child").is_none(), "it ended before it could be interrupted");
            signal(&child, "-INT");
            let ended = Ended::from(child.wait_with_output().expect("the program ends"));
            assert_ne!(ended.code, Some(0), "{ended:?}");
            assert!(!bench.path(out).exists(), "nothing unfinished lies under the name of the whole");
            if bench.path(&format!("{out}.partial")).exists() {
                return ended;
            }
        }
        panic!("no interruption met the measuring");
    }

    /// Interrupted, gone on with, killed, gone on with again: the file is that of a run that was never disturbed.
    #[test]
    fn a_measurement_survives_being_stopped() {
        let bench = Bench::new();
        bench.file("long.txt", (0..20).map(|_| prose()).collect::<String>());
        let ended = until_partial(&bench, "c.safetensors");
        assert!(ended.stderr.contains("c.safetensors.partial: the same command goes on there"), "{}", ended.stderr);
        let partial = fs::read(bench.path("c.safetensors.partial")).unwrap();
        // An unfinished measurement is no calibration, under whatever name.
        bench.file("p.safetensors", &partial);
        bench.file("data.txt", prose());
        bench
            .tiny(&[&SCORE[..], &PRUNED, &["--calibration", "p.safetensors"]].concat())
            .refused(&["p.safetensors", "of its 1500 samples"]);
        // Another measurement does not go on from it, and does not destroy it unasked.
        let other = [&LONG[..], &["--out", "c.safetensors", "--seed", "1"]].concat();
        bench.run(&other).refused(&["c.safetensors.partial", "--restart"]);
        assert_eq!(fs::read(bench.path("c.safetensors.partial")).unwrap(), partial);
        // A kill leaves what was put aside before.
        let child = start(&bench, "c.safetensors");
        std::thread::sleep(Duration::from_millis(400));
        signal(&child, "-KILL");
        child.wait_with_output().expect("the program ends");
        assert_eq!(fs::read(bench.path("c.safetensors.partial")).unwrap(), partial);
        let last = Ended::from(start(&bench, "c.safetensors").wait_with_output().expect("the program ends")).ok();
        assert!(last.stderr.contains("going on behind"), "{}", last.stderr);
        assert!(!bench.path("c.safetensors.partial").exists());
        let whole = Ended::from(start(&bench, "whole.safetensors").wait_with_output().expect("the program ends")).ok();
        assert!(!whole.stderr.contains("going on behind"), "{}", whole.stderr);
        let read = |name: &str| fs::read(bench.path(name)).unwrap();
        assert!(read("c.safetensors") == read("whole.safetensors"), "the resumed measurement differs");
    }

    #[test]
    fn a_restart_begins_anew() {
        let bench = Bench::new();
        bench.file("long.txt", prose());
        bench.file("c.safetensors.partial", "damaged");
        let line = ["calibrate", "--data", "long.txt", "--samples", "4", "--seq-len", "16", "--out", "c.safetensors"];
        bench.tiny(&line).refused(&["c.safetensors.partial"]);
        let ended = bench.tiny(&[&line[..], &["--restart"]].concat()).ok();
        assert!(!ended.stderr.contains("going on"), "{}", ended.stderr);
        assert!(bench.path("c.safetensors").exists() && !bench.path("c.safetensors.partial").exists());
    }
}
