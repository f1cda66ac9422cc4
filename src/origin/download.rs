//! Models by address into the page's origin, part by part, resumed after every break and every reload.
//!
//! A model lies in a folder of its own, `models/NAME.parts`: its parts `0000`, `0001` and so on, `source` that says which
//! content they belong to, and `whole`. Invariant: `whole` is written last, after the hash was right, and nothing without it
//! is taken for a model. One download at a time works on a folder, held by a lock between tabs.

mod fetch;
mod kept;
mod parts;

use super::blob::Blob;
use super::{files, lock, plan};
use crate::error::{Error, Result};
use fetch::Failure;
pub use kept::{Kept, delete, find, keep, list};
use parts::Parts;
use std::fmt;

/// What a download is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Parts that are there already are hashed.
    Checking,
    /// Bytes come from a server.
    Downloading,
    /// The connection broke; it is tried again.
    Retrying,
    /// A picked file is copied to where it stays.
    Copying,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Checking => "checking",
            Step::Downloading => "downloading",
            Step::Retrying => "connection lost, retrying",
            Step::Copying => "copying",
        })
    }
}

/// How far a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is done now.
    pub step: Step,
    /// Bytes of the file that are there, or that are checked.
    pub done: u64,
    /// Bytes of the whole file.
    pub total: u64,
}

/// Called at every step and a few times a second, also while nothing comes; an error from it ends the work, and whole parts
/// that have come stay for the next download.
pub type Report<'a> = &'a mut dyn FnMut(Progress) -> Result<()>;

/// Where a download stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Among the page's files: there after a reload.
    Files,
    /// In the browser's memory: gone with the page.
    Memory,
}

/// A file that is to be downloaded.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Addresses of it, the first that has it is used; relative ones are below the page's.
    pub urls: &'a [String],
    /// A plain file name.
    pub name: &'a str,
    /// Exact size.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: &'a str,
    /// Where it stays.
    pub keep: Keep,
}

/// Downloads a file, or finds it where it was downloaded before. What else is there under that name is replaced.
///
/// # Errors
/// [`Error::Setting`] where there is no room for it, where the browser keeps no files, or where another tab is downloading
/// it; [`Error::Download`] where no address has it: what each said, and what to do; what `progress` returns.
pub async fn download(wanted: &Wanted<'_>, progress: Report<'_>) -> Result<Blob> {
    plan::check_name(wanted.name)?;
    let _lock = match wanted.keep {
        Keep::Files => lock_of(wanted.name).await?,
        Keep::Memory => None,
    };
    if wanted.keep == Keep::Files
        && let Some((note, blob)) = kept::noted(wanted.name).await?
        && note.fits(wanted.bytes, wanted.sha256)
    {
        return Ok(blob);
    }
    let mut parts = Parts::open(wanted, progress).await?;
    if parts.len() == wanted.bytes && wanted.bytes > 0 && parts.verify().is_err() {
        parts.restart().await?;
    }
    if wanted.keep == Keep::Files {
        check_room(wanted.name, wanted.bytes - parts.len()).await?;
    }
    let mut reasons: Vec<String> = Vec::new();
    for url in wanted.urls {
        let source = plan::host(url).unwrap_or(url);
        loop {
            let resumed = parts.len() > 0;
            match fetch::fill(url, &mut parts, progress).await {
                Ok(()) => {}
                Err(Failure::Fatal(error)) => return Err(error),
                Err(Failure::Source(reason)) => {
                    reasons.push(format!("{source}: {reason}"));
                    break;
                }
            }
            let Err(mismatch) = parts.verify() else { return parts.finish().await };
            parts.restart().await?;
            // What was there before may have been of another content; from its start on, this server is to blame.
            if !resumed {
                reasons.push(format!("{source}: {mismatch}; what came was deleted"));
                break;
            }
        }
    }
    let again = match parts.len() - parts.len() % plan::PART {
        0 => "start it again later".to_owned(),
        _ if wanted.keep == Keep::Memory => "start it again later".to_owned(),
        kept => format!("start it again and it goes on behind the {} that are there", plan::megabytes(kept)),
    };
    Err(Error::Download(format!(
        "{} could not be downloaded: {}; {again}, or pick the file from your disk",
        wanted.name,
        reasons.join("; ")
    )))
}

/// The lock on a model's folder; `None` where the browser has no locks.
async fn lock_of(name: &str) -> Result<Option<lock::Lock>> {
    match lock::take(&format!("secateur model {name}")).await {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => Err(Error::Setting(format!(
            "{name} is being downloaded or copied already, here or in another tab: wait for it or cancel it there"
        ))),
        // A browser without locks writes the same bytes twice at worst.
        Err(_) => Ok(None),
    }
}

/// Refuses what cannot fit.
async fn check_room(name: &str, needed: u64) -> Result<()> {
    match files::space().await {
        Some(space) if needed > space.quota.saturating_sub(space.usage) => {
            Err(plan::no_room(name, needed, Some((space.usage, space.quota)), ""))
        }
        _ => Ok(()),
    }
}
