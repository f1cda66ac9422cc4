//! The log of a table while it is made, from which an interrupted run goes on: JSON lines, what is measured and then
//! one line for every batch of every arm.
//!
//! Invariants: lines stand in the order of the schedule; what is measured is written before anything is, as a whole; a
//! step counts when all arms have run it, so that the runtimes that are compared come from one process. A line that a
//! kill cut short, and the lines of the step that it belongs to, are dropped when the log is opened again.

use super::schedule::{Schedule, Step};
use super::schema::{DataRecord, Protocol};
use super::spec::Arm;
use super::write::{JSON, write_whole};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Name of the log while the table is made.
pub const PARTIAL: &str = "table.partial.jsonl";
/// Its name once the table is whole.
const WHOLE: &str = "table.batches.jsonl";
/// Version of this layout.
const FORMAT: u32 = 1;
/// How many differences are named.
const NAMED: usize = 4;
/// What may differ between a run and its resumption: where the same bytes lie.
const FREE: [&str; 3] = ["protocol.model", "protocol.lora", "protocol.calibration.data"];
/// The same of every arm, behind its place.
const FREE_OF_ARMS: [&str; 2] = ["].tuned.masks", "].tuned.lora"];

/// Everything that the numbers of a table depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Model, device, lengths, counts, seed, program.
    pub protocol: Protocol,
    /// The data sets.
    pub data: Vec<DataRecord>,
    /// The arms, dense first.
    pub arms: Vec<Arm>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    #[serde(flatten)]
    fingerprint: Value,
}

/// What a batch of an arm came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchResult {
    /// Seconds, read-backs included.
    pub seconds: f64,
    /// Tokens run, padding left out.
    pub tokens: usize,
    /// Tokens of a text that were scored; 0 for questions.
    pub scored: usize,
    /// Of a text the sum of the negative log likelihoods of its scored tokens, in nats; of questions the log likelihood
    /// of every request of the batch, in order.
    pub scores: Vec<f64>,
    /// Floating-point operations of the transformer layers, probes left out.
    pub flops_pass: f64,
    /// The probes'.
    pub flops_probe: f64,
    /// What a dense pass computes.
    pub flops_dense: f64,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchLine {
    /// Index of the round.
    pub round: usize,
    /// Index of the data set.
    pub data: usize,
    /// Index of the batch.
    pub batch: usize,
    /// Index of the arm.
    pub arm: usize,
    /// What it came to.
    #[serde(flatten)]
    pub result: BatchResult,
}

impl BatchLine {
    /// The step it belongs to.
    pub fn step(&self) -> Step {
        Step { round: self.round, data: self.data, batch: self.batch }
    }
}

/// The log, open for more. No other process can open it meanwhile.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    lines: Vec<BatchLine>,
}

/// Refuses a folder that cannot be begun, or resumed, for what lies there already or does not.
///
/// # Errors
/// [`Error::Setting`] naming the file.
pub fn check_out(out: &Path, resume: bool) -> Result<()> {
    let (partial, whole) = (out.join(PARTIAL), out.join(JSON));
    let (partial_name, whole_name) = (partial.display(), whole.display());
    let what = match (partial.exists(), whole.exists(), resume) {
        (true, _, false) => {
            format!("{partial_name} is there already: go on with it by --resume, or name another --out")
        }
        (false, true, false) => format!("{whole_name} is a whole table already: name another --out"),
        (false, true, true) => format!("there is nothing to resume: {whole_name} is whole"),
        (false, false, true) => format!("there is nothing to resume: {partial_name} does not exist"),
        (true, _, true) | (false, false, false) => return Ok(()),
    };
    Err(Error::Setting(what))
}

impl Log {
    /// Starts a log in the folder `out`, which is made where it is missing.
    ///
    /// # Errors
    /// Those of [`check_out`], and [`Error::Io`].
    pub fn create(out: &Path, fingerprint: &Fingerprint) -> Result<Log> {
        check_out(out, false)?;
        let path = out.join(PARTIAL);
        fs::create_dir_all(out).map_err(Error::io("create", out))?;
        let header = Header { format: FORMAT, fingerprint: value(fingerprint)? };
        let mut text = serde_json::to_string(&header).map_err(|error| Error::Internal(error.to_string()))?;
        text.push('\n');
        write_whole(&path, text.as_bytes())?;
        let mut file = open_alone(&path)?;
        file.seek(SeekFrom::End(0)).map_err(Error::io("read", &path))?;
        Ok(Log { path, file, lines: Vec::new() })
    }

    /// Opens the log that an interrupted run left in the folder `out`.
    ///
    /// # Errors
    /// Those of [`check_out`]; [`Error::Setting`] where it is of other settings, data, model, device or program, naming what
    /// differs; [`Error::BadFile`] with the line that is damaged; [`Error::Io`].
    pub fn resume(out: &Path, fingerprint: &Fingerprint, schedule: &Schedule) -> Result<Log> {
        check_out(out, true)?;
        let path = out.join(PARTIAL);
        let mut file = open_alone(&path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
        let mut lines = WholeLines { path: &path, rest: &bytes, number: 0, end: 0 };
        let header: Header = match lines.next()? {
            Some(header) => header,
            None => return Err(Error::bad_file(&path, "its first line is damaged: start anew with another --out")),
        };
        if header.format != FORMAT {
            let what = format!("it has format {}, this version resumes {FORMAT}: start anew", header.format);
            return Err(Error::bad_file(&path, what));
        }
        check_same(&path, &header.fingerprint, &value(fingerprint)?)?;
        let (known, end) = known_steps(&mut lines, schedule)?;
        file.set_len(end as u64).map_err(Error::io("write", &path))?;
        file.seek(SeekFrom::End(0)).map_err(Error::io("read", &path))?;
        Ok(Log { path, file, lines: known })
    }

    /// What is known, in order.
    pub fn lines(&self) -> &[BatchLine] {
        &self.lines
    }

    /// Adds a line: it is in the system's hands when this returns.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn append(&mut self, line: BatchLine) -> Result<()> {
        let mut text = serde_json::to_string(&line).map_err(|error| Error::Internal(error.to_string()))?;
        text.push('\n');
        self.file.write_all(text.as_bytes()).map_err(Error::io("write", &self.path))?;
        self.lines.push(line);
        Ok(())
    }

    /// Waits until all lines are on the disk.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sync(&mut self) -> Result<()> {
        self.file.sync_data().map_err(Error::io("write", &self.path))
    }

    /// Gives the log its last name, `table.batches.jsonl`: the table is written.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn close(self) -> Result<PathBuf> {
        let whole = self.path.with_file_name(WHOLE);
        // Windows does not rename an open file.
        drop(self.file);
        fs::rename(&self.path, &whole).map_err(Error::io("rename", &self.path))?;
        Ok(whole)
    }
}

/// Opens a log for one process.
fn open_alone(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(Error::io("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::Setting(format!("{} is being written by another process: wait for it", path.display())))
        }
        Err(TryLockError::Error(error)) => {
            // Some network file systems know no locks; that is no reason to make no table there.
            tracing::warn!(path = %path.display(), %error, "the table's log cannot be locked");
            Ok(file)
        }
    }
}

/// A value as it reads from a file, which is what it is compared with.
fn value(fingerprint: &Fingerprint) -> Result<Value> {
    serde_json::to_string(fingerprint)
        .and_then(|text| serde_json::from_str(&text))
        .map_err(|error| Error::Internal(error.to_string()))
}

/// The lines of all steps that every arm has run, and where they end in the file.
fn known_steps(lines: &mut WholeLines<'_>, schedule: &Schedule) -> Result<(Vec<BatchLine>, usize)> {
    let (mut known, mut end) = (Vec::new(), lines.end);
    'steps: for step in schedule.steps() {
        let mut of_step = Vec::with_capacity(schedule.arms);
        for arm in schedule.order(step) {
            let Some(line) = lines.next::<BatchLine>()? else { break 'steps };
            if line.step() != step || line.arm != arm {
                let what = format!(
                    "line {} is of round {}, data set {}, batch {}, arm {}, where {step:?} of arm {arm} was to stand: \
                     start anew with another --out",
                    lines.number, line.round, line.data, line.batch, line.arm
                );
                return Err(Error::bad_file(lines.path, what));
            }
            of_step.push(line);
        }
        known.extend(of_step);
        end = lines.end;
    }
    Ok((known, end))
}

/// Lines that end; what follows the last of them was cut short.
struct WholeLines<'a> {
    path: &'a Path,
    rest: &'a [u8],
    number: usize,
    /// Bytes read so far.
    end: usize,
}

impl WholeLines<'_> {
    fn next<T: for<'de> Deserialize<'de>>(&mut self) -> Result<Option<T>> {
        let Some(length) = self.rest.iter().position(|&byte| byte == b'\n') else { return Ok(None) };
        let (line, rest) = self.rest.split_at(length + 1);
        (self.rest, self.number, self.end) = (rest, self.number + 1, self.end + length + 1);
        serde_json::from_slice(line).map(Some).map_err(|error| {
            let what = format!("line {} is damaged ({error}): cut the file before it, or start anew", self.number);
            Error::bad_file(self.path, what)
        })
    }
}

/// Refuses a log of something else, naming what differs.
fn check_same(path: &Path, then: &Value, now: &Value) -> Result<()> {
    let mut found = Vec::new();
    differences("", then, now, &mut found);
    if found.is_empty() {
        return Ok(());
    }
    let more = match found.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    found.truncate(NAMED);
    Err(Error::Setting(format!(
        "{} cannot be resumed, for it was made with something else: {}{more}. Run it as it was begun, or name another \
         --out",
        path.display(),
        found.join("; ")
    )))
}

/// Collects the places where two values differ, with both values.
fn differences(place: &str, then: &Value, now: &Value, found: &mut Vec<String>) {
    if then == now || FREE.contains(&place) || FREE_OF_ARMS.iter().any(|end| place.ends_with(end)) {
        return;
    }
    match (then, now) {
        (Value::Object(a), Value::Object(b)) => {
            let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
            for name in names {
                let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
                let of = |side: &serde_json::Map<String, Value>| side.get(name).cloned().unwrap_or(Value::Null);
                differences(&place, &of(a), &of(b), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{place}[{index}]"), a, b, found);
            }
        }
        (Value::Array(a), Value::Array(b)) => found.push(format!("{place} ({} then, {} now)", a.len(), b.len())),
        _ => found.push(format!("{place} ({then} then, {now} now)")),
    }
}
