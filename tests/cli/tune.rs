//! Units chosen by gradients: written, run, refused, interrupted.

use super::*;
use secateur::model::adapter::Adapter;
use secateur::prune::UnitSets;
use std::time::Duration;

/// A choice on the tiny model that is over at once.
const SHORT: [&str; 16] = [
    "tune",
    "llm-pruner",
    "--data",
    "data.txt",
    "--samples",
    "4",
    "--seq-len",
    "16",
    "--ratio",
    "0.5",
    "--dense-layers",
    "0",
    "--dense-last-layers",
    "0",
    "--tile",
    "16",
];

fn bench() -> Bench {
    let bench = Bench::new();
    bench.file("data.txt", prose());
    bench
}

fn nll(bench: &Bench, more: &[&str]) -> f64 {
    let score = ["eval", "perplexity", "--data", "data.txt", "--seq-len", "16", "--batches", "2", "--json"];
    bench.tiny(&[&score[..], more].concat()).json()["nll"].as_f64().expect("a likelihood")
}

#[test]
fn a_choice_is_written_and_runs() {
    let bench = bench();
    let files = secateur::model::ModelFiles::open(&bench.path("tiny.gguf")).unwrap();
    let dense = nll(&bench, &[]);
    for more in
        [&["--backend", "cpu"][..], &["--taylor", "param_mix", "--whole-groups", "--reduction", "max", "--seed", "3"]]
    {
        let made = bench.tiny(&[&SHORT[..], &["--out", "m.safetensors"], more].concat()).ok();
        let kept = "m.safetensors: llm-pruner at ratio 0.5 keeps 4 of 8 heads and 96 of 192 channels\n";
        assert_eq!(made.stdout, kept);
        for part in ["note: this needs about", "4 samples of 16 tokens", "note: loss "] {
            assert!(made.stderr.contains(part), "`{}` lacks `{part}`", made.stderr);
        }
        assert_ne!(nll(&bench, &["--masks-in", "m.safetensors"]), dense);
        let path = bench.path("m.safetensors");
        let units = UnitSets::open(&path, &files.config, &files.sha256().unwrap()).unwrap();
        let settings = units.origin.settings.expect("what it was told");
        assert_eq!((units.origin.made_by.as_str(), &settings["samples"]), ("llm-pruner", &4.into()));
        assert_eq!(settings["taylor"], if more.contains(&"param_mix") { "param_mix" } else { "param_first" });
        assert_eq!(units.origin.prune.map(|prune| prune.ratio), Some(0.5));
    }
    bench
        .tiny(&[&SHORT[..], &["--out", "m.safetensors", "--importance", "all.json", "--backend", "cpu"]].concat())
        .ok();
    let all = &bench.json("all.json")["layers"];
    let counts = |layer: usize| [0, 1].map(|half: usize| all[layer][half].as_array().map(Vec::len));
    assert_eq!([counts(0), counts(1)], [[Some(4), Some(96)]; 2]);
    // Software adapters have a backend that is faster.
    let default = bench.tiny(&[&SHORT[..], &["--out", "m.safetensors"]].concat()).ok();
    assert!(default.stderr.contains("(cpu)") || default.stderr.contains("(wgpu)"), "{}", default.stderr);
}

#[test]
fn what_cannot_be_chosen_is_refused() {
    let bench = bench();
    let refused = |more: &[&str], words: &[&str]| {
        // Of an option that is given twice, the second is what is tested.
        let mut line: Vec<&str> = SHORT.to_vec();
        line.extend(["--out", "m.safetensors", "--backend", "cpu", "--model", "tiny.gguf"]);
        for pair in more.chunks(2) {
            match line.iter().position(|word| *word == pair[0]) {
                Some(at) => line[at + 1] = pair[1],
                None => line.extend(pair),
            }
        }
        bench.run(&line).refused(words);
        assert!(!bench.path("m.safetensors").exists(), "{line:?}");
    };
    refused(&["--ratio", "1.5"], &["--ratio is 1.5", "[0, 1)"]);
    refused(&["--ratio", "NaN"], &["--ratio is NaN"]);
    refused(&["--ratio", "0"], &["--ratio 0 prunes nothing", "tiles of 16"]);
    refused(&["--dense-layers", "2"], &["prunes nothing", "2 layers, of which 0 may be pruned"]);
    refused(&["--tile", "0"], &["--tile is 0"]);
    refused(&["--data", "nowhere.txt"], &["nowhere.txt"]);
    refused(&["--data", "c5"], &["c5"]);
    refused(&["--seq-len", "1"], &["--seq-len is 1"]);
    refused(&["--seq-len", "500000"], &["data.txt", "one chunk needs 500000"]);
    refused(&["--seq-len", "600"], &["samples of 600 tokens", "512 at most"]);
    refused(&["--samples", "0"], &["--samples"]);
    refused(&["--taylor", "third"], &["param_second"]);
    refused(&["--out", "nowhere/m.safetensors"], &["nowhere/m.safetensors"]);
    refused(&["--model", "none.gguf"], &["none.gguf"]);
    refused(&["--backend", "wgpu", "--device", "no such"], &["no such"]);
    let opt = bench.file("opt.gguf", TinySpec::of("opt", TinySpec::default()).gguf().to_bytes());
    refused(&["--model", text(&opt)], &["`OPT`", "LLaMA's blocks"]);
    let damaged = bench.bent("damaged.gguf", |model| {
        for name in ["blk.0.ffn_up.weight", "blk.0.ffn_gate.weight", "blk.0.ffn_down.weight"] {
            for value in model.tensor(name).data.as_chunks_mut::<4>().0 {
                *value = 1e20f32.to_le_bytes();
            }
        }
    });
    refused(&["--model", text(&damaged)], &["damaged.gguf", "loss of sample 0 is NaN"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_nothing() {
    let bench = bench();
    let beside = bench.path("m.safetensors.writing");
    std::os::unix::fs::symlink("/dev/full", &beside).unwrap();
    bench.tiny(&[&SHORT[..], &["--backend", "cpu", "--out", "m.safetensors"]].concat()).refused(&["m.safetensors"]);
    assert!(!bench.path("m.safetensors").exists() && !beside.is_symlink());
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_nothing() {
    let bench = Bench::new();
    bench.file("long.txt", (0..80).map(|_| prose()).collect::<String>());
    let line = [
        "--data",
        "long.txt",
        "--samples",
        "6000",
        "--seq-len",
        "16",
        "--ratio",
        "0.5",
        "--dense-layers",
        "0",
        "--dense-last-layers",
        "0",
    ];
    let more = ["--tile", "16", "--backend", "cpu", "--out", "m.safetensors", "--model", "tiny.gguf"];
    let line = [&["tune", "llm-pruner"][..], &line, &more].concat();
    let mut child =
        bench.command(&line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    // Only from then on is it heard: before, it ends the program, or is lost where whoever runs the tests ignores it.
    while !catches_interrupts(child.id()) {
        assert!(child.try_wait().expect("a status").is_none(), "it ended before it could be interrupted");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(200));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill").success());
    let ended = Ended::from(child.wait_with_output().expect("the program ends"));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("cancelled"), "{}", ended.stderr);
    let left: Vec<_> = fs::read_dir(bench.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("m.safetensors")), "{left:?}");
}

/// Whether a process has a handler for Ctrl-C, as the kernel tells it: a mask of signals, the first the lowest bit.
#[cfg(target_os = "linux")]
fn catches_interrupts(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).expect("a mask") & 1 << 1 != 0)
}

/// Elsewhere nothing tells: long enough for a program to start.
#[cfg(all(unix, not(target_os = "linux")))]
fn catches_interrupts(_process: u32) -> bool {
    std::thread::sleep(Duration::from_secs(2));
    true
}

/// Instructions as Alpaca has them.
const ROWS: &str = r#"{"instruction": "Say a colour.", "input": "", "output": "Red."}
{"instruction": "Add the numbers.", "input": "2 and 3", "output": "They make five."}
{"instruction": "Name a <|im_end|> token.", "output": "<s>"}
{"instruction": "Say nothing much at all, but say it at some length, please.", "input": "", "output": "No."}
"#;

const TRAIN: [&str; 8] = ["--rank", "2", "--alpha", "4", "--batch", "2", "--backend", "cpu"];
const FAST: [&str; 2] = ["--learning-rate", "0.01"];

fn lora<'a>(data: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [
        &["tune", "lora", "--data", data, "--seq-len", "200", "--out", "adapter", "--model", "tiny.gguf"],
        &TRAIN[..],
        more,
    ]
    .concat()
}

fn steps(bench: &Bench, folder: &str) -> Vec<String> {
    let table = fs::read_to_string(bench.path(folder).join("steps.csv")).expect("a table of steps");
    table.lines().map(str::to_owned).collect()
}

/// Units, an adapter learnt from instructions with them, and both in the engine.
#[test]
fn an_adapter_is_trained_and_runs() {
    let bench = bench();
    bench.file("rows.jsonl", ROWS);
    bench.tiny(&[&SHORT[..], &["--out", "m.safetensors", "--backend", "cpu"]].concat()).ok();
    let made = bench
        .run(&lora(
            "rows.jsonl",
            &[&FAST[..], &["--masks-in", "m.safetensors", "--steps", "6", "--checkpoint-every", "2"]].concat(),
        ))
        .ok();
    for part in ["this needs about", "4 samples of rows.jsonl", "6 steps of 2", "step 6 of 6", "6 steps in"] {
        assert!(made.stderr.contains(part), "`{}` lacks `{part}`", made.stderr);
    }
    assert!(made.stdout.starts_with("adapter: rank 2, "), "{}", made.stdout);
    let mut names: Vec<String> = fs::read_dir(bench.path("adapter"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["adapter_config.json", "adapter_model.safetensors", "steps.csv"], "no run is left");
    let table = steps(&bench, "adapter");
    assert_eq!((table[0].as_str(), table.len()), ("step,loss,learning_rate,ratio", 7));
    let loss = |line: &String| line.split(',').nth(1).expect("a loss").parse::<f64>().expect("a number");
    assert!(loss(&table[6]) < loss(&table[1]), "{table:?}");
    let masks = ["--masks-in", "m.safetensors"];
    assert_ne!(nll(&bench, &[&masks[..], &["--lora", "adapter"]].concat()), nll(&bench, &masks));
    // A finished adapter is not written over.
    bench.run(&lora("rows.jsonl", &["--steps", "1"])).refused(&["adapter", "choose another folder"]);
    // Nor does one run with another model.
    let other = bench.file("other.gguf", TinySpec { hidden: 128, ..TinySpec::default() }.gguf().to_bytes());
    let score = ["eval", "perplexity", "--data", "data.txt", "--seq-len", "16", "--lora", "adapter"];
    bench.run(&[&score[..], &["--model", text(&other)]].concat()).refused(&["adapter"]);
}

/// The same command takes the steps that the run would have taken: behind a kill from its last checkpoint, behind Ctrl-C from its last
/// step.
#[cfg(unix)]
#[test]
fn a_run_that_is_ended_goes_on_to_the_same_losses() {
    let bench = Bench::new();
    bench.file("long.txt", (0..4).map(|_| prose()).collect::<String>());
    let line = |adapter: &'static str, units: &'static str, every: &'static str| {
        let line = ["tune", "loraprune", "--data", "long.txt", "--seq-len", "16", "--steps", "60"];
        let units =
            ["--ratio", "0.5", "--dense-layers", "0", "--dense-last-layers", "0", "--tile", "16", "--out", units];
        let run = ["--checkpoint-every", every, "--adapter", adapter, "--model", "tiny.gguf"];
        [&line[..], &units, &run, &TRAIN].concat()
    };
    let whole = bench.run(&line("whole", "whole.safetensors", "3")).ok();
    let kept = "whole.safetensors: loraprune at ratio 0.5 keeps 4 of 8 heads";
    assert!(whole.stdout.starts_with(kept), "{}", whole.stdout);
    let files = secateur::model::ModelFiles::open(&bench.path("tiny.gguf")).unwrap();
    let adapter = |folder: &str| Adapter::open(&bench.path(folder), &files).unwrap();
    let units = |name: &str| UnitSets::open(&bench.path(name), &files.config, &files.sha256().unwrap()).unwrap();
    assert_eq!(units("whole.safetensors").origin.made_by, "loraprune");

    // No checkpoint is due before the end of the second: only Ctrl-C leaves one.
    for (signal, folder, name, every, sign) in [
        ("-KILL", "killed", "killed.safetensors", "3", "checkpoint.safetensors"),
        ("-INT", "ended", "ended.safetensors", "60", "steps.csv"),
    ] {
        let line = line(folder, name, every);
        let child =
            bench.command(&line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let (sign, started) = (bench.path(folder).join(sign), std::time::Instant::now());
        while !fs::read(&sign).is_ok_and(|text| text.len() > 60) {
            assert!(started.elapsed().as_secs() < 60, "{} did not appear", sign.display());
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill").success());
        let stopped = Ended::from(child.wait_with_output().expect("the program ends"));
        assert!(!bench.path(name).exists(), "it was ended in the middle");
        if signal == "-INT" {
            assert_eq!(stopped.code, Some(2), "{stopped:?}");
            assert!(stopped.stderr.contains("the same command goes on there"), "{stopped:?}");
        }
        let ended = bench.run(&line).ok();
        assert!(ended.stderr.contains("going on behind step "), "{}", ended.stderr);
        assert_eq!(steps(&bench, folder), steps(&bench, "whole"));
        assert!(adapter(folder) == adapter("whole"), "the adapters differ");
        assert_eq!(units(name).layers, units("whole.safetensors").layers);
    }
}

#[test]
fn what_cannot_be_learnt_is_refused() {
    let bench = bench();
    bench.file("rows.jsonl", ROWS);
    let refused = |line: &[&str], words: &[&str]| {
        bench.run(line).refused(words);
        assert!(!bench.path("adapter").join("adapter_config.json").exists());
    };
    bench.file("no_output.jsonl", "{\"instruction\": \"a\", \"output\": \"b\"}\n{\"instruction\": \"a\"}\n");
    refused(&lora("no_output.jsonl", &[]), &["no_output.jsonl", "line 2", "output"]);
    bench.file("empty.jsonl", "{\"instruction\": \" \", \"output\": \"b\"}\n");
    refused(&lora("empty.jsonl", &[]), &["line 1", "`instruction` is empty"]);
    bench.file("other.jsonl", "{\"question\": \"a\"}\n");
    refused(&lora("other.jsonl", &[]), &["other.jsonl", "line 1", "text"]);
    refused(&lora("nowhere.jsonl", &[]), &["nowhere.jsonl"]);
    refused(&lora("rows.jsonl", &["--steps", "0"]), &["--steps"]);
    refused(&lora("rows.jsonl", &["--learning-rate", "0"]), &["--learning-rate is 0"]);
    let short = ["tune", "lora", "--data", "rows.jsonl", "--seq-len", "10", "--out", "adapter", "--model", "tiny.gguf"];
    refused(&short, &["rows.jsonl", "no row leaves room"]);
    refused(&lora("rows.jsonl", &["--lora", "adapter"]), &["--lora adapter", "merge"]);
    refused(&lora("rows.jsonl", &["--targets", "lm_head"]), &["`lm_head`", "down_proj"]);
    refused(&lora("rows.jsonl", &["--weight-decay", "2"]), &["--weight-decay is 2"]);
    refused(&lora("rows.jsonl", &["--masks-in", "none.safetensors"]), &["none.safetensors"]);
    refused(
        &lora("rows.jsonl", &["--learning-rate", "1e30", "--warmup-steps", "0", "--steps", "4"]),
        &["step ", "the same command goes on there"],
    );
    let prune = [
        "tune",
        "loraprune",
        "--data",
        "data.txt",
        "--seq-len",
        "16",
        "--out",
        "m.safetensors",
        "--adapter",
        "adapter",
    ];
    let prune = [&prune[..], &["--model", "tiny.gguf"], &TRAIN].concat();
    refused(&[&prune[..], &["--ratio", "1.5"]].concat(), &["--ratio is 1.5"]);
    refused(&[&prune[..], &["--ratio", "0"]].concat(), &["--ratio 0 prunes nothing"]);
    let more = ["--ratio", "0.5", "--dense-layers", "0", "--dense-last-layers", "0", "--tile", "16"];
    refused(&[&prune[..], &more, &["--prune-every", "0"]].concat(), &["--prune-every is 0"]);
    refused(&[&prune[..], &more, &["--prune-warmup", "0.9", "--prune-cooldown", "0.9"]].concat(), &["1.8 together"]);
    refused(&[&prune[..], &more, &["--targets", "gate_proj"]].concat(), &["nothing of heads"]);
}
