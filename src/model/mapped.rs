//! A whole file as bytes: memory-mapped where there is a file system, owned where there is none (the browser).
//!
//! Invariant: what is mapped is a regular, non-empty file, opened for reading only.

use crate::error::{Error, Result};
use memmap2::Mmap;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// A file's bytes and the path that errors name.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Map(Mmap),
    Owned(Vec<u8>),
}

impl MappedFile {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened or mapped; [`Error::BadFile`] if it is empty or not a regular file.
    pub fn open(path: &Path) -> Result<MappedFile> {
        // Asked before opening: opening a pipe would wait for a writer for ever.
        let metadata = fs::metadata(path).map_err(Error::io("open", path))?;
        if !metadata.is_file() {
            return Err(Error::bad_file(path, "not a regular file"));
        }
        if metadata.len() == 0 {
            return Err(Error::bad_file(path, "the file is empty (an interrupted download?)"));
        }
        let file = File::open(path).map_err(Error::io("open", path))?;
        // SAFETY: the map is private to this struct and read-only. Another process that shortens the file while it
        // is mapped could still end this one with SIGBUS; every program that maps weights accepts that, since the
        // alternative is a copy of the whole model in memory.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io("map", path))?;
        Ok(MappedFile { path: path.to_path_buf(), content: Content::Map(map) })
    }

    /// Takes bytes that are in memory already; `name` stands for the path in errors.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> MappedFile {
        MappedFile { path: PathBuf::from(name), content: Content::Owned(bytes) }
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// SHA-256 of the content, in lower-case hexadecimal. Reads the whole file once.
    pub fn sha256(&self) -> String {
        hex(&Sha256::digest(&**self))
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.content {
            Content::Map(map) => map,
            Content::Owned(bytes) => bytes,
        }
    }
}

/// Bytes in lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads a small companion file whole, refusing one above `limit` bytes; `None` if there is no such file.
pub(super) fn read_small(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(Error::bad_file(path, "not a regular file")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", path)(error)),
    }
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut bytes = Vec::new();
    // One byte above the limit tells a file of exactly that size from a larger one.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(Error::bad_file(path, format!("larger than the {limit} bytes such a file may have")));
    }
    Ok(Some(bytes))
}
