//! The GGUF container (versions 2 and 3, little endian): its metadata and where its tensors lie.
//!
//! Invariant: a file is hostile until each number has been checked. No count, length or offset of the header is used
//! before it has been compared with the bytes that are there, nothing is allocated by the size a header claims, and
//! strings and arrays stay in the map until someone asks for them. Once parsed, every tensor's range lies in the file.

mod network;
mod reader;
#[cfg(not(target_arch = "wasm32"))]
pub(super) mod writer;

use super::mapped::MappedFile;
use super::tensor::TensorEntry;
use crate::error::{Error, Result};
use reader::{Cursor, Header, Scalar, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// A parsed GGUF file: metadata by key, tensors by name.
#[derive(Debug)]
pub struct Gguf {
    file: MappedFile,
    version: u32,
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, TensorEntry>,
}

impl Gguf {
    /// Parses the header of `file` and checks every tensor against the file's size.
    ///
    /// # Errors
    /// [`Error::BadFile`] naming the first thing that is wrong, with its numbers.
    pub fn parse(file: MappedFile) -> Result<Gguf> {
        let Header { version, metadata, tensors } = reader::read_header(&file, file.total(), file.path())?;
        Ok(Gguf { file, version, metadata, tensors })
    }

    /// The metadata of a file whose header was parsed before, in its order: a key, and the number of a type with the bytes of the value.
    ///
    /// # Errors
    /// [`Error::BadFile`] as [`Gguf::parse`].
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn raw_metadata(file: &MappedFile) -> Result<Vec<(String, Vec<u8>)>> {
        let ranges = reader::metadata_ranges(file, file.path())?;
        Ok(ranges.into_iter().map(|(key, range)| (key, file.get(range).unwrap_or_default().to_vec())).collect())
    }

    /// Version of the container.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The mapped file and its tensors, which keep pointing into it.
    pub(super) fn into_parts(self) -> (MappedFile, BTreeMap<String, TensorEntry>) {
        (self.file, self.tensors)
    }

    pub(super) fn tensors(&self) -> &BTreeMap<String, TensorEntry> {
        &self.tensors
    }

    /// The bytes of a tensor of this file.
    pub(super) fn tensor_bytes(&self, entry: &TensorEntry) -> &[u8] {
        self.file.get(entry.range.clone()).unwrap_or_default()
    }

    /// Whether the metadata has `key`.
    pub fn has(&self, key: &str) -> bool {
        self.metadata.contains_key(key)
    }

    /// A number that is not negative, of whatever integer type; `None` where the key is absent.
    ///
    /// # Errors
    /// [`Error::BadFile`] if the value is of another type or negative.
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Unsigned(value)) => Ok(Some(*value)),
            Some(Value::Signed(value)) if *value >= 0 => Ok(Some(value.unsigned_abs())),
            Some(other) => Err(self.wrong_type(key, other, "a whole number that is not negative")),
        }
    }

    /// A floating-point number; `None` where the key is absent.
    ///
    /// # Errors
    /// [`Error::BadFile`] if the value is of another type.
    pub fn float(&self, key: &str) -> Result<Option<f32>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Float(value)) => Ok(Some(*value as f32)),
            Some(other) => Err(self.wrong_type(key, other, "a floating-point number")),
        }
    }

    /// A truth value; `None` where the key is absent.
    ///
    /// # Errors
    /// [`Error::BadFile`] if the value is of another type.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(self.wrong_type(key, other, "a truth value")),
        }
    }

    /// A text; `None` where the key is absent.
    ///
    /// # Errors
    /// [`Error::BadFile`] if the value is of another type or not UTF-8.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Text(range)) => {
                let bytes = self.file.get(range.clone()).unwrap_or_default();
                std::str::from_utf8(bytes).map(Some).map_err(|error| {
                    self.bad(format!("metadata `{key}` is not UTF-8 (byte {} of {})", error.valid_up_to(), bytes.len()))
                })
            }
            Some(other) => Err(self.wrong_type(key, other, "a text")),
        }
    }

    /// Items of an array; `None` where the key is absent. Nothing is decoded.
    ///
    /// # Errors
    /// [`Error::BadFile`] if the value is no array.
    pub fn array_len(&self, key: &str) -> Result<Option<usize>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Array { len, .. }) => Ok(Some(*len)),
            Some(other) => Err(self.wrong_type(key, other, "an array")),
        }
    }

    /// An array of texts; `None` where the key is absent.
    ///
    /// # Errors
    /// [`Error::BadFile`] if the value is of another type or an item is not UTF-8.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<String>>> {
        self.array(key, "an array of texts", |item, cursor| {
            if item != Scalar::Text {
                return Ok(None);
            }
            let at = cursor.position();
            let range = cursor.text_range("an item", u64::MAX)?;
            let bytes = self.file.get(range).unwrap_or_default();
            let text = std::str::from_utf8(bytes)
                .map_err(|_| self.bad(format!("metadata `{key}` holds a text at offset {at} that is not UTF-8")))?;
            Ok(Some(text.to_owned()))
        })
    }

    /// An array of floating-point numbers; `None` where the key is absent.
    ///
    /// # Errors
    /// [`Error::BadFile`] if the value is of another type.
    pub fn floats(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.array(key, "an array of floating-point numbers", |item, cursor| {
            Ok(match cursor.scalar(item, key)? {
                Value::Float(value) => Some(value as f32),
                _ => None,
            })
        })
    }

    /// An array of whole numbers of any width; `None` where the key is absent.
    ///
    /// # Errors
    /// [`Error::BadFile`] if the value is of another type.
    pub fn integers(&self, key: &str) -> Result<Option<Vec<i64>>> {
        self.array(key, "an array of whole numbers", |item, cursor| {
            Ok(match cursor.scalar(item, key)? {
                Value::Unsigned(value) => i64::try_from(value).ok(),
                Value::Signed(value) => Some(value),
                _ => None,
            })
        })
    }

    /// Decodes an array item by item; `read` gives `None` for an item of another type.
    fn array<T>(
        &self,
        key: &str,
        wanted: &str,
        mut read: impl FnMut(Scalar, &mut Cursor<'_>) -> Result<Option<T>>,
    ) -> Result<Option<Vec<T>>> {
        let (item, len, range) = match self.metadata.get(key) {
            None => return Ok(None),
            Some(Value::Array { item, len, range }) => (*item, *len, range.clone()),
            Some(other) => return Err(self.wrong_type(key, other, wanted)),
        };
        let mut cursor = Cursor::new(&self.file, range.start, self.path());
        // `len` items have been walked in the file when it was parsed, so this is no claim any more.
        let mut items = Vec::with_capacity(len);
        for _ in 0..len {
            match read(item, &mut cursor)? {
                Some(value) => items.push(value),
                None => {
                    return Err(self.bad(format!("metadata `{key}` is an array of {item:?}; {wanted} is needed")));
                }
            }
        }
        Ok(Some(items))
    }

    fn wrong_type(&self, key: &str, found: &Value, wanted: &str) -> Error {
        let found = match found {
            Value::Unsigned(value) => value.to_string(),
            Value::Signed(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::Text(range) => format!("a text of {} bytes", range.len()),
            Value::Array { item, len, .. } => format!("an array of {len} {item:?}"),
        };
        self.bad(format!("metadata `{key}` is {found}; {wanted} is needed"))
    }

    pub(super) fn bad(&self, what: String) -> Error {
        Error::bad_file(self.path(), what)
    }
}
