//! Keeps a copy of the conversations among the files of the page's origin: SQLite itself works in memory there.
//!
//! Invariant: the file is one whole state of the store, never the middle of a change.

use crate::chat::Store;
use crate::error::Result;
use crate::origin::files;
use eframe::egui::Context;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use web_time::Instant;

/// The file.
const FILE: &str = "chats.sqlite";
/// Shortest time between two copies: an answer that grows changes the store many times a second.
const PAUSE: Duration = Duration::from_millis(700);

thread_local! {
    static KEEPS: Cell<bool> = const { Cell::new(false) };
}

/// Whether the page keeps what is said, as far as [`open`] found.
pub fn keeps() -> bool {
    KEEPS.get()
}

/// The conversations of the last visit. Where the browser keeps no files, those of this one alone.
///
/// # Errors
/// [`crate::Error::Setting`] or [`crate::Error::BadFile`], each with what to do, for a file that cannot be read.
pub async fn open() -> Result<Store> {
    if files::available().await.is_none() {
        return Store::in_memory();
    }
    KEEPS.set(true);
    match files::read(FILE).await? {
        Some(image) => Store::from_image(&image),
        None => Store::in_memory(),
    }
}

/// Begins anew.
pub fn reload() {
    // A page that cannot be loaded again stays as it is.
    let _ = web_sys::window().map(|window| window.location().reload());
}

/// Writes copies, one at a time.
#[derive(Default)]
pub struct Keeper {
    /// What is on its way or kept.
    revision: u64,
    last: Option<Instant>,
    writing: Rc<Cell<bool>>,
    failed: Rc<RefCell<Option<String>>>,
}

impl Keeper {
    /// Writes a copy if there is something new and the last one is a while ago. Returns what went wrong since the last call.
    pub fn follow(&mut self, store: &mut Store, context: &Context) -> Option<String> {
        let changed = store.revision() != self.revision;
        if changed && !self.writing.get() {
            let waits = self.last.map_or(Duration::ZERO, |last| PAUSE.saturating_sub(last.elapsed()));
            if waits.is_zero() {
                (self.revision, self.last) = (store.revision(), Some(Instant::now()));
                match store.image() {
                    Ok(image) => self.write(image, context.clone()),
                    Err(error) => return Some(error.to_string()),
                }
            } else {
                context.request_repaint_after(waits);
            }
        }
        self.failed.take()
    }

    fn write(&self, image: Vec<u8>, context: Context) {
        let (writing, failed) = (self.writing.clone(), self.failed.clone());
        writing.set(true);
        wasm_bindgen_futures::spawn_local(async move {
            if let Err(error) = files::write_whole(FILE, &image).await {
                failed.replace(Some(format!("The conversations could not be kept: {error}")));
            }
            writing.set(false);
            context.request_repaint();
        });
    }
}
