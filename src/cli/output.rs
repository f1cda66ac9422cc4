//! Where results go: JSON to a file or stdout, text to stdout, remarks to stderr.

use anyhow::Result;
use clap::Args;
use secateur::Error;
use serde::Serialize;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The option of every command that has a result.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub struct JsonOption {
    /// Write the result as JSON to FILE; to stdout, and nothing else there, where FILE is `-` or left out
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<PathBuf>,
}

/// A place for JSON that has been found writable.
#[derive(Debug)]
pub enum JsonSink {
    /// Not asked for.
    None,
    /// Stdout, which then holds nothing else.
    Stdout,
    /// A file.
    File(PathBuf),
}

impl JsonOption {
    /// Finds out whether the result can be written, before the work starts. An existing file keeps its content until
    /// then.
    pub fn open(&self) -> Result<JsonSink> {
        match &self.json {
            None => Ok(JsonSink::None),
            Some(path) if path.as_os_str() == "-" => Ok(JsonSink::Stdout),
            Some(path) => {
                check_writable(path)?;
                Ok(JsonSink::File(path.clone()))
            }
        }
    }
}

impl JsonSink {
    /// Whether stdout is reserved for the JSON.
    pub fn takes_stdout(&self) -> bool {
        matches!(self, JsonSink::Stdout)
    }

    /// Writes the result, where it was asked for.
    pub fn write(&self, value: &impl Serialize) -> Result<()> {
        if matches!(self, JsonSink::None) {
            return Ok(());
        }
        let mut text = serde_json::to_string_pretty(value)?;
        text.push('\n');
        match self {
            JsonSink::None => {}
            JsonSink::Stdout => print(&text)?,
            JsonSink::File(path) => write_whole(path, &text)?,
        }
        Ok(())
    }
}

/// Finds out whether `path` can be written, leaving things as they were.
pub fn check_writable(path: &Path) -> Result<(), Error> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(_) => fs::remove_file(path).map_err(Error::io("write", path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            OpenOptions::new().write(true).open(path).map(drop).map_err(Error::io("write", path))
        }
        Err(error) => Err(Error::io("write", path)(error)),
    }
}

/// Writes a file that is either whole or not there: beside it first, then under its name. What is no regular file, such as
/// a pipe, is written as it is.
pub fn write_whole(path: &Path, text: &str) -> Result<(), Error> {
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return fs::write(path, text).map_err(Error::io("write", path));
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let written = fs::File::create(&part).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| fs::rename(&part, path)) {
        let _ = fs::remove_file(&part);
        return Err(Error::io("write", path)(error));
    }
    Ok(())
}

/// Writes to stdout at once; unlike `print!`, a closed pipe is an error and no panic.
pub fn print(text: &str) -> secateur::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Error::io("write", "stdout"))
}

/// Writes a line to stderr. That stderr is closed is no reason to stop.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A remark that the user should not miss.
pub fn note(text: &str) {
    say(&format!("note: {text}"));
}

/// Bytes for people, in decimal units.
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checking_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let (new, old) = (dir.path().join("new"), dir.path().join("old"));
        fs::write(&old, "kept").unwrap();
        check_writable(&new).unwrap();
        check_writable(&old).unwrap();
        assert!(!new.exists());
        assert_eq!(fs::read_to_string(&old).unwrap(), "kept");
        assert!(check_writable(&dir.path().join("missing/file")).is_err());
        assert!(check_writable(dir.path()).is_err());
    }

    #[test]
    fn a_file_is_written_whole_or_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.json");
        fs::write(&path, "old").unwrap();
        write_whole(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing stays beside it");
        // Where the part cannot be made, the file keeps its content.
        fs::create_dir(dir.path().join("out.json.part")).unwrap();
        assert!(matches!(write_whole(&path, "newer"), Err(Error::Io { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }

    #[test]
    fn bytes_are_rounded_for_people() {
        assert_eq!((bytes(999), bytes(98_362_432)), ("999 B".into(), "98.4 MB".into()));
    }
}
