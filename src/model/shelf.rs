//! The models that a page can open: files that the user gave it, and what its origin keeps of them and of the catalogue.

use super::catalogue::{Catalogue, Entry};
use crate::error::{Error, Result};
use crate::origin::blob::Blob;
use crate::origin::download::{self, Keep, Wanted};
use crate::origin::files;
use std::cell::RefCell;

/// Where models lie beside the page, where they do.
const BESIDE: &str = "models";
/// The hub.
const HUB: &str = "https://huggingface.co";

thread_local! {
    /// What is not among the origin's files: given in this visit, or downloaded where there is no room to keep it.
    static AT_HAND: RefCell<Vec<Blob>> = const { RefCell::new(Vec::new()) };
}

/// Takes a file that the user picked or dropped; returns the name by which [`find`] knows it.
pub fn give(file: Blob) -> String {
    let name = file.name().to_string();
    forget(&name);
    AT_HAND.with_borrow_mut(|at_hand| at_hand.push(file));
    name
}

fn forget(name: &str) {
    AT_HAND.with_borrow_mut(|at_hand| at_hand.retain(|other| other.name() != name));
}

fn at_hand(name: &str) -> Option<Blob> {
    AT_HAND.with_borrow(|at_hand| at_hand.iter().find(|file| file.name() == name).cloned())
}

/// The models that the origin keeps: file names and sizes in bytes.
///
/// # Errors
/// Those of [`download::list`].
pub async fn kept() -> Result<Vec<(String, u64)>> {
    if files::available().await.is_none() {
        return Ok(Vec::new());
    }
    let kept = download::list().await?.into_iter();
    Ok(kept.filter(|model| model.whole).map(|model| (model.name, model.bytes)).collect())
}

/// The model of that name: of the catalogue, or a file's.
///
/// # Errors
/// [`Error::Setting`] where it is not here, and those of reading what the origin keeps.
pub async fn find(name: &str) -> Result<Blob> {
    let catalogue = Catalogue::builtin()?;
    let file = catalogue.find(name).map_or(name, |entry| &entry.file);
    if let Some(given) = at_hand(file) {
        return Ok(given);
    }
    let bytes = kept().await?.into_iter().find(|(kept, _)| kept == file).map(|(_, bytes)| bytes);
    let found = match bytes {
        Some(bytes) => download::find(file, bytes).await?,
        None => None,
    };
    found.ok_or_else(|| {
        Error::Setting(format!("`{name}` is not here any more: download it again, or open its file from your disk"))
    })
}

/// Copies a file that was given to where it stays; `progress` hears the step in words and the share done. Where the browser
/// keeps no files there is nothing to do.
///
/// # Errors
/// Those of [`download::keep`]; the file can be used all the same.
pub async fn keep(name: &str, progress: &mut dyn FnMut(&str, Option<f32>) -> Result<()>) -> Result<()> {
    let Some(given) = at_hand(name) else { return Ok(()) };
    if files::available().await.is_none() {
        return Ok(());
    }
    let mut hear = |at: download::Progress| progress(&at.step.to_string(), share(at));
    download::keep(name, &given, &mut hear).await?;
    // From now on the copy serves, also where the file on the disk changes.
    forget(name);
    Ok(())
}

/// Deletes what the origin keeps of a model.
///
/// # Errors
/// Those of [`download::delete`].
pub async fn delete(name: &str) -> Result<()> {
    let catalogue = Catalogue::builtin()?;
    let file = catalogue.find(name).map_or(name, |entry| &entry.file);
    forget(file);
    download::delete(file).await
}

/// Downloads a model of the catalogue: from beside the page, where it is, else from the hub.
///
/// # Errors
/// Those of [`download::download`].
pub async fn download(entry: &Entry, progress: &mut dyn FnMut(&str, Option<f32>) -> Result<()>) -> Result<()> {
    let keep = match files::available().await {
        Some(_) => Keep::Files,
        None => Keep::Memory,
    };
    let urls = [format!("{BESIDE}/{}", entry.file), entry.hub.url(HUB)];
    let wanted = Wanted { urls: &urls, name: &entry.file, bytes: entry.bytes, sha256: &entry.sha256, keep };
    let mut hear = |at: download::Progress| progress(&at.step.to_string(), share(at));
    if keep == Keep::Files {
        // Whoever downloads a model wants to find it again. A browser that does not promise it keeps it most of the time.
        files::persist().await;
    }
    let file = download::download(&wanted, &mut hear).await?;
    if keep == Keep::Memory {
        give(file);
    }
    Ok(())
}

fn share(at: download::Progress) -> Option<f32> {
    (at.total > 0).then(|| at.done as f32 / at.total as f32)
}
