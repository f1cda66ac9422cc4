//! Files of data sets: rows as JSON objects, whatever they are written in.
//!
//! Invariants: a file is hashed as it lies on the disk; neither it nor what it unpacks to may exceed a bound; every
//! complaint names the file and the line or row. A line is counted from 1 as editors do, a row from 1 as well.

use crate::error::{Error, Result};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Largest file that is read, and the most that it may unpack to, in bytes: far above what anyone scores, and an end to
/// what a device file or a bomb can pour out.
const MAX_BYTES: u64 = 1 << 30;
/// Endings of files that hold rows; `.gz` may follow.
const ROW_ENDINGS: &str = ".jsonl, .ndjson, .json and .parquet, each also with .gz";

/// What a file's name says it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A JSON object a line.
    Lines,
    /// An array of JSON objects; or one a line, which some call `.json` too.
    Json,
    /// Columns.
    Parquet,
    /// Anything else.
    Text,
}

/// A file in memory, unpacked where it was packed.
pub struct DataFile {
    path: PathBuf,
    sha256: String,
    kind: Kind,
    bytes: Bytes,
}

/// Where a row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Line(usize),
    Row(usize),
}

/// One row of a file.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    file: &'a Path,
    place: Place,
    fields: Map<String, Value>,
}

/// What a reader of rows answers to each: go on, or it has enough.
pub type Flow = Result<ControlFlow<()>>;

impl DataFile {
    /// Reads a file; the ending of its name says what it holds.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::BadFile`] if it is too large or damaged where it is packed.
    pub fn read(path: &Path) -> Result<DataFile> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let packed = bounded(file).map_err(Error::io("read", path))?.ok_or_else(|| {
            Error::bad_file(path, format!("the file is larger than the {MAX_BYTES} bytes that are read"))
        })?;
        let sha256 = hex(&Sha256::digest(&packed));
        let (kind, gzip) = kind_of(path);
        let bytes = match gzip {
            false => packed,
            true => bounded(MultiGzDecoder::new(packed.as_slice()))
                .map_err(|error| Error::bad_file(path, format!("not whole gzip data ({error}): get the file again")))?
                .ok_or_else(|| Error::bad_file(path, format!("unpacks to more than the {MAX_BYTES} bytes allowed")))?,
        };
        Ok(DataFile { path: path.to_path_buf(), sha256, kind, bytes: bytes.into() })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// SHA-256 of the file as it lies on the disk, in lower-case hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Whether the file holds rows; otherwise it is plain text.
    pub fn has_rows(&self) -> bool {
        self.kind != Kind::Text
    }

    /// The whole content as text.
    ///
    /// # Errors
    /// [`Error::BadFile`] if it is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.bytes).map_err(|error| {
            let valid = error.valid_up_to();
            let line = 1 + self.bytes.iter().take(valid).filter(|&&byte| byte == b'\n').count();
            Error::bad_file(&self.path, format!("line {line} is not UTF-8 (byte {valid} of the text)"))
        })
    }

    /// Shows every row to `visit`, in order, until it has enough.
    ///
    /// # Errors
    /// [`Error::BadFile`] for a malformed row, with its place, or a file that holds none by its name; and `visit`'s.
    pub fn rows(&self, visit: &mut dyn FnMut(Row<'_>) -> Flow) -> Result<()> {
        match self.kind {
            Kind::Lines => self.lines(visit),
            Kind::Json if self.text()?.trim_start().starts_with('[') => self.array(visit),
            Kind::Json => self.lines(visit),
            Kind::Parquet => self.parquet(visit),
            Kind::Text => {
                Err(Error::bad_file(&self.path, format!("rows are read from files that end in {ROW_ENDINGS}")))
            }
        }
    }

    fn row(&self, place: Place, fields: Map<String, Value>) -> Row<'_> {
        Row { file: &self.path, place, fields }
    }

    fn lines(&self, visit: &mut dyn FnMut(Row<'_>) -> Flow) -> Result<()> {
        for (index, line) in self.text()?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let place = Place::Line(index + 1);
            let fields = serde_json::from_str(line)
                .map_err(|error| self.row(place, Map::new()).error(format!("malformed JSON: {error}")))?;
            if visit(self.row(place, fields))?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn array(&self, visit: &mut dyn FnMut(Row<'_>) -> Flow) -> Result<()> {
        let mut state = Elements { file: self, visit, seen: 0, ended: None };
        let mut json = serde_json::Deserializer::from_str(self.text()?);
        let parsed = (&mut json).deserialize_seq(&mut state);
        match state.ended {
            Some(ended) => ended,
            None => parsed.and_then(|()| json.end()).map_err(|error| {
                let what = format!("row {} of the array: malformed JSON: {error}", state.seen + 1);
                Error::bad_file(&self.path, what)
            }),
        }
    }

    fn parquet(&self, visit: &mut dyn FnMut(Row<'_>) -> Flow) -> Result<()> {
        let bad = |what: String| Error::bad_file(&self.path, format!("{what}: the file is damaged or no parquet"));
        // The crate is careful with damaged files but does not promise never to panic on one.
        let guarded = |row: usize| bad(format!("row {row} could not be decoded"));
        let reader = catch_unwind(|| SerializedFileReader::new(self.bytes.clone()))
            .map_err(|_| guarded(1))?
            .map_err(|error| bad(error.to_string()))?;
        let groups = reader.metadata().row_groups();
        let unpacked = groups
            .iter()
            .fold(0u64, |sum, group| sum.saturating_add(u64::try_from(group.total_byte_size()).unwrap_or(u64::MAX)));
        if unpacked > MAX_BYTES {
            let what = format!("unpacks to {unpacked} bytes, more than the {MAX_BYTES} allowed");
            return Err(Error::bad_file(&self.path, what));
        }
        let mut rows = catch_unwind(AssertUnwindSafe(|| reader.get_row_iter(None)))
            .map_err(|_| guarded(1))?
            .map_err(|error| bad(error.to_string()))?;
        for number in 1.. {
            let next = catch_unwind(AssertUnwindSafe(|| rows.next().map(|row| row.map(|row| row.to_json_value()))));
            let fields = match next.map_err(|_| guarded(number))? {
                None => break,
                Some(Err(error)) => return Err(bad(format!("row {number}: {error}"))),
                Some(Ok(Value::Object(fields))) => fields,
                Some(Ok(_)) => return Err(guarded(number)),
            };
            if visit(self.row(Place::Row(number), fields))?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Reads the elements of an array one by one, so that no more than one of them is held.
struct Elements<'a, 'v> {
    file: &'a DataFile,
    visit: &'v mut dyn FnMut(Row<'_>) -> Flow,
    seen: usize,
    /// How it ended, where the visitor ended it.
    ended: Option<Result<()>>,
}

impl<'de> Visitor<'de> for &mut Elements<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        use serde::de::Error as _;
        while let Some(fields) = rows.next_element_seed(Fields)? {
            self.seen += 1;
            match (self.visit)(self.file.row(Place::Row(self.seen), fields)) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => self.ended = Some(Ok(())),
                Err(error) => self.ended = Some(Err(error)),
            }
            if self.ended.is_some() {
                // Leaves the parser; the caller looks at `ended` first.
                return Err(A::Error::custom("ended"));
            }
        }
        Ok(())
    }
}

struct Fields;

impl<'de> DeserializeSeed<'de> for Fields {
    type Value = Map<String, Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        serde::Deserialize::deserialize(deserializer)
    }
}

impl Row<'_> {
    /// A complaint about this row.
    pub fn error(&self, what: impl fmt::Display) -> Error {
        let place = match self.place {
            Place::Line(line) => format!("line {line}"),
            Place::Row(row) => format!("row {row}"),
        };
        Error::bad_file(self.file, format!("{place}: {what}"))
    }

    /// Whether there is a field `name`, be it null.
    pub fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// A field.
    ///
    /// # Errors
    /// [`Error::BadFile`] that lists the fields there are.
    pub fn get(&self, name: &str) -> Result<&Value> {
        self.fields.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.fields.keys().map(String::as_str).take(12).collect();
            self.error(format!("the row has no field `{name}`, only: {}", names.join(", ")))
        })
    }

    /// A field of text.
    ///
    /// # Errors
    /// As [`Row::get`], and where it is no string.
    pub fn text(&self, name: &str) -> Result<&str> {
        let value = self.get(name)?;
        value.as_str().ok_or_else(|| self.error(format!("the field `{name}` is not a string but {}", kind(value))))
    }

    /// A field that is a list of texts.
    ///
    /// # Errors
    /// As [`Row::get`], and where it is no list of strings.
    pub fn texts(&self, name: &str) -> Result<Vec<String>> {
        self.texts_of(name, self.get(name)?)
    }

    /// The list of texts `value`, which is (part of) the field `name`.
    ///
    /// # Errors
    /// [`Error::BadFile`] where it is none.
    pub fn texts_of(&self, name: &str, value: &Value) -> Result<Vec<String>> {
        let strange = |value: &Value| self.error(format!("the field `{name}` should be strings, not {}", kind(value)));
        let list = value.as_array().ok_or_else(|| self.error(format!("the field `{name}` is not a list")))?;
        list.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(|| strange(item))).collect()
    }
}

/// What the ending of a name promises, and whether it is packed.
fn kind_of(path: &Path) -> (Kind, bool) {
    let ending = |path: &Path| path.extension().unwrap_or_default().to_ascii_lowercase();
    let gzip = ending(path) == "gz";
    let inner = if gzip { path.with_extension("") } else { path.to_path_buf() };
    let kind = match ending(&inner).to_str() {
        Some("jsonl" | "ndjson") => Kind::Lines,
        Some("json") => Kind::Json,
        Some("parquet") => Kind::Parquet,
        _ => Kind::Text,
    };
    (kind, gzip)
}

/// Everything that comes, or `None` if that is more than [`MAX_BYTES`].
fn bounded(from: impl Read) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    from.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= MAX_BYTES).then_some(bytes))
}

/// A JSON value's kind, with its article.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
