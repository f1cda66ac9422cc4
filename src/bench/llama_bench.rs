//! llama.cpp's own `llama-bench` on the same model file, run in the same rounds.

use super::{Peer, PeerRecord, Setup};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A `llama-bench` that runs, and what it runs.
#[derive(Debug)]
pub struct LlamaBench {
    path: PathBuf,
    model: PathBuf,
    more: Vec<String>,
    threads: usize,
    knows_depth: bool,
    backends: Option<String>,
}

/// What is read of one of its tests.
#[derive(serde::Deserialize)]
struct Test {
    n_prompt: usize,
    n_gen: usize,
    avg_ts: f64,
    #[serde(default)]
    backends: String,
}

impl LlamaBench {
    /// Asks a program for its help, before anything long starts; `more` goes to every run.
    ///
    /// # Errors
    /// [`Error::Io`] for a program that cannot be started, [`Error::Setting`] for one that fails or is another.
    pub fn open(path: &Path, model: &Path, more: &str) -> Result<LlamaBench> {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let more: Vec<String> = more.split_whitespace().map(str::to_string).collect();
        let (path, model) = (path.to_path_buf(), model.to_path_buf());
        let mut peer = LlamaBench { path, model, more, threads, knows_depth: false, backends: None };
        let help = peer.output(&["--help".into()])?;
        let said = format!("{}{}", String::from_utf8_lossy(&help.stdout), String::from_utf8_lossy(&help.stderr));
        if !said.contains("n-prompt") {
            let path = peer.path.display();
            return Err(Error::Setting(format!(
                "{path} is no llama-bench: its --help knows no --n-prompt; give --llama-bench the program of llama.cpp"
            )));
        }
        peer.knows_depth = said.contains("n-depth");
        Ok(peer)
    }

    fn options(&self) -> Vec<String> {
        let fixed = ["-o", "json", "-r", "1", "-fa", "1", "-t"].map(str::to_string);
        fixed.into_iter().chain([self.threads.to_string()]).chain(self.more.iter().cloned()).collect()
    }

    fn test(&mut self, prompt: usize, answer: usize, depth: usize) -> Result<f64> {
        let mut line = vec!["-m".into(), self.model.display().to_string()];
        for (option, value) in [("-p", prompt), ("-n", answer)] {
            line.extend([option.into(), value.to_string()]);
        }
        if depth > 0 {
            line.extend(["-d".into(), depth.to_string()]);
        }
        line.extend(self.options());
        let output = self.output(&line)?;
        let path = self.path.display();
        let tests: Vec<Test> = serde_json::from_slice(&output.stdout).map_err(|error| {
            Error::Setting(format!("{path} printed something else than llama-bench's `-o json`: {error}"))
        })?;
        let wanted = |test: &&Test| (test.n_prompt, test.n_gen) == (prompt, answer);
        let Some(test) = tests.iter().find(wanted).filter(|test| test.avg_ts > 0.0 && test.avg_ts.is_finite()) else {
            return Err(Error::Setting(format!(
                "{path} gave no speed for {prompt} tokens of a prompt and {answer} of an answer"
            )));
        };
        self.backends.get_or_insert_with(|| test.backends.clone());
        Ok(test.avg_ts)
    }

    fn output(&self, line: &[String]) -> Result<Output> {
        let mut command = Command::new(&self.path);
        let output = command.args(line).stdin(Stdio::null()).output().map_err(Error::io("run", &self.path))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            let (path, status) = (self.path.display(), output.status);
            return Err(Error::Setting(format!("{path} {} failed ({status}): {last}", line.join(" "))));
        }
        Ok(output)
    }
}

impl Peer for LlamaBench {
    fn name(&self) -> &'static str {
        "llama-bench"
    }

    /// Fails with [`Error::Io`], and [`Error::Setting`] for a run that fails or prints something else. An answer runs behind the prompt
    /// where the program knows how.
    fn turn(&mut self, setup: Setup, _: &[u32], decode: usize) -> Result<[Option<f64>; 2]> {
        let depth = if self.knows_depth { setup.prompt_tokens } else { 0 };
        let prefill = self.test(setup.prompt_tokens, 0, 0)?;
        let decode = (decode > 0).then(|| self.test(0, decode, depth)).transpose()?;
        Ok([Some(prefill), decode])
    }

    fn record(&self) -> PeerRecord {
        PeerRecord {
            name: self.name(),
            what: self.path.display().to_string(),
            options: self.options(),
            backends: self.backends.clone().unwrap_or_default(),
            decodes_behind_the_prompt: self.knows_depth,
        }
    }
}
