//! Reading a GGUF header forward, one checked step at a time.
//!
//! Invariant: the cursor never passes the end of the file, and no size of the header is used before it is checked
//! against what is left.

use crate::error::{Error, Result};
use crate::model::tensor::{TensorEntry, TensorType};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// Real files hold some tens of entries and at most a few thousand tensors.
const MAX_METADATA: u64 = 1 << 16;
const MAX_TENSORS: u64 = 1 << 16;
/// The format's own limit for keys.
const MAX_KEY_BYTES: u64 = 65_535;
const MAX_TENSOR_NAME_BYTES: u64 = 256;
const MAX_DIMENSIONS: u32 = 4;
const DEFAULT_ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u64 = 1 << 20;

/// A metadata value; what has a length stays in the file.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(Range<usize>),
    Array { item: Scalar, len: usize, range: Range<usize> },
}

/// A metadata type other than an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    U64,
    I64,
    F64,
}

/// Number of the array type.
const ARRAY: u32 = 9;

impl Scalar {
    fn from_id(id: u32) -> Option<Scalar> {
        Some(match id {
            0 => Scalar::U8,
            1 => Scalar::I8,
            2 => Scalar::U16,
            3 => Scalar::I16,
            4 => Scalar::U32,
            5 => Scalar::I32,
            6 => Scalar::F32,
            7 => Scalar::Bool,
            8 => Scalar::Text,
            10 => Scalar::U64,
            11 => Scalar::I64,
            12 => Scalar::F64,
            _ => return None,
        })
    }

    /// Bytes of a value; of a text, those of its length.
    fn min_bytes(self) -> usize {
        match self {
            Scalar::U8 | Scalar::I8 | Scalar::Bool => 1,
            Scalar::U16 | Scalar::I16 => 2,
            Scalar::U32 | Scalar::I32 | Scalar::F32 => 4,
            Scalar::U64 | Scalar::I64 | Scalar::F64 | Scalar::Text => 8,
        }
    }
}

/// What [`read_header`] finds.
pub struct Header {
    pub version: u32,
    pub metadata: BTreeMap<String, Value>,
    pub tensors: BTreeMap<String, TensorEntry>,
}

/// Reads the whole header of a file of `total` bytes that begins with `bytes`; `path` is for errors.
pub fn read_header(bytes: &[u8], total: usize, path: &Path) -> Result<Header> {
    let mut cursor = Cursor::new(bytes, 0, path);
    let version = read_version(&mut cursor)?;
    // An entry takes at least 13 bytes (length of the key, a key of none, type, a value of one byte); a tensor 32
    // (length of the name, dimensions, one size, type, offset).
    let tensor_count = cursor.count("tensors", 32, MAX_TENSORS)?;
    let entry_count = cursor.count("metadata entries", 13, MAX_METADATA)?;
    let metadata = read_metadata(&mut cursor, entry_count)?;
    let alignment = read_alignment(&metadata, path)?;
    let tensors = read_tensors(&mut cursor, tensor_count, alignment, total)?;
    Ok(Header { version, metadata, tensors })
}

fn read_version(cursor: &mut Cursor<'_>) -> Result<u32> {
    let magic = cursor.take(4, "the magic number")?;
    if magic != b"GGUF" {
        return Err(cursor.bad(format!("not a GGUF file: it starts with {}", magic.escape_ascii())));
    }
    let version = cursor.u32("the version")?;
    match version {
        2 | 3 => Ok(version),
        // Byte-swapped, 1, 2 and 3 have their low half empty.
        _ if version & 0xffff == 0 && version != 0 => {
            Err(cursor.bad("a big-endian GGUF file; only little endian is supported"))
        }
        _ => Err(cursor.bad(format!("GGUF version {version}; supported are 2 and 3: convert the model again"))),
    }
}

fn read_metadata(cursor: &mut Cursor<'_>, count: u64) -> Result<BTreeMap<String, Value>> {
    let mut metadata = BTreeMap::new();
    for index in 0..count {
        let (key, value) = read_entry(cursor, index)?;
        if metadata.contains_key(&key) {
            return Err(cursor.bad(format!("metadata `{key}` appears twice")));
        }
        metadata.insert(key, value);
    }
    Ok(metadata)
}

fn read_entry(cursor: &mut Cursor<'_>, index: u64) -> Result<(String, Value)> {
    let key = cursor.name(&format!("the key of metadata entry {index}"), MAX_KEY_BYTES)?;
    let id = cursor.u32("a metadata type")?;
    let value = if id == ARRAY {
        cursor.array(&key)?
    } else {
        let scalar = Scalar::from_id(id).ok_or_else(|| {
            cursor.bad(format!("metadata `{key}` has type {id}, which GGUF does not define (0 to 12)"))
        })?;
        cursor.scalar(scalar, &key)?
    };
    Ok((key, value))
}

/// Where the metadata's values lie, the numbers of their types before them, in the file's order.
#[cfg(not(target_arch = "wasm32"))]
pub fn metadata_ranges(bytes: &[u8], path: &Path) -> Result<Vec<(String, Range<usize>)>> {
    let mut cursor = Cursor::new(bytes, 0, path);
    read_version(&mut cursor)?;
    cursor.count("tensors", 32, MAX_TENSORS)?;
    let count = cursor.count("metadata entries", 13, MAX_METADATA)?;
    let mut ranges = Vec::new();
    for index in 0..count {
        let start = cursor.position();
        let (key, _) = read_entry(&mut cursor, index)?;
        // A key has its length before it.
        ranges.push((key.clone(), start + 8 + key.len()..cursor.position()));
    }
    Ok(ranges)
}

fn read_alignment(metadata: &BTreeMap<String, Value>, path: &Path) -> Result<u64> {
    match metadata.get("general.alignment") {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(Value::Unsigned(value)) if value.is_power_of_two() && *value <= MAX_ALIGNMENT => Ok(*value),
        Some(other) => Err(Error::bad_file(
            path,
            format!("general.alignment is {other:?}; it must be a power of two up to {MAX_ALIGNMENT}"),
        )),
    }
}

/// Reads the tensors' headers, then places each in the data section, which starts after them and ends with the `len` bytes of
/// the file.
fn read_tensors(
    cursor: &mut Cursor<'_>,
    count: u64,
    alignment: u64,
    len: usize,
) -> Result<BTreeMap<String, TensorEntry>> {
    let mut headers = BTreeMap::new();
    for index in 0..count {
        let name = cursor.name(&format!("the name of tensor {index}"), MAX_TENSOR_NAME_BYTES)?;
        let header = cursor.tensor_header(&name)?;
        if headers.contains_key(&name) {
            return Err(cursor.bad(format!("tensor `{name}` appears twice")));
        }
        headers.insert(name, header);
    }
    let start = (cursor.at as u64).next_multiple_of(alignment);
    let mut tensors = BTreeMap::new();
    for (name, header) in headers {
        if !header.offset.is_multiple_of(alignment) {
            return Err(cursor.bad(format!(
                "tensor `{name}` lies at offset {}, which is no multiple of the alignment {alignment}",
                header.offset
            )));
        }
        let range = start
            .checked_add(header.offset)
            .and_then(|begin| usize::try_from(begin).ok())
            .and_then(|begin| Some(begin..begin.checked_add(header.bytes)?))
            .filter(|range| range.end <= len);
        let Some(range) = range else {
            return Err(cursor.bad(format!(
                "tensor `{name}` has {} bytes at offset {} of the data, which starts at {start}, but the file has only \
                 {len} bytes: the file is truncated or damaged",
                header.bytes, header.offset
            )));
        };
        tensors.insert(name, TensorEntry { kind: header.kind, shape: header.shape, file: 0, range });
    }
    refuse_overlaps(&tensors, cursor)?;
    Ok(tensors)
}

fn refuse_overlaps(tensors: &BTreeMap<String, TensorEntry>, cursor: &Cursor<'_>) -> Result<()> {
    let mut order: Vec<_> = tensors.iter().collect();
    order.sort_by_key(|(_, entry)| entry.range.start);
    for pair in order.windows(2) {
        if let [(first, a), (second, b)] = pair
            && a.range.end > b.range.start
        {
            return Err(cursor
                .bad(format!("tensors `{first}` (bytes {:?}) and `{second}` (bytes {:?}) overlap", a.range, b.range)));
        }
    }
    Ok(())
}

struct TensorHeader {
    kind: TensorType,
    shape: Vec<usize>,
    offset: u64,
    bytes: usize,
}

/// Reads forward through the header and refuses to pass the end of the file.
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    path: &'a Path,
}

impl<'a> Cursor<'a> {
    /// Starts at offset `at`, which lies in `bytes`.
    pub fn new(bytes: &'a [u8], at: usize, path: &'a Path) -> Cursor<'a> {
        Cursor { bytes, at, path }
    }

    /// Offset of the next byte.
    pub fn position(&self) -> usize {
        self.at
    }

    fn bad(&self, what: impl Into<String>) -> Error {
        Error::bad_file(self.path, what)
    }

    fn remaining(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    fn range(&mut self, len: u64, what: &str) -> Result<Range<usize>> {
        if len > self.remaining() {
            return Err(self.bad(format!(
                "truncated or damaged: {what} needs {len} bytes at offset {}, but the file has {} bytes",
                self.at,
                self.bytes.len()
            )));
        }
        let start = self.at;
        // `len` fits: it is no longer than a slice in memory.
        self.at += len as usize;
        Ok(start..self.at)
    }

    fn take(&mut self, len: u64, what: &str) -> Result<&'a [u8]> {
        let range = self.range(len, what)?;
        let bytes: &'a [u8] = self.bytes;
        Ok(bytes.get(range).unwrap_or_default())
    }

    fn array_of<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut value = [0; N];
        value.copy_from_slice(self.take(N as u64, what)?);
        Ok(value)
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array_of(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array_of(what)?))
    }

    /// Reads a count of things that take at least `min_bytes` each.
    fn count(&mut self, what: &str, min_bytes: u64, limit: u64) -> Result<u64> {
        let count = self.u64(&format!("the count of {what}"))?;
        let room = self.remaining() / min_bytes;
        if count > room {
            let left = self.remaining();
            return Err(self.bad(format!(
                "the header claims {count} {what}, but the {left} bytes after it hold at most {room}: the file is truncated or damaged"
            )));
        }
        if count > limit {
            return Err(self.bad(format!("the header claims {count} {what}, above the limit of {limit}")));
        }
        Ok(count)
    }

    /// Reads a length and skips the text it counts.
    pub fn text_range(&mut self, what: &str, limit: u64) -> Result<Range<usize>> {
        let len = self.u64(what)?;
        if len > limit {
            return Err(self.bad(format!("{what} claims {len} bytes, above the limit of {limit}")));
        }
        self.range(len, what)
    }

    fn name(&mut self, what: &str, limit: u64) -> Result<String> {
        let range = self.text_range(what, limit)?;
        let bytes = self.bytes.get(range).unwrap_or_default();
        match std::str::from_utf8(bytes) {
            Ok("") => Err(self.bad(format!("{what} is empty"))),
            Ok(name) => Ok(name.to_owned()),
            Err(_) => Err(self.bad(format!("{what} is not UTF-8: {}", bytes.escape_ascii()))),
        }
    }

    /// Reads a single value.
    pub fn scalar(&mut self, scalar: Scalar, key: &str) -> Result<Value> {
        // Formatting the key for each item of a long array would cost more than reading it.
        let what = "a metadata value";
        Ok(match scalar {
            Scalar::U8 => Value::Unsigned(u8::from_le_bytes(self.array_of(what)?).into()),
            Scalar::I8 => Value::Signed(i8::from_le_bytes(self.array_of(what)?).into()),
            Scalar::U16 => Value::Unsigned(u16::from_le_bytes(self.array_of(what)?).into()),
            Scalar::I16 => Value::Signed(i16::from_le_bytes(self.array_of(what)?).into()),
            Scalar::U32 => Value::Unsigned(self.u32(what)?.into()),
            Scalar::I32 => Value::Signed(i32::from_le_bytes(self.array_of(what)?).into()),
            Scalar::F32 => Value::Float(f32::from_le_bytes(self.array_of(what)?).into()),
            Scalar::U64 => Value::Unsigned(self.u64(what)?),
            Scalar::I64 => Value::Signed(i64::from_le_bytes(self.array_of(what)?)),
            Scalar::F64 => Value::Float(f64::from_le_bytes(self.array_of(what)?)),
            Scalar::Bool => Value::Bool(u8::from_le_bytes(self.array_of(what)?) != 0),
            Scalar::Text => Value::Text(self.text_range(&format!("metadata `{key}`"), u64::MAX)?),
        })
    }

    /// Walks an array without decoding it, so that its items are known to lie in the file.
    fn array(&mut self, key: &str) -> Result<Value> {
        let id = self.u32("an array's item type")?;
        if id == ARRAY {
            return Err(self.bad(format!("metadata `{key}` is an array of arrays, which no LLaMA file has")));
        }
        let item = Scalar::from_id(id).ok_or_else(|| {
            self.bad(format!("metadata `{key}` is an array of type {id}, which GGUF does not define (0 to 12)"))
        })?;
        let len = self.count(&format!("items in metadata `{key}`"), item.min_bytes() as u64, u64::MAX)?;
        let start = self.at;
        if item == Scalar::Text {
            for _ in 0..len {
                self.text_range("a text in an array", u64::MAX)?;
            }
        } else {
            // No overflow: `count` has checked that this many items fit into the file.
            self.range(len * item.min_bytes() as u64, "an array")?;
        }
        Ok(Value::Array { item, len: len as usize, range: start..self.at })
    }

    fn tensor_header(&mut self, name: &str) -> Result<TensorHeader> {
        let dimensions = self.u32("a tensor's dimensions")?;
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            return Err(
                self.bad(format!("tensor `{name}` has {dimensions} dimensions; 1 to {MAX_DIMENSIONS} are allowed"))
            );
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let size = self.u64("a tensor's dimension")?;
            match usize::try_from(size) {
                Ok(size) if size > 0 => shape.push(size),
                _ => return Err(self.bad(format!("tensor `{name}` has a dimension of {size} elements"))),
            }
        }
        // The file has the innermost dimension first.
        shape.reverse();
        let id = self.u32("a tensor's type")?;
        let kind = TensorType::from_ggml_id(id).ok_or_else(|| {
            self.bad(format!("tensor `{name}` has type number {id}, which this build does not know: a damaged file, or a type that GGML added later or dropped"))
        })?;
        let cols = shape.last().copied().unwrap_or(1);
        if !cols.is_multiple_of(kind.block_elements()) {
            return Err(self.bad(format!(
                "tensor `{name}` has rows of {cols} elements; {kind} needs a multiple of {}",
                kind.block_elements()
            )));
        }
        let bytes = kind
            .row_bytes(cols)
            .and_then(|row| shape.iter().rev().skip(1).try_fold(row, |bytes, &size| bytes.checked_mul(size)))
            .ok_or_else(|| {
                self.bad(format!("tensor `{name}` of shape {shape:?} has more bytes than can be counted"))
            })?;
        let offset = self.u64("a tensor's offset")?;
        Ok(TensorHeader { kind, shape, offset, bytes })
    }
}
