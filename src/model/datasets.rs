//! The data sets that `secateur eval pull` knows, read from `assets/datasets.json`, which is part of the program.
//!
//! The file lists `sets`. Each has a `name` (what users type; a task's is the task's), a `title`, its `split`, the `fields`
//! that are read, the `file` name it gets on disk, whose ending says what it holds, a `licence` (SPDX, or "not stated"), and
//! its place on the `hub`.
//!
//! Invariant: a revision is a commit, so that a name means one content. How large that is and which hash it has, the hub
//! says when it is pulled.

use super::catalogue::{Hub, check_file_name};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeSet;

/// All data sets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSets {
    /// In the order in which they are listed to users.
    pub sets: Vec<DataSet>,
}

/// A data set that can be pulled.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSet {
    /// What users type; compared without regard to case.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// Which part of the data set, in words.
    pub split: String,
    /// The fields that are read.
    pub fields: Vec<String>,
    /// File name on disk: a plain one, without folders.
    pub file: String,
    /// Licence of the texts, as an SPDX expression, or "not stated".
    pub licence: String,
    /// Where the file lies on a Hugging Face hub.
    pub hub: Hub,
}

impl DataSets {
    /// The list that comes with the program.
    ///
    /// # Errors
    /// [`Error::Internal`] if it is malformed, which a test excludes.
    pub fn builtin() -> Result<DataSets> {
        DataSets::parse(include_str!("../../assets/datasets.json"))
    }

    fn parse(text: &str) -> Result<DataSets> {
        let bad = |what: String| Error::Internal(format!("the list of data sets: {what}"));
        let list: DataSets = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
        let mut names = BTreeSet::new();
        for set in &list.sets {
            if !names.insert(set.name.to_lowercase()) {
                return Err(bad(format!("`{}` is listed twice", set.name)));
            }
            check_file_name(&set.name, &set.file).map_err(bad)?;
            let hexadecimal = |c: char| matches!(c, '0'..='9' | 'a'..='f');
            if set.hub.revision.len() != 40 || !set.hub.revision.chars().all(hexadecimal) {
                return Err(bad(format!("the revision of `{}` is no commit of 40 lower-case digits", set.name)));
            }
        }
        Ok(list)
    }

    /// The data set of that name, without regard to case.
    ///
    /// # Errors
    /// [`Error::Setting`] that lists the names there are.
    pub fn get(&self, name: &str) -> Result<&DataSet> {
        self.find(name).ok_or_else(|| {
            let names: Vec<&str> = self.sets.iter().map(|set| set.name.as_str()).collect();
            Error::Setting(format!("there is no data set `{name}` to pull; there is: {}", names.join(", ")))
        })
    }

    /// As [`DataSets::get`], where a miss is no error.
    pub fn find(&self, name: &str) -> Option<&DataSet> {
        self.sets.iter().find(|set| set.name.to_lowercase() == name.to_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_list_is_sound() {
        let list = DataSets::builtin().unwrap();
        let set = list.get("WikiText2").unwrap();
        assert_eq!(
            set.hub.url("https://hub.example/"),
            "https://hub.example/datasets/Salesforce/wikitext/resolve/b08601e04326c79dfdd32d625aee71d232d685c3/\
             wikitext-2-raw-v1/test-00000-of-00001.parquet"
        );
        let error = list.get("imagenet").unwrap_err().to_string();
        assert!(error.contains("imagenet") && error.contains("boolq, piqa"), "{error}");
    }

    #[test]
    fn unsound_lists_are_refused() {
        let text = include_str!("../../assets/datasets.json");
        for (from, to) in [
            ("\"name\": \"piqa\"", "\"name\": \"BoolQ\""),
            ("\"file\": \"c4.json.gz\"", "\"file\": \"../c4.json.gz\""),
            ("35b264d03638db9f4ce671b711558bf7ff0f80d5", "main"),
            ("\"title\"", "\"titel\""),
        ] {
            assert!(text.contains(from));
            assert!(matches!(DataSets::parse(&text.replacen(from, to, 1)), Err(Error::Internal(_))), "{to}");
        }
    }
}
