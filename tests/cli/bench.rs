//! `secateur bench`: its arguments, its report, other engines beside it.

use super::*;
use serde_json::Value;

/// Short, on a model of two small layers.
const SHORT: [&str; 13] = [
    "bench",
    "--prompt-tokens",
    "16",
    "--decode-tokens",
    "18",
    "--rounds",
    "2",
    "--dense-layers",
    "0",
    "--tile",
    "16",
    "--reprobe-every",
    "16",
];

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// A median between its least and its most.
#[track_caller]
fn is_spread(value: &Value) {
    let [median, min, max] = ["median", "min", "max"].map(|name| value[name].as_f64().expect(name));
    assert!(min <= median && median <= max, "{value}");
}

/// Runs by phase, prompt, batch, ratio and who chose the units.
fn names(out: &Value) -> Vec<(&str, u64, u64, f64, &str)> {
    let name = |run: &'static str, value: &Value| value[run].as_u64().unwrap_or_else(|| panic!("{run} of {value}"));
    let runs = out["runs"].as_array().unwrap().iter();
    runs.map(|run| {
        let (prompt, batch) = (name("prompt_tokens", run), name("batch", run));
        (run["phase"].as_str().unwrap(), prompt, batch, run["ratio"].as_f64().unwrap(), run["kept"].as_str().unwrap())
    })
    .collect()
}

#[test]
fn both_phases_of_every_configuration() {
    let bench = Bench::new();
    let ended = bench.tiny(&[&SHORT[..], &["--json", "out.json"]].concat()).ok();
    let out = bench.json("out.json");
    for field in ["adapter", "version", "model", "rounds", "config", "prune", "seconds", "model_bytes", "seed"] {
        assert!(!out[field].is_null(), "{field} in {out}");
    }
    let expected: Vec<_> = ["prefill", "decode"]
        .into_iter()
        .flat_map(|phase| {
            let pruned = [0.2, 0.4, 0.6].into_iter().flat_map(|ratio| [(ratio, "chosen"), (ratio, "given")]);
            let all = std::iter::once((0.0, "all")).chain(pruned);
            all.map(move |(ratio, kept)| (phase, 16, 1, ratio, kept))
        })
        .collect();
    assert_eq!(names(&out), expected);
    for run in out["runs"].as_array().unwrap() {
        assert_eq!(run["tokens"], if run["phase"] == "prefill" { 16 } else { 18 });
        let rates = numbers(&run["tokens_per_second_by_round"]);
        assert_eq!(rates.len(), 2, "the warm round does not count");
        let (median, min) =
            (run["tokens_per_second"].as_f64().unwrap(), run["tokens_per_second_min"].as_f64().unwrap());
        assert!(min > 0.0 && (median - (rates[0] + rates[1]) / 2.0).abs() < 1e-9 * median, "{run}");
        is_spread(&run["to_dense"]);
        assert!(run["to_peers"]["llama-bench"].is_null() && run["dispatches_per_pass"].as_f64() > Some(16.0), "{run}");
        let dense = run["kept"] == "all";
        assert_eq!(run["to_dense"]["median"] == 1.0 && run["flops"] == run["flops_dense"], dense, "{run}");
        // Whoever is given the units computes no probe, and is allowed more.
        assert!(run["kept"] == "chosen" || run["flops_probe"] == 0.0, "{run}");
        let allowed = [&run["allowed_by_flops"], &run["allowed_by_bytes"]].map(|value| value.as_f64().unwrap());
        assert!(if dense { allowed == [1.0, 1.0] } else { allowed.iter().all(|&allowed| allowed > 0.3) }, "{run}");
        if run["kept"] == "given" {
            assert!(allowed[0] > 1.0 && allowed[1] > 1.0, "{run}");
        }
    }
    let choices = out["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 6, "two phases of three ratios");
    for choice in choices {
        is_spread(&choice["share_of_dense_time"]);
        let flops = choice["share_of_dense_flops"].as_f64().unwrap();
        // Of 18 tokens, one renewal.
        assert!(flops > 0.0, "{choice}");
    }
    for name in ["copy_bytes_per_second", "fma_flops_per_second", "empty_dispatch_seconds", "empty_submit_seconds"] {
        assert!(out["ceilings"][name].as_f64() > Some(0.0), "{name} in {out}");
    }
    let load = &out["load"];
    let device = |when: &str| load[when]["device_bytes"].as_u64().unwrap();
    assert!(device("loaded") > 0 && device("measured") > device("loaded"), "{load}");
    assert!(load["seconds_load"].as_f64() > Some(0.0) && load["seconds_read"].as_f64() >= Some(0.0), "{load}");
    #[cfg(target_os = "linux")]
    assert!(load["measured"]["peak_resident_bytes"].as_u64() > Some(1 << 20), "{load}");
    assert!(out["kernels"].is_null() && out["peers"].as_array().unwrap().is_empty());
    for word in [out["adapter"].as_str().unwrap(), "chosen", "given", "of the dense time", "GFLOP/s", "dispatches"] {
        assert!(ended.stdout.contains(word), "no `{word}` in {}", ended.stdout);
    }
}

#[test]
fn lists_of_lengths_and_batches() {
    let bench = Bench::new();
    let line = ["bench", "--prompt-tokens", "8,20", "--batch", "1,3", "--decode-tokens", "2", "--rounds", "1"];
    let more = ["--ratio", "0.5", "--dense-layers", "0", "--tile", "16", "--json"];
    let ended = bench.tiny(&[&line[..], &more].concat());
    assert!(ended.stderr.contains("one sequence at a time"), "{}", ended.stderr);
    let out = ended.json();
    let mut expected = Vec::new();
    for (prompt, batch) in [(8, 1), (8, 3), (20, 1), (20, 3)] {
        for phase in ["prefill", "decode"] {
            expected.extend([(0.0, "all"), (0.5, "chosen"), (0.5, "given")].map(|(r, k)| (phase, prompt, batch, r, k)));
        }
    }
    assert_eq!(names(&out), expected);
    for run in out["runs"].as_array().unwrap() {
        let (prompt, batch) = (run["prompt_tokens"].as_u64().unwrap(), run["batch"].as_u64().unwrap());
        assert_eq!(run["tokens"], batch * if run["phase"] == "prefill" { prompt } else { 2 }, "{run}");
        assert_eq!(run["reprobe_every"], if batch == 1 && run["kept"] == "chosen" { 32 } else { 0 }, "{run}");
    }
}

#[test]
fn prompts_alone_and_dense_alone() {
    let bench = Bench::new();
    let line =
        ["bench", "--prompt-tokens", "8", "--decode-tokens", "0", "--rounds", "1", "--method", "dense", "--json"];
    let out = bench.tiny(&line).json();
    assert_eq!(names(&out), [("prefill", 8, 1, 0.0, "all")]);
    assert_eq!(out["choices"], Value::from(Vec::<Value>::new()));
}

#[test]
fn every_kernel_alone() {
    let bench = Bench::new();
    let line =
        ["bench", "--prompt-tokens", "12", "--decode-tokens", "1", "--rounds", "1", "--kernels", "--json", "k.json"];
    let ended = bench.tiny(&[&line[..], &PRUNED].concat()).ok();
    let out = bench.json("k.json");
    let rows = out["kernels"].as_array().unwrap();
    let has = |stage: &str, kernel: &str, role: &str, pruned: bool| {
        let same = |row: &&Value| {
            (row["stage"].as_str(), row["kernel"].as_str(), row["role"].as_str(), row["pruned"].as_bool())
                == (Some(stage), Some(kernel), Some(role), Some(pruned))
        };
        rows.iter().find(same).unwrap_or_else(|| panic!("no {stage} {kernel} {role} {pruned}"))
    };
    for stage in ["decode", "prompt"] {
        for (kernel, role) in [
            ("embed", ""),
            ("rms_norm", ""),
            ("matmul_rows", "q, k, v"),
            ("rope_append", ""),
            ("attention", ""),
            ("matmul_columns", "o"),
            ("gate_up", ""),
            ("matmul_columns", "down"),
            ("matmul_rows", "head"),
        ] {
            has(stage, kernel, role, false);
        }
        for (kernel, role) in
            [("matmul_rows", "q, k, v"), ("attention", ""), ("gate_up", ""), ("matmul_columns", "down")]
        {
            let (dense, kept) = (has(stage, kernel, role, false), has(stage, kernel, role, true));
            assert!(kept["flops"].as_f64() < dense["flops"].as_f64(), "{kept} {dense}");
        }
    }
    // Half of the 96 channels of the tiny model, in F32: whole rows of gate and up.
    let gate_up = has("decode", "gate_up", "", true);
    let bytes = gate_up["bytes"].as_f64().unwrap() - (2 * 48 * 64 * 4 + 4 * (64 + 48)) as f64;
    // Floats have no scales, but a plane of them is a buffer of 16 bytes.
    assert!((0.0..=32.0).contains(&bytes), "{gate_up}");
    assert_eq!((gate_up["flops"].as_f64(), gate_up["calls"].as_f64()), (Some((4 * 48 * 64) as f64), Some(2.0)));
    for (kernel, role) in [("score", "heads"), ("top_k", "channels"), ("probe_statistic", "heads"), ("fusion", "heads")]
    {
        has("choice", kernel, role, true);
    }
    has("renewal", "history_update", "channels", true);
    for row in rows {
        let [best, median, floor, reached] =
            ["best_seconds", "median_seconds", "floor_seconds", "reached"].map(|name| row[name].as_f64().unwrap());
        assert!(0.0 < best && best <= median && 0.0 < floor && (reached - floor / best).abs() < 1e-9, "{row}");
    }
    for word in ["a decoded token, dense", "a prompt, kept units", "probe and choice", "a renewal", "together"] {
        assert!(ended.stdout.contains(word), "no `{word}` in {}", ended.stdout);
    }
}

#[test]
fn a_shape_without_a_file() {
    let bench = Bench::new();
    let line = ["bench", "--shape", "smollm2-135m", "--format", "Q4_0", "--prompt-tokens", "4", "--decode-tokens", "1"];
    let out = bench.run(&[&line[..], &["--rounds", "1", "--ratio", "0.4", "--json"]].concat()).json();
    assert_eq!((out["model"].as_str(), out["model_format"].as_str()), (Some("smollm2-135m"), Some("random Q4_0")));
    assert_eq!((out["random_weights"].as_bool(), out["config"]["num_hidden_layers"].as_u64()), (Some(true), Some(30)));
    // 134,479,872 weights of 18 bytes to 32.
    assert_eq!(out["model_bytes"].as_u64(), Some(134_479_872 / 32 * 18));
    assert!(out["load"]["loaded"]["device_bytes"].as_u64() >= out["model_bytes"].as_u64());
    assert!(out["load"]["seconds_read"].is_null());
    assert_eq!(names(&out).len(), 6);
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let bench = Bench::new();
    let refused = |line: &[&str], words: &[&str]| bench.tiny(&[&["bench"], line].concat()).refused(words);
    let shaped = |line: &[&str], words: &[&str]| bench.run(&[&["bench", "--shape"], line].concat()).refused(words);
    refused(&["--rounds", "0"], &["--rounds", "from 1 on"]);
    refused(&["--prompt-tokens", "16,0"], &["--prompt-tokens", "from 1 on"]);
    refused(&["--prompt-tokens", "many"], &["--prompt-tokens", "from 1 on"]);
    refused(&["--batch", "0"], &["--batch", "from 1 on"]);
    refused(&["--batch", "1000", "--prompt-tokens", "100", "--decode-tokens", "0"], &["1000 x 100", "65535"]);
    refused(&["--method", "flap"], &["`flap`", "calibration", "eval table"]);
    refused(&["--method", "masks"], &["`masks`", "a file"]);
    refused(&["--statistic", "fluctuation"], &["`pp`", "calibration"]);
    refused(&["--format", "Q8_0"], &["--shape"]);
    refused(&["--shape", "llama-2-7b"], &["--shape llama-2-7b", "--model tiny.gguf"]);
    shaped(&["llama-9"], &["no shape `llama-9`", "tinyllama-1.1b"]);
    shaped(&["llama-2-7b", "--format", "IQ3_S"], &["weight format `IQ3_S`", "Q4_1", "Q4_K"]);
    shaped(&["smollm2-135m", "--format", "Q4_K"], &["Q4_K", "blocks of 256", "hidden size of 576", "Q5_0"]);
    shaped(&["tinyllama-1.1b", "--prompt-tokens", "2048", "--decode-tokens", "1"], &["2049", "2048"]);
    shaped(&["smollm2-135m", "--llama-bench", "x"], &["--llama-bench"]);
}

#[cfg(unix)]
mod llama_bench {
    use super::*;

    /// A program that answers as llama-bench does: with the lengths it is asked for. Twice as fast without a depth.
    const FAKE: &str = r#"#!/bin/sh
dir=$(dirname "$0")
case "$*" in *--help*) echo "  -p, --n-prompt <n>  -d, --n-depth <n>"; exit 0;; esac
echo "$*" >> "$dir/calls"
p=0 n=0 d=0
while [ $# -gt 0 ]; do
    case "$1" in -p) p=$2; shift;; -n) n=$2; shift;; -d) d=$2; shift;; esac
    shift
done
[ "$d" = 0 ] && speed=200.5 || speed=100.25
echo "[{\"build_commit\": \"x\", \"backends\": \"FAKE\", \"n_prompt\": $p, \"n_gen\": $n, \"n_depth\": $d, \"avg_ts\": $speed}]"
"#;

    /// Writes a program. Another process does it: a file that this one had open for writing while a test beside it starts a
    /// program could not be run.
    fn program(bench: &Bench, name: &str, text: &str) -> PathBuf {
        let path = bench.path(name);
        let mut command = Command::new("sh");
        command.args(["-c", "cat > \"$0\" && chmod +x \"$0\""]).arg(&path).stdin(Stdio::piped());
        let mut child = command.spawn().expect("a shell");
        child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("a script");
        assert!(child.wait().expect("an end").success());
        path
    }

    const LINE: [&str; 9] =
        ["bench", "--prompt-tokens", "8", "--decode-tokens", "3", "--rounds", "2", "--ratio", "0.5"];

    #[test]
    fn takes_its_turns() {
        let bench = Bench::new();
        let fake = program(&bench, "llama-bench", FAKE);
        let options = ["--dense-layers", "0", "--tile", "16", "--batch", "1,2", "--llama-bench-args", "-ngl 7"];
        let line = [&LINE[..], &options, &["--llama-bench", text(&fake), "--json", "out.json"]].concat();
        let ended = bench.tiny(&line).ok();
        let (out, calls) = (bench.json("out.json"), fs::read_to_string(bench.path("calls")).unwrap());
        let calls: Vec<&str> = calls.lines().collect();
        assert_eq!(calls.len(), 2 * 3, "a prompt and an answer in the warm round and two others, batch 1 alone");
        let of = |call: &str, words: &[&str]| words.iter().all(|word| call.contains(word));
        assert!(calls.iter().all(|call| of(call, &["-m ", "tiny.gguf", "-o json", "-r 1", "-fa 1", "-t ", "-ngl 7"])));
        assert_eq!(calls.iter().filter(|call| of(call, &["-p 8 -n 0"])).count(), 3, "{calls:?}");
        assert_eq!(calls.iter().filter(|call| of(call, &["-p 0 -n 3 -d 8"])).count(), 3, "{calls:?}");

        let peer = &out["peers"][0];
        assert_eq!(
            (peer["backends"].as_str(), peer["decodes_behind_the_prompt"].as_bool()),
            (Some("FAKE"), Some(true))
        );
        let speeds: Vec<f64> = peer["runs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|run| run["tokens_per_second"]["median"].as_f64().unwrap())
            .collect();
        assert_eq!(speeds, [200.5, 100.25]);
        for run in out["runs"].as_array().unwrap() {
            let theirs = if run["phase"] == "prefill" { 200.5 } else { 100.25 };
            if run["batch"] == 2 {
                assert!(run["to_peers"]["llama-bench"].is_null());
                continue;
            }
            is_spread(&run["to_peers"]["llama-bench"]);
            let ratio = run["to_peers"]["llama-bench"]["median"].as_f64().unwrap();
            let ours = run["tokens_per_second"].as_f64().unwrap();
            assert!((ratio - ours / theirs).abs() < 1e-9 * ratio, "{run}");
        }
        assert!(ended.stdout.contains("llama-bench on FAKE") && ended.stdout.contains("ours to theirs"));
    }

    #[test]
    fn old_ones_answer_from_an_empty_cache_and_that_is_said() {
        let bench = Bench::new();
        let fake = program(&bench, "old", &FAKE.replace("-d, --n-depth <n>", ""));
        let line = [&LINE[..], &["--dense-layers", "0", "--llama-bench", text(&fake), "--json", "out.json"]].concat();
        let ended = bench.tiny(&line).ok();
        assert_eq!(bench.json("out.json")["peers"][0]["decodes_behind_the_prompt"], false);
        assert!(ended.stdout.contains("empty cache"), "{}", ended.stdout);
        assert!(!fs::read_to_string(bench.path("calls")).unwrap().contains("-d "));
    }

    #[test]
    fn that_fail_or_are_something_else() {
        let bench = Bench::new();
        let with = |path: &Path, words: &[&str]| {
            bench.tiny(&[&LINE[..], &["--llama-bench", text(path)]].concat()).refused(words);
        };
        with(&bench.path("missing"), &["cannot run", "missing"]);
        let help = "#!/bin/sh\ncase \"$*\" in *--help*) echo n-prompt; exit 0;; esac\n";
        let other = program(&bench, "other", "#!/bin/sh\necho hello\n");
        with(&other, &["other is no llama-bench", "--n-prompt"]);
        let failing = program(&bench, "failing", &format!("{help}echo 'no such backend' >&2\nexit 3\n"));
        with(&failing, &["failing", "-p 8 -n 0", "no such backend"]);
        let words = program(&bench, "words", &format!("{help}echo '| model | size |'\n"));
        with(&words, &["words printed something else", "-o json"]);
        let lengths = format!("{help}echo '[{{\"n_prompt\": 512, \"n_gen\": 0, \"avg_ts\": 1.5}}]'\n");
        with(&program(&bench, "lengths", &lengths), &["lengths gave no speed for 8 tokens"]);
        let good = program(&bench, "good", FAKE);
        let batches = [&LINE[..], &["--batch", "2", "--llama-bench", text(&good)]].concat();
        bench.tiny(&batches).refused(&["--batch", "one sequence"]);
        bench.tiny(&[&LINE[..], &["--llama-bench-args", "-ngl 7"]].concat()).refused(&["--llama-bench"]);
    }
}
