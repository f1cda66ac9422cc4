//! A file that is whole under its name, or not there.

use crate::error::{Error, Result};
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A file in the making, beside its target. Dropped before it is finished, it is deleted; what a kill leaves is overwritten by the next
/// one.
pub(in crate::model) struct Part {
    target: PathBuf,
    path: PathBuf,
    file: Option<File>,
    written: u64,
}

impl Part {
    /// Begins.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be written, [`Error::Setting`] if another process is writing the same file.
    pub fn create(target: &Path) -> Result<Part> {
        let mut name = OsString::from(target.as_os_str());
        name.push(".part");
        let path = PathBuf::from(name);
        // Emptied only when it is known to be ours.
        let opened = File::options().write(true).create(true).truncate(false).open(&path);
        let file = opened.map_err(Error::io("create", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Setting(format!("another process is writing {}", target.display())));
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
        }
        let part = Part { target: target.into(), path, file: Some(file), written: 0 };
        part.open()?.set_len(0).map_err(Error::io("write", &part.path))?;
        Ok(part)
    }

    fn open(&self) -> Result<&File> {
        self.file.as_ref().ok_or_else(|| Error::Internal("a finished file is written".into()))
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`Error::Io`] for a disk that is full, among others.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.open()?.write_all(bytes).map_err(Error::io("write", &self.target))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Appends zeros up to a multiple of `alignment` bytes.
    ///
    /// # Errors
    /// As [`Part::append`].
    pub fn pad(&mut self, alignment: u64) -> Result<()> {
        let missing = self.written.next_multiple_of(alignment) - self.written;
        self.append(&vec![0; missing as usize])
    }

    /// Bytes so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Waits until its bytes are on the disk.
    ///
    /// # Errors
    /// [`Error::Io`] for a disk that is full, among others.
    pub fn sync(&self) -> Result<()> {
        self.open()?.sync_all().map_err(Error::io("write", &self.target))
    }

    /// Gives the file its name, once its bytes are on the disk.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(mut self) -> Result<()> {
        self.sync()?;
        // Some systems rename no open file.
        let file = self.file.take();
        drop(file);
        fs::rename(&self.path, &self.target).map_err(|error| {
            let _ = fs::remove_file(&self.path);
            Error::io("write", &self.target)(error)
        })?;
        // The name is on the disk when the folder is; where folders cannot be opened, the system sees to it.
        if let Some(Ok(folder)) = self.target.parent().map(|folder| File::open(folder_of(folder))) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            drop(file);
            // What cannot be deleted is overwritten by the next one.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn folder_of(parent: &Path) -> &Path {
    if parent.as_os_str().is_empty() { Path::new(".") } else { parent }
}

/// Bytes that are free where `target` would lie.
#[cfg(unix)]
pub(super) fn room(target: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder_of(target.parent()?)).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

/// Nobody says.
#[cfg(not(unix))]
pub(super) fn room(_target: &Path) -> Option<u64> {
    None
}
