//! The unfinished file of a pull, hashed as it grows.
//!
//! Invariant: the hash is that of the bytes on disk, and only [`Part::publish`] gives them the final name.

use super::{Progress, Step};
use crate::error::{Error, Result};
use crate::model::mapped::hex;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Bytes between two reports of progress while hashing.
const CHUNK: usize = 1 << 20;

/// A `.part` file, open for appending.
pub struct Part {
    path: PathBuf,
    file: File,
    hasher: Sha256,
    len: u64,
    /// Of the finished file; for messages.
    total: u64,
}

impl Part {
    /// Opens or creates the part and hashes what an earlier pull left in it; more than `total` bytes cannot be right and
    /// are dropped.
    pub fn open(path: PathBuf, total: u64, progress: &mut dyn FnMut(Progress) -> Result<()>) -> Result<Part> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::io("create", &path))?;
        let mut part = Part { path, file, hasher: Sha256::new(), len: 0, total };
        let found = part.file.metadata().map_err(Error::io("read", &part.path))?.len();
        if found > total {
            part.restart()?;
            return Ok(part);
        }
        // Hashing leaves the file's position at its end, where the next bytes go.
        part.len = hash_into(&mut part.hasher, &mut (&part.file).take(found), &part.path, total, progress)?;
        Ok(part)
    }

    /// Bytes that are there.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Appends and hashes.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            // An unknown share of `bytes` was written: cut back to what the hash covers, so that the rest stays good.
            let _ = self.file.set_len(self.len);
            let _ = self.file.seek(SeekFrom::Start(self.len));
            return Err(self.write_error(error));
        }
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Drops everything and begins at zero.
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(Error::io("write", &self.path))?;
        self.file.seek(SeekFrom::Start(0)).map_err(Error::io("write", &self.path))?;
        self.hasher = Sha256::new();
        self.len = 0;
        Ok(())
    }

    /// Compares the hash; the error is a text for the user.
    pub fn verify(&self, expected: &str) -> Result<(), String> {
        let found = hex(&self.hasher.clone().finalize());
        if found == expected {
            return Ok(());
        }
        Err(format!("the content has SHA-256 {found}, but {expected} is expected"))
    }

    /// Makes the bytes durable, then gives them their final name in one step.
    pub fn publish(self, target: &Path) -> Result<()> {
        self.file.sync_all().map_err(|error| self.write_error(error))?;
        let Part { path, file, .. } = self;
        // Windows does not rename an open file.
        drop(file);
        fs::rename(&path, target).map_err(Error::io("rename", &path))?;
        if let Some(folder) = target.parent().filter(|_| cfg!(unix)) {
            // The name itself lives in the folder. Failing to make it durable costs a second pull after a power cut.
            if let Err(error) = File::open(folder).and_then(|folder| folder.sync_all()) {
                tracing::debug!(%error, "the model folder was not synced");
            }
        }
        Ok(())
    }

    /// Ends a pull that failed: an empty part is of no use to the next one.
    pub fn keep_if_useful(self) {
        let Part { path, file, len, .. } = self;
        drop(file);
        if len == 0 {
            let _ = fs::remove_file(path);
        }
    }

    fn write_error(&self, source: std::io::Error) -> Error {
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::Download(format!(
                "no room left for {}: {} of {} bytes are there and {} more are needed; free some space and pull again, \
                 the part is kept and resumed ({source})",
                self.path.display(),
                self.len,
                self.total,
                self.total.saturating_sub(self.len)
            )),
            _ => Error::io("write", &self.path)(source),
        }
    }
}

/// SHA-256 of a file in lower-case hexadecimal.
pub fn hash_file(path: &Path, total: u64, progress: &mut dyn FnMut(Progress) -> Result<()>) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut hasher = Sha256::new();
    hash_into(&mut hasher, &mut file, path, total, progress)?;
    Ok(hex(&hasher.finalize()))
}

fn hash_into(
    hasher: &mut Sha256,
    file: &mut impl Read,
    path: &Path,
    total: u64,
    progress: &mut dyn FnMut(Progress) -> Result<()>,
) -> Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut done = 0;
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => return Ok(done),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        hasher.update(buffer.get(..count).unwrap_or_default());
        done += count as u64;
        progress(Progress { step: Step::Checking, done, total })?;
    }
}
