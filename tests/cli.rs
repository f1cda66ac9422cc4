//! The program from the outside: what it prints, what it writes, and how it ends.
//!
//! Needs an adapter, as every test that runs a model does. Models are tiny ones with random weights, made here.

mod common;

#[path = "cli/bad_input.rs"]
mod bad_input;
#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/calibrate.rs"]
mod calibrate;
#[path = "cli/chat.rs"]
mod chat;
#[path = "cli/convert.rs"]
mod convert;
#[path = "cli/lora.rs"]
mod lora;
#[path = "cli/results.rs"]
mod results;
#[path = "cli/table.rs"]
mod table;
#[path = "cli/tasks.rs"]
mod tasks;
#[cfg(feature = "burn")]
#[path = "cli/tune.rs"]
mod tune;
#[path = "cli/window.rs"]
mod window;

use common::gguf_writer::GgufWriter;
use common::tiny_model::{TinySpec, write_gguf};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Options that make pruning bite on a model of two small layers.
const PRUNED: [&str; 6] = ["--ratio", "0.5", "--dense-layers", "0", "--tile", "16"];

/// A folder of its own with a tiny model, in which the program is run.
struct Bench {
    dir: TempDir,
}

/// What a run left.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().expect("a folder");
        write_gguf(&dir.path().join("tiny.gguf"), &TinySpec::default());
        Bench { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file and returns its path.
    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(name), content).expect("a file");
        self.path(name)
    }

    /// A model that differs from the tiny one.
    fn bent(&self, name: &str, bend: impl FnOnce(&mut GgufWriter)) -> PathBuf {
        let mut model = TinySpec::default().gguf();
        bend(&mut model);
        self.file(name, model.to_bytes())
    }

    fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_secateur"));
        command.args(line).current_dir(self.dir.path()).stdin(Stdio::null());
        // A model folder of its own, and nothing of the user's settings.
        for name in ["SECATEUR_MODEL", "SECATEUR_DEVICE", "SECATEUR_LOG", "SECATEUR_DATA"] {
            command.env_remove(name);
        }
        command.env("SECATEUR_MODELS", self.path("models")).env("SECATEUR_CACHE", self.path("cache"));
        command
    }

    /// Runs a command as it is.
    fn run(&self, line: &[&str]) -> Ended {
        Ended::of(self.command(line))
    }

    /// Runs a command on the tiny model.
    fn tiny(&self, line: &[&str]) -> Ended {
        self.run(&[line, &["--model", "tiny.gguf"]].concat())
    }

    /// Runs a command on the tiny model with `input` on stdin.
    fn piped(&self, line: &[&str], input: &str) -> Ended {
        let mut command = self.command(&[line, &["--model", "tiny.gguf"]].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // A program that ended early closes the pipe; what it said is what the test looks at.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        Ended::from(child.wait_with_output().expect("the program ends"))
    }

    fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(self.path(name)).expect("a result")).expect("JSON")
    }
}

impl From<std::process::Output> for Ended {
    fn from(output: std::process::Output) -> Ended {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Ended {
    fn of(mut command: Command) -> Ended {
        Ended::from(command.output().expect("the program starts"))
    }

    #[track_caller]
    fn ok(self) -> Ended {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Stdout as JSON, which it must be from its first to its last character.
    #[track_caller]
    fn json(self) -> serde_json::Value {
        let ended = self.ok();
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error} in {}", ended.stdout))
    }

    /// The user's fault, said once, with every one of `words`.
    #[track_caller]
    fn refused(self, words: &[&str]) {
        assert_eq!(self.code, Some(2), "{self:?}");
        let errors: Vec<&str> = self.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "`{}` lacks `{word}`", self.stderr);
        }
        for word in ["panicked", "RUST_BACKTRACE", "internal error"] {
            assert!(!self.stderr.contains(word), "{self:?}");
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A text of some two thousand tokens of the tiny vocabulary.
fn prose() -> String {
    (0..120).map(|n| format!("In the year {n} the rain and the other rain ran.\n")).collect()
}
