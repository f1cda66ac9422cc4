//! A Hugging Face folder: weights in one or several safetensors files beside `config.json` and the tokenizer.
//!
//! Invariant: only plain file names inside the folder are opened, and each tensor lies in exactly one file, inside the
//! file's bytes (the `safetensors` crate checks a header's offsets against shapes and file size; its header is capped
//! here before it is parsed).

mod config;
mod sentencepiece;
mod text;
mod vocabulary;

use super::mapped::{MappedFile, read_small};
use super::tensor::{TensorEntry, TensorType};
use crate::config::{ModelConfig, TextSource};
use crate::error::{Error, Result};
use ::safetensors::tensor::Metadata;
use ::safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// What stands before the names of all tensors but the head's.
const BASE: &str = "model.";
/// Headers of real shards have some 100 bytes a tensor.
const MAX_HEADER_BYTES: u64 = 16 << 20;
const MAX_INDEX_BYTES: u64 = 32 << 20;
const MAX_CONFIG_BYTES: u64 = 1 << 20;
const MAX_SHARDS: usize = 1024;

/// An opened folder: what its `config.json` says, and where each tensor lies.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    raw_config: Vec<u8>,
    config: ModelConfig,
    files: Vec<MappedFile>,
    tensors: BTreeMap<String, TensorEntry>,
}

impl Folder {
    /// Opens the folder `path`; its tokenizer is read by [`Folder::text_source`].
    ///
    /// # Errors
    /// [`Error::BadFile`] for what is missing or malformed, [`Error::Unsupported`] for another architecture,
    /// [`Error::Io`] if a file cannot be read.
    pub fn open(path: &Path) -> Result<Folder> {
        let config_path = path.join("config.json");
        let raw_config = read_small(&config_path, MAX_CONFIG_BYTES)?
            .ok_or_else(|| Error::bad_file(path, "the folder has no config.json: not a Hugging Face model"))?;
        let config = config::parse(&raw_config, &config_path)?;
        let mut folder =
            Folder { path: path.to_path_buf(), raw_config, config, files: Vec::new(), tensors: BTreeMap::new() };
        if path.join(SINGLE).exists() {
            folder.add_file(SINGLE)?;
        } else if let Some(bytes) = read_small(&path.join(INDEX), MAX_INDEX_BYTES)? {
            folder.add_shards(&bytes)?;
        } else {
            return Err(Error::bad_file(
                path,
                format!(
                    "the folder has neither {SINGLE} nor {INDEX}; weights in pickle files (pytorch_model.bin) are not \
                     read: in Python, transformers' `AutoModelForCausalLM.from_pretrained(F).save_pretrained(F)` with \
                     this folder as F writes them as safetensors"
                ),
            ));
        }
        Ok(folder)
    }

    /// What the folder says about text.
    ///
    /// # Errors
    /// [`Error::BadFile`] for what is missing or malformed, [`Error::Io`] if a file cannot be read.
    pub fn text_source(&self) -> Result<TextSource> {
        text::read(&self.path, &self.raw_config, self.config.vocab_size)
    }

    /// The configuration; only its own consistency is checked, not the tensors.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The bytes of `config.json`, the mapped weight files, and the tensors, which point into them.
    pub(super) fn into_parts(self) -> (Vec<u8>, Vec<MappedFile>, BTreeMap<String, TensorEntry>) {
        // A model that was saved without its head has names without the head's prefix.
        let bare = !self.tensors.keys().any(|name| name.starts_with(BASE));
        let whole = |(name, entry): (String, TensorEntry)| {
            (if bare && name != "lm_head.weight" { BASE.to_owned() + &name } else { name }, entry)
        };
        (self.raw_config, self.files, self.tensors.into_iter().map(whole).collect())
    }

    fn add_shards(&mut self, index: &[u8]) -> Result<()> {
        let index_path = self.path.join(INDEX);
        let index: Index = parse_json(index, &index_path)?;
        let shards: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
        if shards.is_empty() || shards.len() > MAX_SHARDS {
            return Err(Error::bad_file(
                index_path,
                format!("names {} weight files; 1 to {MAX_SHARDS} are allowed", shards.len()),
            ));
        }
        for shard in &shards {
            if !is_plain_name(shard) {
                return Err(Error::bad_file(
                    index_path,
                    format!("names the weight file `{}`, which is no plain file name", shard.escape_default()),
                ));
            }
            self.add_file(shard)?;
        }
        for (name, shard) in &index.weight_map {
            let holder = self.tensors.get(name).and_then(|entry| self.files.get(entry.file));
            if holder.and_then(|file| file.path().file_name()) != Some(shard.as_ref()) {
                return Err(Error::bad_file(
                    index_path,
                    format!("tensor `{name}` is said to be in {shard}, but that file does not have it"),
                ));
            }
        }
        Ok(())
    }

    /// Maps a weight file and notes its tensors.
    fn add_file(&mut self, name: &str) -> Result<()> {
        let file = MappedFile::open(&self.path.join(name))?;
        let bad = |what: String| Error::bad_file(file.path(), what);
        let (data, metadata) = read_header(&file)?;
        for name in metadata.offset_keys() {
            let Some(info) = metadata.info(&name) else { continue };
            let kind = tensor_type(info.dtype, &name)?;
            if info.shape.is_empty() || info.shape.contains(&0) {
                return Err(bad(format!("tensor `{name}` has the shape {:?}", info.shape)));
            }
            let (begin, end) = info.data_offsets;
            let range = begin + data..end + data;
            let entry = TensorEntry { kind, shape: info.shape.clone(), file: self.files.len(), range };
            if self.tensors.insert(name.clone(), entry).is_some() {
                return Err(bad(format!("tensor `{name}` is in another weight file too")));
            }
        }
        self.files.push(file);
        Ok(())
    }
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// What the bytes of a `config.json` say; `path` is for errors.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn parse_config(bytes: &[u8], path: &Path) -> Result<ModelConfig> {
    config::parse(bytes, path)
}

/// Where the data of a safetensors file begins, and what its header says: offsets from there on, which lie in the file.
pub(super) fn read_header(file: &MappedFile) -> Result<(usize, Metadata)> {
    let bad = |what: String| Error::bad_file(file.path(), what);
    let header = file.first_chunk::<8>().map(|&bytes| u64::from_le_bytes(bytes));
    let header = header.ok_or_else(|| bad(format!("truncated: {} bytes are no safetensors file", file.len())))?;
    if header > MAX_HEADER_BYTES.min(file.len() as u64 - 8) {
        return Err(bad(format!(
            "the header claims {header} bytes; the file has {} and the limit is {MAX_HEADER_BYTES}",
            file.len()
        )));
    }
    let (header, metadata) = SafeTensors::read_metadata(file)
        .map_err(|error| bad(format!("the safetensors header is damaged or the file is truncated: {error}")))?;
    Ok((header + 8, metadata))
}

/// The type of the tensor of that name.
pub(super) fn tensor_type(dtype: Dtype, name: &str) -> Result<TensorType> {
    match dtype {
        Dtype::F32 => Ok(TensorType::F32),
        Dtype::F16 => Ok(TensorType::F16),
        Dtype::BF16 => Ok(TensorType::BF16),
        other => Err(Error::Unsupported {
            what: "tensor type",
            name: format!("{other} of `{name}`"),
            supported: "F32, F16, BF16".into(),
        }),
    }
}

/// Whether `name` means a file in this very folder on every system: no separator, no drive, no parent.
fn is_plain_name(name: &str) -> bool {
    name.ends_with(".safetensors")
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// Parses JSON that a hostile file may hold; `path` is for the error.
fn parse_json<'a, T: Deserialize<'a>>(bytes: &'a [u8], path: &Path) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::bad_file(path, format!("malformed JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_inside_the_folder_are_plain() {
        assert!(is_plain_name("model-00001-of-00002.safetensors"));
        for name in ["../a.safetensors", "/a.safetensors", "a\\b.safetensors", "C:a.safetensors", "..safetensors", "a"]
        {
            assert!(!is_plain_name(name), "{name}");
        }
    }
}
