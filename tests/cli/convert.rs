//! `secateur convert`, and what `secateur info` says a model needs.

use super::*;
use crate::common::tiny_model::write_hf_folder;

const Q4: [&str; 6] = ["--format", "q4_k_m", "--out", "out.gguf", "--json", "result.json"];

#[test]
fn a_folder_becomes_a_file_that_runs() {
    let bench = Bench::new();
    write_hf_folder(&bench.path("folder"), &TinySpec { hidden: 256, head_dim: 64, ..TinySpec::default() });
    let ended = bench.run(&[&["convert", "folder"], &Q4[..]].concat()).ok();
    assert!(ended.stderr.contains("as Q4_K_M") && ended.stderr.contains("free there"), "{ended:?}");
    for word in ["out.gguf", "bits a weight", "attn_v", "Q6_K", "relative RMS error", "exact"] {
        assert!(ended.stdout.contains(word), "{ended:?} lacks {word}");
    }
    let result = bench.json("result.json");
    assert_eq!(result["bytes"].as_u64(), Some(fs::metadata(bench.path("out.gguf")).unwrap().len()));
    assert_eq!(result["format"], "Q4_K_M");
    assert!(result["bits_per_weight"].as_f64().is_some_and(|bits| bits > 4.5 && bits < 9.0), "{result}");
    bench.run(&["generate", "--model", "out.gguf", "--prompt", "the rain", "--max-tokens", "3"]).ok();

    bench.run(&[&["convert", "folder"], &Q4[..]].concat()).refused(&["out.gguf is there already", "--force"]);
    bench.run(&[&["convert", "folder", "--force"], &Q4[..]].concat()).ok();
    bench.run(&["convert", "out.gguf", "--format", "Q2_K", "--out", "b.gguf"]).refused(&[
        "token_embd.weight",
        "Q6_K",
        "Q2_K",
        "--requantise",
    ]);
    bench.run(&["convert", "out.gguf", "--format", "Q2_K", "--out", "b.gguf", "--requantise"]).ok();
}

#[test]
fn what_cannot_be_converted_is_said() {
    let bench = Bench::new();
    let convert = |rest: &[&str]| bench.run(&[&["convert"], rest].concat());
    convert(&["tiny.gguf", "--format", "Q9", "--out", "x.gguf"]).refused(&["`Q9`", "Q4_K_M"]);
    convert(&["tiny.gguf", "--format", "Q8_0", "--out", "tiny.gguf", "--force"]).refused(&["the model itself"]);
    convert(&["tiny.gguf", "--format", "Q8_0", "--out", "missing/x.gguf"]).refused(&["missing/x.gguf"]);
    convert(&["tiny.gguf", "--format", "Q8_0", "--out", "."]).refused(&["a folder"]);
    convert(&["gone.gguf", "--format", "Q8_0", "--out", "x.gguf"]).refused(&["gone.gguf"]);
    assert!(!bench.path("x.gguf").exists());
}

/// A disk that is full while the file is written: here a limit on the size of files, which fails in the same place.
#[cfg(unix)]
#[test]
fn a_file_that_cannot_be_finished_is_not_there() {
    let bench = Bench::new();
    let mut shell = Command::new("sh");
    let line = format!(
        "trap '' XFSZ; ulimit -f 50; exec '{}' convert tiny.gguf --format F32 --out out.gguf",
        env!("CARGO_BIN_EXE_secateur")
    );
    shell.args(["-c", &line]).current_dir(bench.dir.path());
    assert!(fs::metadata(bench.path("tiny.gguf")).unwrap().len() > 50 << 10);
    Ended::of(shell).refused(&["cannot write out.gguf"]);
    let left: Vec<_> = fs::read_dir(bench.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["tiny.gguf"]);
}

#[test]
fn a_model_larger_than_the_memory_is_told_what_fits() {
    let bench = Bench::new();
    bench.file("wide.gguf", TinySpec { hidden: 512, head_dim: 128, ..TinySpec::default() }.gguf().to_bytes());
    let ask = |memory: &str, context: &str| {
        let words = ["generate", "--model", "wide.gguf", "--prompt", "hi", "--max-tokens", "2"];
        bench.run(&[&words[..], &["--memory", memory, "--context", context]].concat())
    };
    ask("100", "512").ok();
    let words = ["MB of the memory of", "of weights", "--context 256", "secateur convert wide.gguf --format"];
    // 5.5 MB of weights; of the cache's 2.2 MB and of what passes need some has to go.
    ask("12", "512").refused(&words[..2]);
    ask("1", "512").refused(&["no format of it fits"]);
    let json = bench.run(&["info", "--model", "wide.gguf", "--memory", "12", "--json"]).json();
    let needs = &json["needs"];
    assert_eq!(needs["available"], 12_000_000, "{needs}");
    let formats = needs["formats"].as_array().unwrap();
    assert_eq!(formats.len(), 1 + secateur::model::convert::RECIPES.len());
    assert_eq!(formats[0]["format"], serde_json::Value::Null);
    let total = |format: &serde_json::Value| format["contexts"][0]["total"].as_u64().unwrap();
    for format in formats {
        assert_eq!(format["contexts"][0]["fits"], total(format) <= 12_000_000, "{format}");
    }
    let of = |name: &str| formats.iter().find(|format| format["format"] == name).unwrap();
    assert!(total(of("Q4_K")) < total(of("Q8_0")) && total(of("Q8_0")) < total(of("F32")));
    assert_eq!(total(of("F32")), total(&formats[0]), "the file is of F32");
    let text = bench.run(&["info", "--model", "wide.gguf", "--memory", "1"]).ok().stdout;
    assert!(text.contains("DOES NOT FIT") && text.contains("Q4_K_M"), "{text}");
}
