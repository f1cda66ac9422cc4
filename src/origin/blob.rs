//! Files that are read piece by piece: picked or dropped ones, downloads, parts put together without copying.

use super::js;
use crate::error::{Error, Result};
use js_sys::{Array, ArrayBuffer, Promise, Uint8Array};
use std::ops::Range;
use wasm_bindgen::{JsCast, JsValue};

/// Bytes that the browser holds, on its disk or in its memory, with a name. A clone is the same bytes.
#[derive(Debug, Clone)]
pub struct Blob {
    inner: web_sys::Blob,
    name: String,
}

impl From<web_sys::File> for Blob {
    /// A file that the user picked or dropped, under its own name.
    fn from(file: web_sys::File) -> Blob {
        let name = file.name();
        Blob { inner: file.into(), name }
    }
}

impl Blob {
    /// The browser's blob under a name, which is for messages and for who keeps it.
    pub fn new(inner: web_sys::Blob, name: impl Into<String>) -> Blob {
        Blob { inner, name: name.into() }
    }

    /// A copy of `bytes` in the browser's memory.
    ///
    /// # Errors
    /// [`Error::Internal`] where the browser has no room for it.
    pub fn from_bytes(bytes: &[u8], name: impl Into<String>) -> Result<Blob> {
        // An array of the browser's own: the program's memory may move.
        let parts = Array::of1(&Uint8Array::from(bytes));
        Blob::of_parts(&parts, name.into())
    }

    /// The parts one behind the other, none of them copied.
    ///
    /// # Errors
    /// [`Error::Internal`] where the browser refuses.
    pub fn join<'a>(parts: impl IntoIterator<Item = &'a Blob>, name: impl Into<String>) -> Result<Blob> {
        let parts: Array = parts.into_iter().map(|part| &part.inner).collect();
        Blob::of_parts(&parts, name.into())
    }

    fn of_parts(parts: &Array, name: String) -> Result<Blob> {
        let inner = web_sys::Blob::new_with_blob_sequence(parts).map_err(js::internal("putting a file together"))?;
        Ok(Blob { inner, name })
    }

    /// Size in bytes.
    pub fn len(&self) -> u64 {
        // Sizes are whole numbers far below 2^53.
        self.inner.size() as u64
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its name, without folders.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The browser's own object, to hand to other parts of the browser.
    pub fn as_web(&self) -> &web_sys::Blob {
        &self.inner
    }

    /// A range of it, not copied.
    ///
    /// # Errors
    /// [`Error::BadFile`] where the file ends before the range does.
    pub fn slice(&self, range: Range<u64>) -> Result<Blob> {
        if range.start > range.end || range.end > self.len() {
            let what = format!("bytes {} to {} are wanted, but the file has {}", range.start, range.end, self.len());
            return Err(Error::bad_file(&self.name, what));
        }
        let inner = self.inner.slice_with_f64_and_f64(range.start as f64, range.end as f64);
        Ok(Blob { inner: inner.map_err(js::internal("cutting a file"))?, name: self.name.clone() })
    }

    /// The bytes of a range.
    ///
    /// # Errors
    /// [`Error::BadFile`] where the file ends before the range does, [`Error::Setting`] where it cannot be read any more:
    /// it was changed, moved or deleted since it was picked.
    pub async fn read(&self, range: Range<u64>) -> Result<Vec<u8>> {
        Ok(self.array(range).await?.to_vec())
    }

    /// As [`Blob::read`], from byte `start` on into all of `bytes`.
    ///
    /// # Errors
    /// As of [`Blob::read`].
    pub async fn read_into(&self, start: u64, bytes: &mut [u8]) -> Result<()> {
        let array = self.array(start..start.saturating_add(bytes.len() as u64)).await?;
        array.copy_to(bytes);
        Ok(())
    }

    /// An array of exactly the range's length.
    async fn array(&self, range: Range<u64>) -> Result<Uint8Array> {
        let wanted = range.end.saturating_sub(range.start);
        let piece = self.slice(range)?;
        let promise: Promise = piece.inner.array_buffer();
        let buffer = promise.await.map_err(|thrown| self.unreadable(&thrown))?;
        let array = Uint8Array::new(buffer.unchecked_ref::<ArrayBuffer>());
        match u64::from(array.length()) == wanted {
            true => Ok(array),
            false => Err(self.changed(&format!("{} bytes came instead of {wanted}", array.length()))),
        }
    }

    /// Why it could not be read, from what was thrown.
    fn unreadable(&self, thrown: &JsValue) -> Error {
        match js::name(thrown).as_str() {
            "RangeError" => Error::Setting(format!(
                "the browser has no memory left to read `{}` ({}): close other tabs, or use a smaller model",
                self.name,
                js::text(thrown)
            )),
            _ => self.changed(&js::text(thrown)),
        }
    }

    fn changed(&self, why: &str) -> Error {
        Error::Setting(format!(
            "`{}` cannot be read any more: it was changed, moved or deleted since it was opened; open it again ({why})",
            self.name
        ))
    }
}
