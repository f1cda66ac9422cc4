//! Files that belong to the page's origin (the origin private file system): there after a reload, seen by nobody else.
//!
//! A path is names with slashes between, as `models/a.gguf`. Invariant: a file is replaced whole or not at all.
//!
//! # Errors
//! Every function fails alike: [`Error::Setting`] where the user can mend it (the browser keeps nothing for this page, there
//! is no room), [`Error::Internal`] otherwise. Ask [`available`] first: where it is `None`, keep things in memory alone.

use super::blob::Blob;
use super::{js, plan};
use crate::error::{Error, Result};
use js_sys::{AsyncIterator, Promise, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use web_sys::{
    File, FileSystemDirectoryHandle, FileSystemFileHandle, FileSystemGetDirectoryOptions, FileSystemGetFileOptions,
    FileSystemRemoveOptions, FileSystemWritableFileStream, StorageManager,
};

/// Bytes that are handed over at once: the page stands still while they are copied.
const PIECE: usize = 1 << 20;

/// How much the browser keeps for the page, and lets it keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes in use; an estimate.
    pub usage: u64,
    /// Bytes that may be in use.
    pub quota: u64,
}

/// The space there is; `None` where the browser keeps no files for this page: an old one, a private window, storage that
/// is turned off, a page that came neither through https nor from localhost.
pub async fn available() -> Option<Space> {
    root().await.ok()?;
    // A browser that keeps files but does not say how much is taken at its word.
    Some(space().await.unwrap_or(Space { usage: 0, quota: u64::MAX }))
}

/// What the browser estimates; `None` where it does not.
pub(super) async fn space() -> Option<Space> {
    let estimate = storage()?.estimate().ok()?.await.ok()?;
    let number = |name| js::get(&estimate, name)?.as_f64().filter(|number| *number >= 0.0);
    Some(Space { usage: number("usage")? as u64, quota: number("quota")? as u64 })
}

/// Asks that the browser does not clear the files when its disk runs short; whether it promises so. Some browsers ask the
/// user, so call this when the user has just asked for something to be kept.
pub async fn persist() -> bool {
    // Older browsers have estimates without this.
    let Some(storage) = storage().filter(|storage| js::get(storage, "persist").is_some()) else { return false };
    let Ok(promise) = storage.persist() else { return false };
    promise.await.is_ok_and(|granted| granted.is_truthy())
}

/// The bytes of a file; `None` where there is none.
pub async fn read(path: &str) -> Result<Option<Vec<u8>>> {
    match open(path).await? {
        Some(blob) => blob.read(0..blob.len()).await.map(Some),
        None => Ok(None),
    }
}

/// A file to be read piece by piece; `None` where there is none. It is read as it is now: what replaces it later is another.
pub async fn open(path: &str) -> Result<Option<Blob>> {
    let (folders, name) = split(path)?;
    let Some(folder) = folder(&folders, false).await? else { return Ok(None) };
    let failed = |thrown| failure(&format!("reading {path}"), &thrown);
    let Some(handle) = found(folder.get_file_handle(name).await).map_err(failed)? else { return Ok(None) };
    let handle: FileSystemFileHandle = handle.unchecked_into();
    let file = found(handle.get_file().await).map_err(failed)?;
    Ok(file.map(|file| Blob::new(file.unchecked_into::<File>().into(), name)))
}

/// Writes a file, its folders too. Until this returns the former content is there, and stays if it fails.
pub async fn write_whole(path: &str, bytes: &[u8]) -> Result<()> {
    write(path, Content::Bytes(bytes), (path, bytes.len() as u64)).await
}

/// As [`write_whole`], from what the browser holds.
pub async fn write_blob(path: &str, blob: &Blob) -> Result<()> {
    write(path, Content::Blob(blob), (path, blob.len())).await
}

/// What is written.
#[derive(Clone, Copy)]
pub(super) enum Content<'a> {
    Bytes(&'a [u8]),
    Blob(&'a Blob),
}

/// Writes a file; `needs` says, where there is no room, for what, and how many bytes it needs.
pub(super) async fn write(path: &str, content: Content<'_>, needs: (&str, u64)) -> Result<()> {
    let (folders, name) = split(path)?;
    let doing = format!("writing {path}");
    let folder = folder(&folders, true).await?.ok_or_else(|| Error::Internal(format!("{doing}: no folder for it")))?;
    let create = FileSystemGetFileOptions::new();
    create.set_create(true);
    let handle = folder.get_file_handle_with_options(name, &create).await;
    let handle: FileSystemFileHandle = handle.map_err(|thrown| failure(&doing, &thrown))?.unchecked_into();
    let Err(thrown) = replace(&handle, content).await else { return Ok(()) };
    let no_room = match (js::name(&thrown).as_str(), content) {
        // Where the room ends in the middle of a write, Chromium may say no more than that its pipe broke.
        ("QuotaExceededError" | "AbortError", _) => true,
        // The same, or it is the other end that broke.
        ("NotReadableError" | "NotFoundError", Content::Blob(blob)) => {
            blob.read(0..blob.len()).await?;
            true
        }
        _ => false,
    };
    Err(match no_room {
        true => {
            plan::no_room(needs.0, needs.1, space().await.map(|space| (space.usage, space.quota)), &js::text(&thrown))
        }
        false => failure(&doing, &thrown),
    })
}

async fn replace(handle: &FileSystemFileHandle, content: Content<'_>) -> Result<(), JsValue> {
    let stream = Writing(handle.create_writable().await?.unchecked_into());
    let written = async {
        match content {
            Content::Bytes(bytes) => {
                for piece in bytes.chunks(PIECE) {
                    // An array of the browser's own: the program's memory may move meanwhile.
                    stream.0.write_with_js_u8_array(&Uint8Array::from(piece))?.await?;
                }
            }
            Content::Blob(blob) => {
                stream.0.write_with_blob(blob.as_web())?.await?;
            }
        }
        // Only this puts the new content in the place of the old.
        stream.0.close().await
    };
    if let Err(thrown) = written.await {
        // It has failed already: what matters is that the file is let go before this returns.
        let _ = stream.0.abort().await;
        return Err(thrown);
    }
    Ok(())
}

/// A file that is written; what is given up in the middle lets the file go, and leaves it as it was.
struct Writing(FileSystemWritableFileStream);

impl Drop for Writing {
    fn drop(&mut self) {
        // Nothing happens where it was closed, and a failed one does not fail again.
        drop(self.0.abort());
    }
}

/// Removes a file, or a folder with all that is in it; it need not be there.
pub async fn remove(path: &str) -> Result<()> {
    let (folders, name) = split(path)?;
    let Some(folder) = folder(&folders, false).await? else { return Ok(()) };
    let all = FileSystemRemoveOptions::new();
    all.set_recursive(true);
    let removed = found(folder.remove_entry_with_options(name, &all).await);
    removed.map(|_| ()).map_err(|thrown| failure(&format!("removing {path}"), &thrown))
}

/// The files of a folder with their sizes in bytes, by name; none where there is no such folder.
pub async fn list(path: &str) -> Result<Vec<(String, u64)>> {
    let files = open_all(path).await?;
    Ok(files.iter().map(|file| (file.name().to_owned(), file.len())).collect())
}

/// All files of a folder, as [`open`] opens one, by name; none where there is no such folder.
pub async fn open_all(path: &str) -> Result<Vec<Blob>> {
    let mut files = Vec::new();
    for (name, handle) in entries(path).await? {
        let Ok(handle) = handle.dyn_into::<FileSystemFileHandle>() else { continue };
        // One that was removed meanwhile is no file of the folder.
        let file = found(handle.get_file().await).map_err(|thrown| failure(&format!("listing {path}"), &thrown))?;
        files.extend(file.map(|file| Blob::new(file.unchecked_into::<File>().into(), name)));
    }
    files.sort_by(|a, b| a.name().cmp(b.name()));
    Ok(files)
}

/// The names of the folders in a folder, sorted; none where there is no such folder.
pub async fn folders(path: &str) -> Result<Vec<String>> {
    let entries = entries(path).await?.into_iter();
    let folders = entries.filter(|(_, handle)| handle.is_instance_of::<FileSystemDirectoryHandle>());
    let mut names: Vec<String> = folders.map(|(name, _)| name).collect();
    names.sort();
    Ok(names)
}

async fn entries(path: &str) -> Result<Vec<(String, JsValue)>> {
    let failed = |thrown| failure(&format!("listing {path}"), &thrown);
    let Some(folder) = folder(&plan::pieces(path)?, false).await? else { return Ok(Vec::new()) };
    let entries: AsyncIterator = folder.values();
    let mut found = Vec::new();
    loop {
        let next = entries.next().map_err(failed)?.await.map_err(failed)?;
        if js::get(&next, "done").is_some_and(|done| done.is_truthy()) {
            return Ok(found);
        }
        if let Some(handle) = js::get(&next, "value") {
            let name = js::get(&handle, "name").and_then(|name| name.as_string()).unwrap_or_default();
            found.push((name, handle));
        }
    }
}

/// Folders and name of a path.
fn split(path: &str) -> Result<(Vec<&str>, &str)> {
    let mut folders = plan::pieces(path)?;
    let name = folders.pop().unwrap_or_default();
    Ok((folders, name))
}

/// The folder of that path; `None` where it is not there and not to be made.
async fn folder(path: &[&str], make: bool) -> Result<Option<FileSystemDirectoryHandle>> {
    let mut folder = root().await?;
    let options = FileSystemGetDirectoryOptions::new();
    options.set_create(make);
    for name in path {
        let next = found(folder.get_directory_handle_with_options(name, &options).await);
        match next.map_err(|thrown| failure(&format!("opening the folder {}", path.join("/")), &thrown))? {
            Some(next) => folder = next.unchecked_into(),
            None => return Ok(None),
        }
    }
    Ok(Some(folder))
}

fn storage() -> Option<StorageManager> {
    js::global(&["navigator", "storage"]).map(JsCast::unchecked_into)
}

/// The folder of the whole origin.
async fn root() -> Result<FileSystemDirectoryHandle> {
    // Both are asked for by name: calling what an old browser lacks would be an exception.
    let storage = storage().filter(|storage| js::get(storage, "getDirectory").is_some());
    let writable = js::global(&["FileSystemFileHandle", "prototype"])
        .is_some_and(|handle| Reflect::has(&handle, &"createWritable".into()).unwrap_or(false));
    let storage = storage.filter(|_| writable).ok_or_else(|| kept_nowhere("it has no such files"))?;
    let promise: Promise = storage.get_directory();
    let root = promise.await.map_err(|thrown| kept_nowhere(&js::text(&thrown)))?;
    Ok(root.unchecked_into())
}

fn kept_nowhere(why: &str) -> Error {
    Error::Setting(format!(
        "the browser keeps no files for this page ({why}): use a window that is not private and a current browser, open the \
         page through https or from localhost, and allow it to store data"
    ))
}

/// A handle that may be missing is no failure.
fn found(outcome: Result<JsValue, JsValue>) -> Result<Option<JsValue>, JsValue> {
    match outcome {
        Err(thrown) if js::name(&thrown) == "NotFoundError" => Ok(None),
        outcome => outcome.map(Some),
    }
}

fn failure(doing: &str, thrown: &JsValue) -> Error {
    let text = js::text(thrown);
    match js::name(thrown).as_str() {
        "NotAllowedError" | "SecurityError" => kept_nowhere(&text),
        "NoModificationAllowedError" => Error::Setting(format!(
            "{doing}: another tab of this page is using it; close the other tab or wait for it ({text})"
        )),
        "QuotaExceededError" => {
            Error::Setting(format!("{doing}: no room; delete models in the Models panel, or free some space ({text})"))
        }
        _ => Error::Internal(format!("{doing}: {text}")),
    }
}
