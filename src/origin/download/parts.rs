//! The parts of an unfinished download, hashed as they come.
//!
//! Invariant: the hash is that of the first `len` bytes: whole parts where they stay, and the beginning of the next in memory.

use super::{Keep, Progress, Report, Step, Wanted};
use crate::error::{Error, Result};
use crate::origin::Slices;
use crate::origin::blob::Blob;
use crate::origin::files::{self, Content};
use crate::origin::plan::{self, Note, PART};
use js_sys::Uint8Array;
use sha2::{Digest, Sha256};

/// Bytes that are hashed or read between two looks at the clock.
const CHUNK: u64 = 256 << 10;
/// The note beside unfinished parts.
const SOURCE: &str = "source";
/// The note beside finished ones.
pub(super) const WHOLE: &str = "whole";

/// See the module.
pub struct Parts<'a> {
    wanted: &'a Wanted<'a>,
    /// Which content the parts belong to; the default where there are none.
    note: Note,
    /// The parts, where they stay in memory.
    memory: Vec<Blob>,
    /// The beginning of the part that is not written yet.
    buffer: Vec<u8>,
    hasher: Sha256,
    len: u64,
    slices: Slices,
}

impl<'a> Parts<'a> {
    /// What an earlier download left, hashed; what it left of another content is removed.
    pub async fn open(wanted: &'a Wanted<'a>, progress: Report<'_>) -> Result<Parts<'a>> {
        let mut parts = Parts {
            wanted,
            note: Note::default(),
            memory: Vec::new(),
            buffer: Vec::new(),
            hasher: Sha256::new(),
            len: 0,
            slices: Slices::default(),
        };
        if wanted.keep == Keep::Memory {
            return Ok(parts);
        }
        let folder = plan::folder(wanted.name);
        let note = files::read(&parts.path(SOURCE)).await?;
        let note = note.and_then(|bytes| Note::parse(&String::from_utf8_lossy(&bytes)));
        let Some(note) = note.filter(|note| note.fits(wanted.bytes, wanted.sha256)) else {
            files::remove(&folder).await?;
            return Ok(parts);
        };
        let whole = plan::whole_parts(&files::list(&folder).await?, wanted.bytes);
        for index in 0..whole {
            // What cannot be read back comes anew, and what is behind it.
            if !parts.hash_part(index, progress).await? {
                break;
            }
            parts.note = note.clone();
        }
        Ok(parts)
    }

    /// Adds a part that is there to the hash and to the length; whether it can be read.
    async fn hash_part(&mut self, index: u64, progress: Report<'_>) -> Result<bool> {
        let Some(part) = files::open(&self.path(&plan::part_name(index))).await? else { return Ok(false) };
        let before = self.hasher.clone();
        let mut at = 0;
        while at < part.len() {
            let end = part.len().min(at + 4 * CHUNK);
            let bytes = match part.read(at..end).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    tracing::info!(%error, index, "a part cannot be read back");
                    self.hasher = before;
                    return Ok(false);
                }
            };
            for bytes in bytes.chunks(CHUNK as usize) {
                self.hasher.update(bytes);
                self.slices.turn().await;
            }
            at = end;
            progress(Progress { step: Step::Checking, done: self.len + at, total: self.total() })?;
        }
        self.len += part.len();
        Ok(true)
    }

    /// Bytes that are there.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Bytes of the whole file.
    pub fn total(&self) -> u64 {
        self.wanted.bytes
    }

    /// The tag under which the bytes came, if they came from `url`.
    pub fn tag(&self, url: &str) -> Option<&str> {
        (self.note.url == url && !self.note.etag.is_empty()).then_some(self.note.etag.as_str())
    }

    /// Says where the first bytes come from, before they do.
    pub async fn begin(&mut self, url: &str, etag: Option<&str>) -> Result<()> {
        if self.len > 0 {
            return Ok(());
        }
        let (sha256, etag) = (self.wanted.sha256.to_owned(), etag.unwrap_or_default().to_owned());
        self.note = Note { bytes: self.wanted.bytes, sha256, url: url.to_owned(), etag };
        self.keep_note(SOURCE).await
    }

    /// Appends, hashes, and writes every part that is complete. More bytes than the file has are the caller's fault.
    pub async fn append(&mut self, bytes: &Uint8Array) -> Result<()> {
        let (mut at, end) = (0, u64::from(bytes.length()));
        while at < end {
            let room = plan::part_bytes(self.len / PART, self.total()).saturating_sub(self.buffer.len() as u64);
            let step = CHUNK.min(end - at).min(room);
            if step == 0 {
                return Err(Error::Internal("more bytes were downloaded than the file has".to_owned()));
            }
            let filled = self.buffer.len();
            self.buffer.resize(filled + step as usize, 0);
            let fresh = self.buffer.get_mut(filled..).unwrap_or_default();
            // A typed array is shorter than 2^32.
            bytes.subarray(at as u32, (at + step) as u32).copy_to(fresh);
            self.hasher.update(fresh);
            at += step;
            if step == room {
                self.write_part().await?;
            } else {
                self.len += step;
            }
            self.slices.turn().await;
        }
        Ok(())
    }

    /// Writes the full buffer as the part that it is, and counts what is new in it.
    async fn write_part(&mut self) -> Result<()> {
        let index = self.len / PART;
        let name = plan::part_name(index);
        match self.wanted.keep {
            Keep::Memory => self.memory.push(Blob::from_bytes(&self.buffer, name)?),
            Keep::Files => {
                let needs = (self.wanted.name, self.total() - index * PART);
                files::write(&self.path(&name), Content::Bytes(&self.buffer), needs).await?;
            }
        }
        self.len = index * PART + self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Drops everything and begins at zero.
    pub async fn restart(&mut self) -> Result<()> {
        if self.wanted.keep == Keep::Files {
            files::remove(&plan::folder(self.wanted.name)).await?;
        }
        self.memory.clear();
        self.buffer.clear();
        self.note = Note::default();
        self.hasher = Sha256::new();
        self.len = 0;
        Ok(())
    }

    /// Compares the hash; the error is a text for the user.
    pub fn verify(&self) -> Result<(), String> {
        let digest = self.hasher.clone().finalize();
        let found: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        match found == self.wanted.sha256 {
            true => Ok(()),
            false => Err(format!("the content has SHA-256 {found}, but {} is expected", self.wanted.sha256)),
        }
    }

    /// The whole file, once its hash was right.
    pub async fn finish(self) -> Result<Blob> {
        let name = self.wanted.name;
        if self.wanted.keep == Keep::Memory {
            return Blob::join(&self.memory, name);
        }
        self.keep_note(WHOLE).await?;
        let gone = || Error::Internal(format!("the parts of {name} are not there any more"));
        super::find(name, self.wanted.bytes).await?.ok_or_else(gone)
    }

    async fn keep_note(&self, file: &str) -> Result<()> {
        match self.wanted.keep {
            Keep::Memory => Ok(()),
            Keep::Files => files::write_whole(&self.path(file), self.note.text().as_bytes()).await,
        }
    }

    fn path(&self, file: &str) -> String {
        format!("{}/{file}", plan::folder(self.wanted.name))
    }
}
