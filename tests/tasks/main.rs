//! Data sets of rows, and questions scored as lm-eval scores them.

#[path = "../common/mod.rs"]
mod common;

mod golden;
mod items;
mod rows;
mod scoring;

use secateur::Error;
use secateur::eval::rows::DataFile;
use serde_json::Value;
use std::fs;
use std::ops::ControlFlow::Continue;
use std::path::{Path, PathBuf};

/// A made-up file that is part of the project.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tasks").join(name)
}

/// A file of its own, and the folder that keeps it alive.
fn written(name: &str, content: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join(name);
    fs::write(&path, content).expect("a file");
    (dir, path)
}

/// A field of every row.
fn field(path: &Path, name: &str) -> Result<Vec<Value>, Error> {
    let mut values = Vec::new();
    DataFile::read(path)?.rows(&mut |row| {
        values.push(row.get(name)?.clone());
        Ok(Continue(()))
    })?;
    Ok(values)
}

#[track_caller]
fn assert_says<T: std::fmt::Debug>(result: Result<T, Error>, parts: &[&str]) {
    let error = result.expect_err("an error");
    assert!(error.is_user_fault(), "{error}");
    let text = error.to_string();
    assert!(parts.iter().all(|part| text.contains(part)), "{text:?} should say {parts:?}");
}
