//! Models that are there: finding, listing, deleting them, and keeping one that the user picked.

use super::parts::WHOLE;
use super::{Progress, Report, Step, check_room, lock_of};
use crate::error::{Error, Result};
use crate::origin::blob::Blob;
use crate::origin::files::{self, Content};
use crate::origin::plan::{self, Note, PART};

/// A model among the page's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its file name.
    pub name: String,
    /// Bytes that are there.
    pub bytes: u64,
    /// Whether it can be used; otherwise it is the beginning of a download.
    pub whole: bool,
}

/// A model of that name and size that is there as a whole.
///
/// # Errors
/// As of [`files`], but where the browser keeps no files nothing is found.
pub async fn find(name: &str, bytes: u64) -> Result<Option<Blob>> {
    if files::available().await.is_none() {
        return Ok(None);
    }
    let found = noted(name).await?.filter(|(note, _)| note.bytes == bytes);
    Ok(found.map(|(_, blob)| blob))
}

/// A whole model with its note.
pub(super) async fn noted(name: &str) -> Result<Option<(Note, Blob)>> {
    plan::check_name(name)?;
    whole(name, &files::open_all(&plan::folder(name)).await?).await
}

/// The same, of the files of its folder.
async fn whole(name: &str, files: &[Blob]) -> Result<Option<(Note, Blob)>> {
    let Some(note) = files.iter().find(|file| file.name() == WHOLE) else { return Ok(None) };
    let note = note.read(0..note.len()).await?;
    let Some(note) = Note::parse(&String::from_utf8_lossy(&note)) else { return Ok(None) };
    let mut parts: Vec<&Blob> = files.iter().filter(|file| plan::is_part(file.name())).collect();
    // By number: behind 9999 the names grow longer.
    parts.sort_by_key(|part| (part.name().len(), part.name()));
    let listed: Vec<(String, u64)> = parts.iter().map(|part| (part.name().to_owned(), part.len())).collect();
    let count = plan::parts(note.bytes);
    if plan::whole_parts(&listed, note.bytes) < count {
        return Ok(None);
    }
    let blob = Blob::join(parts.into_iter().take(count as usize), name)?;
    Ok(Some((note, blob)))
}

/// All models that are there, and beginnings of them, by name.
///
/// # Errors
/// As of [`files`].
pub async fn list() -> Result<Vec<Kept>> {
    let mut kept = Vec::new();
    for folder in files::folders("models").await? {
        let Some(name) = folder.strip_suffix(".parts") else { continue };
        let found = files::open_all(&format!("models/{folder}")).await?;
        let bytes = found.iter().filter(|file| plan::is_part(file.name())).map(Blob::len).sum();
        let whole = whole(name, &found).await?.is_some();
        kept.push(Kept { name: name.to_owned(), bytes, whole });
    }
    Ok(kept)
}

/// Deletes a model, or the beginning of one; it need not be there. Who has it open cannot read on.
///
/// # Errors
/// As of [`files`]; [`Error::Setting`] while it is being downloaded.
pub async fn delete(name: &str) -> Result<()> {
    plan::check_name(name)?;
    let _lock = lock_of(name).await?;
    files::remove(&plan::folder(name)).await
}

/// Copies a file that the user picked to where it stays, in place of one of that name, and gives back the copy.
///
/// # Errors
/// As of [`files`]; [`Error::Setting`] where there is no room, or where the file has changed since it was picked; what
/// `progress` returns. Nothing of the file is kept then.
pub async fn keep(name: &str, blob: &Blob, progress: Report<'_>) -> Result<Blob> {
    plan::check_name(name)?;
    let _lock = lock_of(name).await?;
    let folder = plan::folder(name);
    files::remove(&folder).await?;
    check_room(name, blob.len()).await?;
    if let Err(error) = copy(name, blob, progress).await {
        // The first error is the one to tell.
        let _ = files::remove(&folder).await;
        return Err(error);
    }
    let gone = || Error::Internal(format!("the copy of {name} is not there any more"));
    noted(name).await?.map(|(_, blob)| blob).ok_or_else(gone)
}

async fn copy(name: &str, blob: &Blob, progress: Report<'_>) -> Result<()> {
    let (folder, total) = (plan::folder(name), blob.len());
    for index in 0..plan::parts(total) {
        let start = index * PART;
        progress(Progress { step: Step::Copying, done: start, total })?;
        let part = blob.slice(start..start + plan::part_bytes(index, total))?;
        let path = format!("{folder}/{}", plan::part_name(index));
        files::write(&path, Content::Blob(&part), (name, total - start)).await?;
    }
    let note = Note { bytes: total, ..Note::default() };
    files::write_whole(&format!("{folder}/{WHOLE}"), note.text().as_bytes()).await?;
    progress(Progress { step: Step::Copying, done: total, total })
}
