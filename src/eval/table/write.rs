//! The files of a table: JSON and CSV of all that is known, Markdown and plots to look at.

use super::markdown::markdown;
use super::schema::{Row, Table};
use super::svg;
use crate::error::{Error, Result};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The file that says that a table is whole.
pub(super) const JSON: &str = "table.json";

/// Writes all files of a table into the folder `out`, each as a whole or not at all, `table.json` last. Returns their
/// paths.
///
/// # Errors
/// [`Error::Io`].
pub fn write_all(out: &Path, rows: &[Row]) -> Result<Vec<PathBuf>> {
    let mut files = vec![("table.csv".to_string(), csv(rows)?), ("table.md".to_string(), markdown(rows))];
    files.extend(svg::plots(rows));
    files.push((JSON.to_string(), json(rows)?));
    fs::create_dir_all(out).map_err(Error::io("create", out))?;
    files
        .into_iter()
        .map(|(name, text)| {
            let path = out.join(name);
            write_whole(&path, text.as_bytes()).map(|()| path)
        })
        .collect()
}

/// The table as JSON.
///
/// # Errors
/// [`Error::Internal`] for what JSON cannot hold.
pub fn json(rows: &[Row]) -> Result<String> {
    let table = Table::from(rows.to_vec());
    let mut text = serde_json::to_string_pretty(&table).map_err(|error| Error::Internal(error.to_string()))?;
    text.push('\n');
    Ok(text)
}

/// The table as CSV: a line a row, the same names as in JSON. Names within objects are joined by a point, items of lists by a
/// space; what is `null` is empty.
///
/// # Errors
/// [`Error::Internal`] for what CSV cannot hold.
pub fn csv(rows: &[Row]) -> Result<String> {
    let broken = |error: &dyn fmt::Display| Error::Internal(format!("the table does not fit CSV: {error}"));
    let records: Vec<Vec<(String, String)>> = rows.iter().map(fields).collect::<Result<_>>()?;
    // An object that is `null` in some rows has its fields' names in the others.
    let mut names: Vec<&String> = Vec::new();
    for (index, (name, _)) in records.iter().flat_map(|record| record.iter().enumerate()) {
        if !names.contains(&name) {
            names.insert(names.len().min(index), name);
        }
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(&names).map_err(|error| broken(&error))?;
    for record in &records {
        let field = |name: &&String| record.iter().find(|(own, _)| own == *name).map_or("", |(_, text)| text.as_str());
        writer.write_record(names.iter().map(field)).map_err(|error| broken(&error))?;
    }
    let bytes = writer.into_inner().map_err(|error| broken(&error))?;
    String::from_utf8(bytes).map_err(|error| broken(&error))
}

/// Names and texts of a row's fields, in the order of the JSON.
fn fields(row: &Row) -> Result<Vec<(String, String)>> {
    let text = serde_json::to_string(row).map_err(|error| Error::Internal(error.to_string()))?;
    let Ordered(members) = serde_json::from_str(&text).map_err(|error| Error::Internal(error.to_string()))?;
    let mut fields = Vec::new();
    for (name, value) in &members {
        flatten(name, value, &mut fields);
    }
    Ok(fields)
}

fn flatten(name: &str, value: &Value, fields: &mut Vec<(String, String)>) {
    let text = match value {
        Value::Object(members) => {
            for (member, value) in members {
                flatten(&format!("{name}.{member}"), value, fields);
            }
            return;
        }
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        other => plain(other),
    };
    fields.push((name.to_string(), text));
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Members of an object in the order in which they stand.
struct Ordered(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ordered, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Ordered;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Ordered(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Writes a file that is there as a whole or not at all.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".writing");
    let temporary = path.with_file_name(name);
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let moved = written.and_then(|()| fs::rename(&temporary, path));
    if moved.is_err() {
        // The error that counts is the one that is returned.
        let _ = fs::remove_file(&temporary);
    }
    moved.map_err(Error::io("write", path))
}
