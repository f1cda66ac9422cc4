//! Everything a user can get wrong: one clear error with the numbers, exit code 2, and nothing long before it.

use super::*;
use crate::common::gguf_writer::Meta;

const ASK: [&str; 5] = ["generate", "--prompt", "hi", "--max-tokens", "2"];

fn ask_of(bench: &Bench, model: &Path) -> Ended {
    bench.run(&[&ASK[..], &["--model", text(model)]].concat())
}

#[test]
fn broken_models() {
    let bench = Bench::new();
    let whole = fs::read(bench.path("tiny.gguf")).unwrap();
    let cut = bench.file("cut.gguf", &whole[..whole.len() / 2]);
    ask_of(&bench, &cut).refused(&["cut.gguf"]);
    let corrupt = bench.bent("corrupt.gguf", |file| file.tensor_count = Some(u64::MAX / 2));
    ask_of(&bench, &corrupt).refused(&["corrupt.gguf"]);
    let empty = bench.file("empty.gguf", "");
    ask_of(&bench, &empty).refused(&["empty"]);
    let other = bench.bent("mamba.gguf", |file| {
        file.set("general.architecture", Meta::Text("mamba".into()));
    });
    ask_of(&bench, &other).refused(&["architecture", "mamba", "llama"]);
    let unknown = bench.bent("unknown.gguf", |file| file.tensor("blk.0.attn_q.weight").type_id = 99);
    ask_of(&bench, &unknown).refused(&["blk.0.attn_q.weight", "99"]);
    let missing = bench.bent("missing.gguf", |file| {
        file.tensors.retain(|tensor| tensor.name != b"blk.1.ffn_down.weight");
    });
    ask_of(&bench, &missing).refused(&["blk.1.ffn_down.weight", "missing"]);
    let nan = bench.bent("nan.gguf", |file| {
        file.tensor("blk.1.ffn_up.weight").data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    ask_of(&bench, &nan).refused(&["blk.1.ffn_up.weight", "NaN"]);
}

#[test]
fn models_that_are_not_there() {
    let bench = Bench::new();
    bench.run(&ASK).refused(&["secateur pull smollm2-135m"]);
    bench.run(&["info", "--model", "llama-9000"]).refused(&["llama-9000", "smollm2-135m"]);
    bench.run(&["pull", "llama-9000"]).refused(&["llama-9000", "smollm2-135m"]);
    // A half file is never taken for a model.
    fs::create_dir(bench.path("models")).unwrap();
    bench.file("models/SmolLM2-135M-Instruct.Q4_1.gguf", "GGUF");
    bench.run(&ASK).refused(&["4 bytes", "98362432", "secateur pull"]);
}

#[test]
fn values_outside_their_range() {
    let bench = Bench::new();
    bench.file("data.txt", prose());
    for ratio in ["1.0", "1.5", "-0.1", "NaN"] {
        let shown = if ratio == "1.0" { "1" } else { ratio };
        bench.tiny(&["generate", "--prompt", "hi", "--ratio", ratio]).refused(&["--ratio", shown, "[0, 1)"]);
        bench.tiny(&["eval", "perplexity", "--data", "data.txt", "--ratio", ratio]).refused(&["--ratio", shown]);
        bench.tiny(&["bench", "--ratio", ratio]).refused(&["--ratio", shown]);
        bench.piped(&["chat", "--ratio", ratio], "hi\n").refused(&["--ratio", shown]);
    }
    for (option, value) in [
        ("--probe-tokens", "0"),
        ("--probe-samples", "1.1"),
        ("--tile", "0"),
        ("--ema", "2"),
        ("--temperature", "-1"),
        ("--top-p", "0"),
        ("--min-p", "1"),
        ("--repetition-penalty", "0"),
    ] {
        bench.tiny(&[&ASK[..], &[option, value]].concat()).refused(&[option, value]);
    }
    bench.tiny(&[&ASK[..], &["--log", "secateur=loud"]].concat()).refused(&["--log", "loud"]);
    bench.tiny(&[&ASK[..], &["--no-such-option"]].concat()).refused(&["--no-such-option"]);
    bench.tiny(&["eval", "perplexity", "--data", "data.txt", "--prune", "decode"]).refused(&["--prune", "prefill"]);
    for zero in ["--batch", "--batches", "--calibration-samples"] {
        bench.tiny(&["eval", "perplexity", "--data", "data.txt", zero, "0"]).refused(&[zero]);
    }
}

#[test]
fn prompts_that_do_not_fit() {
    let bench = Bench::new();
    let long = "rain ".repeat(400);
    bench.tiny(&["generate", "--prompt", &long]).refused(&["prompt", "512"]);
    bench.tiny(&["generate", "--raw", "--prompt", "0123456789", "--context", "8"]).refused(&["10 tokens", "8"]);
    bench.tiny(&[&ASK[..], &["--context", "513"]].concat()).refused(&["--context", "513", "512"]);
    bench.tiny(&["generate", "--raw", "--prompt", ""]).refused(&["prompt is empty"]);
    bench.piped(&["generate"], "").refused(&["prompt is empty"]);
    bench.tiny(&["bench", "--prompt-tokens", "500", "--decode-tokens", "20"]).refused(&["520", "512"]);
    bench.piped(&["chat", "--context", "32", "--max-tokens", "4"], &long).refused(&["32", "nothing was sent"]);
}

#[test]
fn data_that_cannot_be_scored() {
    let bench = Bench::new();
    let score = |name: &str, content: &[u8], words: &[&str]| {
        bench.file(name, content);
        bench.tiny(&["eval", "perplexity", "--seq-len", "32", "--data", name]).refused(words);
    };
    score("empty.txt", b"", &["empty.txt", "no text"]);
    score("short.txt", b"0123456789", &["10 tokens", "32"]);
    score("latin.txt", b"one\ntwo\n\xff", &["line 3", "UTF-8"]);
    score("rows.jsonl", b"{\"text\": \"a\"}\n{\"body\": \"b\"}\n", &["line 2", "`text`"]);
    score("broken.jsonl", b"{\"text\": \"a\"}\n\n{\"text\"\n", &["line 3", "JSON"]);
    score("number.jsonl", b"{\"text\": 7}\n", &["line 1", "number"]);
    bench.tiny(&["eval", "perplexity", "--data", "none.txt"]).refused(&["none.txt"]);
    bench.file("data.txt", prose());
    bench.tiny(&["eval", "perplexity", "--data", "data.txt", "--seq-len", "1"]).refused(&["--seq-len", "1"]);
    bench.tiny(&["eval", "perplexity", "--data", "data.txt", "--seq-len", "513"]).refused(&["513", "512"]);
    let calibrated = ["eval", "perplexity", "--data", "data.txt", "--seq-len", "32", "--ratio", "0.2", "--calibration"];
    bench.tiny(&[&calibrated[..], &["empty.txt"]].concat()).refused(&["empty.txt", "no text"]);
}

#[test]
fn outputs_that_cannot_be_written_are_found_first() {
    let bench = Bench::new();
    bench.file("data.txt", prose());
    for line in [&ASK[..], &["info"], &["bench"], &["eval", "perplexity", "--data", "data.txt"], &["chat"]] {
        // The model does not exist either: had it been opened first, the error would be about it.
        let line = [line, &["--json", "nowhere/out.json", "--model", "nowhere.gguf"]].concat();
        bench.run(&line).refused(&["nowhere/out.json"]);
    }
    bench.run(&["devices", "--json", "nowhere/out.json"]).refused(&["nowhere/out.json"]);
    let masks = ["eval", "perplexity", "--data", "data.txt", "--masks", "nowhere/masks.jsonl"];
    bench.tiny(&masks).refused(&["nowhere/masks.jsonl"]);
}

#[test]
fn a_failed_run_leaves_an_old_result_alone() {
    let bench = Bench::new();
    bench.file("old.json", "{}");
    bench.tiny(&["generate", "--raw", "--prompt", "", "--json", "old.json"]).refused(&["empty"]);
    assert_eq!(fs::read_to_string(bench.path("old.json")).unwrap(), "{}");
    bench.tiny(&["generate", "--raw", "--prompt", "", "--json", "new.json"]).refused(&["empty"]);
    assert!(!bench.path("new.json").exists());
}

#[test]
fn devices_that_are_not_there() {
    let bench = Bench::new();
    bench.tiny(&[&ASK[..], &["--device", "Voodoo 2"]].concat()).refused(&["no GPU adapter", "Voodoo 2", "present"]);
}

/// A device file never ends; nothing may be read until memory does.
#[cfg(target_os = "linux")]
#[test]
fn endless_input() {
    let bench = Bench::new();
    for line in [&["generate"], &["chat"]] {
        let mut command = bench.command(&[line, &["--model", "tiny.gguf"][..]].concat());
        command.stdin(fs::File::open("/dev/zero").unwrap());
        Ended::of(command).refused(&["stdin", "16777216 bytes"]);
    }
    bench.tiny(&["eval", "perplexity", "--data", "/dev/zero"]).refused(&["/dev/zero", "1073741824 bytes"]);
}

/// The Vulkan loader can be told to find no driver.
#[cfg(target_os = "linux")]
#[test]
fn a_machine_without_a_gpu() {
    let bench = Bench::new();
    for line in [&ASK[..], &["devices"]] {
        let mut command = bench.command(line);
        if line != ["devices"] {
            command.args(["--model", "tiny.gguf"]);
        }
        command.env("VK_DRIVER_FILES", "/nonexistent").env("VK_ICD_FILENAMES", "/nonexistent");
        Ended::of(command).refused(&["no GPU adapter was found", "mesa-vulkan-drivers"]);
    }
}
