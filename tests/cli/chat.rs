//! The chat, driven by a pipe.

use super::*;

const DENSE: [&str; 7] = ["chat", "--method", "dense", "--max-tokens", "6", "--temperature", "0"];

#[test]
fn a_conversation_runs_only_what_is_new() {
    let bench = Bench::new();
    let line = [&["chat", "--max-tokens", "6", "--seed", "3", "--json", "out.json"], &PRUNED[..]].concat();
    let ended = bench.piped(&line, "the rain\n\n/stats\nand the other\n/quit\nnever read\n").ok();
    assert!(ended.stderr.contains("kept"), "{}", ended.stderr);
    assert!(ended.stderr.contains("FLOPs of the answer"), "{}", ended.stderr);
    let out = bench.json("out.json");
    let roles: Vec<&str> =
        out["messages"].as_array().unwrap().iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant"]);
    assert_eq!(out["sampling"]["seed"], 3);
    let turns = out["turns"].as_array().unwrap();
    assert_eq!(turns[0]["prefilled_tokens"], turns[0]["prompt_tokens"]);
    let (first, second) = (turns[0]["prompt_tokens"].as_u64(), &turns[1]);
    let kept = second["prompt_tokens"].as_u64().unwrap() - second["prefilled_tokens"].as_u64().unwrap();
    assert!(Some(kept) >= first, "{out}");
}

#[test]
fn another_answer_to_the_same_question_starts_from_the_same_cache() {
    let bench = Bench::new();
    let ended = bench.piped(&DENSE, "the rain\n/retry\n").ok();
    let answers: Vec<&str> = ended.stdout.split_inclusive('\n').collect();
    let (first, second) = answers.split_at(answers.len() / 2);
    assert_eq!(first.concat(), second.concat());
    assert!(!ended.stdout.is_empty());
}

#[test]
fn settings_change_between_turns() {
    let bench = Bench::new();
    let input = "/ratio 0.4\nhi\n/method full-batch\nhi\n/ratio 0\nhi\n/system Be brief.\nhi\n/clear\n/save log.json\n";
    let line = ["chat", "--max-tokens", "3", "--dense-layers", "0", "--tile", "16", "--json", "out.json"];
    let ended = bench.piped(&line, input).ok();
    for word in ["pp at ratio 0.4", "full-batch at ratio 0.4", "dense: every unit", "is set", "is empty", "log.json"] {
        assert!(ended.stderr.contains(word), "`{}` lacks `{word}`", ended.stderr);
    }
    let saved = bench.json("log.json");
    assert_eq!(saved["messages"].as_array().unwrap().len(), 1, "the system message stays: {saved}");
}

#[test]
fn a_conversation_is_saved_as_markdown_too() {
    let bench = Bench::new();
    bench.piped(&DENSE, "the rain\n/save log.md\n").ok();
    assert!(fs::read_to_string(bench.path("log.md")).unwrap().starts_with("## user\n\nthe rain\n\n## assistant\n\n"));
}

#[test]
fn a_full_context_is_told() {
    let bench = Bench::new();
    let line = ["chat", "--method", "dense", "--context", "48", "--max-tokens", "100", "--temperature", "0"];
    let ended = bench.piped(&line, "hi\n").ok();
    assert!(ended.stderr.contains("the context of 48 tokens is full"), "{}", ended.stderr);
}

#[test]
fn json_alone_on_stdout() {
    let bench = Bench::new();
    let out = bench.piped(&[&DENSE[..], &["--json"]].concat(), "hi\n").json();
    assert_eq!(out["turns"].as_array().unwrap().len(), 1);
}

#[test]
fn a_pipe_stops_at_a_command_that_there_is_not() {
    let bench = Bench::new();
    for command in ["/nonsense", "/ratio 2", "/retry", "/save nowhere/log.md"] {
        bench.piped(&DENSE, &format!("{command}\nhi\n")).refused(&[]);
    }
}
