//! A file as bytes: memory-mapped where there is a file system. In a browser its head is in memory, and the rest is read when it
//! is asked for.
//!
//! Invariant: what is mapped is a regular, non-empty file, opened for reading only.

use crate::error::{Error, Result};
#[cfg(target_arch = "wasm32")]
use crate::origin::blob::Blob;
#[cfg(not(target_arch = "wasm32"))]
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
    #[cfg(not(target_arch = "wasm32"))]
    Map(Mmap),
    Owned(Vec<u8>),
    #[cfg(target_arch = "wasm32")]
    Head(Vec<u8>, Blob),
}

impl MappedFile {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened or mapped; [`Error::BadFile`] if it is empty or not a regular file.
    #[cfg(not(target_arch = "wasm32"))]
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

    /// A browser has no paths: says so.
    ///
    /// # Errors
    /// [`Error::BadFile`] always.
    #[cfg(target_arch = "wasm32")]
    pub fn open(path: &Path) -> Result<MappedFile> {
        Err(Error::bad_file(path, "a browser reads no files by their path: pick the file, or drop it onto the page"))
    }

    /// A file of the page with its first `head` bytes, which this reads.
    ///
    /// # Errors
    /// Those of [`Blob::read`].
    #[cfg(target_arch = "wasm32")]
    pub async fn begin(blob: &Blob, head: u64) -> Result<MappedFile> {
        let bytes = blob.read(0..head.min(blob.len())).await?;
        Ok(MappedFile { path: PathBuf::from(blob.name()), content: Content::Head(bytes, blob.clone()) })
    }

    /// Reads a stretch of the file, wherever it lies.
    ///
    /// # Errors
    /// Those of [`Blob::read`], and [`Error::Internal`] for a stretch outside the file.
    #[cfg(target_arch = "wasm32")]
    pub async fn fetch(&self, range: std::ops::Range<usize>) -> Result<Vec<u8>> {
        match (self.get(range.clone()), &self.content) {
            (Some(bytes), _) => Ok(bytes.to_vec()),
            (None, Content::Head(_, blob)) => blob.read(range.start as u64..range.end as u64).await,
            (None, Content::Owned(bytes)) => {
                Err(Error::Internal(format!("bytes {range:?} of a file of {} bytes", bytes.len())))
            }
        }
    }

    /// Bytes of the whole file.
    pub fn total(&self) -> usize {
        match &self.content {
            #[cfg(target_arch = "wasm32")]
            // Larger files are refused before.
            Content::Head(_, blob) => usize::try_from(blob.len()).unwrap_or(usize::MAX),
            _ => self.len(),
        }
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
            #[cfg(not(target_arch = "wasm32"))]
            Content::Map(map) => map,
            Content::Owned(bytes) => bytes,
            #[cfg(target_arch = "wasm32")]
            Content::Head(bytes, _) => bytes,
        }
    }
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
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
