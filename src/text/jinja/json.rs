//! `tojson` as transformers defines it: Python's `json.dumps`, which unlike Jinja's own filter escapes nothing for HTML.

use minijinja::value::{Kwargs, Value};
use minijinja::{Error, ErrorKind};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};
use std::io::{self, Write};

/// Writes `value` as JSON. Like transformers' filter it takes `ensure_ascii`, `indent`, `separators` and `sort_keys`.
///
/// # Errors
/// What JSON cannot hold, and arguments that Python would not take.
pub(super) fn to_json(value: &Value, ascii: Option<bool>, options: Kwargs) -> Result<String, Error> {
    let named: Option<bool> = options.get("ensure_ascii")?;
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let sorted: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    let refused = |what: String| Err(Error::new(ErrorKind::InvalidOperation, format!("tojson: {what}")));
    if let Some(indent) = indent.filter(|indent| *indent > 64) {
        // Beyond any use, and an easy way to fill memory.
        return refused(format!("an indent of {indent} is too wide"));
    }
    let (comma, colon) = match separators.as_deref() {
        None => (if indent.is_some() { "," } else { ", " }, ": "),
        Some([comma, colon]) => (comma.as_str(), colon.as_str()),
        Some(other) => return refused(format!("separators are two strings, not {}", other.len())),
    };
    let ascii = named.or(ascii).unwrap_or(false);
    let formatter = Python { comma, colon, indent, ascii, depth: 0, filled: false };
    let failed = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, "tojson failed").with_source(error);
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, formatter);
    if sorted == Some(true) {
        let mut value = serde_json::to_value(value).map_err(failed)?;
        value.sort_all_objects();
        value.serialize(&mut serializer).map_err(failed)?;
    } else {
        value.serialize(&mut serializer).map_err(failed)?;
    }
    String::from_utf8(bytes).map_err(|e| Error::new(ErrorKind::BadSerialization, "tojson failed").with_source(e))
}

/// JSON in Python's spelling: its separators, its line breaks, its escapes.
struct Python<'a> {
    comma: &'a str,
    colon: &'a str,
    indent: Option<usize>,
    /// Whether characters outside ASCII are escaped.
    ascii: bool,
    depth: usize,
    /// Whether the innermost list or map has an element.
    filled: bool,
}

impl Python<'_> {
    fn line<W: Write + ?Sized>(&self, writer: &mut W) -> io::Result<()> {
        match self.indent {
            Some(indent) => write!(writer, "\n{:width$}", "", width = indent * self.depth),
            None => Ok(()),
        }
    }

    fn open<W: Write + ?Sized>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.filled = false;
        writer.write_all(bracket)
    }

    fn next<W: Write + ?Sized>(&self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(self.comma.as_bytes())?;
        }
        self.line(writer)
    }

    fn close<W: Write + ?Sized>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.filled {
            self.line(writer)?;
        }
        writer.write_all(bracket)
    }
}

impl Formatter for Python<'_> {
    fn begin_array<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.next(writer, first)
    }

    fn end_array_value<W: Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }

    fn begin_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.next(writer, first)
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.colon.as_bytes())
    }

    fn end_object_value<W: Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }

    fn write_string_fragment<W: Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if !self.ascii {
            return CompactFormatter.write_string_fragment(writer, fragment);
        }
        for c in fragment.chars() {
            if c.is_ascii() && c != '\u{7F}' {
                writer.write_all(&[c as u8])?;
                continue;
            }
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}
