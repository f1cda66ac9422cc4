//! A model as a Hugging Face folder, with what an adapter added to it.
//!
//! Invariants: the folder is whole under its name, for it is written beside it and renamed; tensors of a folder that no adapter changes
//! are copied byte by byte under their own names.

use super::file::{Part, room};
use super::rows::{self, Rows};
use super::{check_room, folder_config, known};
use crate::error::{Error, Result};
use crate::format::WeightFormat;
use crate::model::mapped::read_small;
use crate::model::names::Convention;
use crate::model::{ModelFiles, TensorRole};
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

const WEIGHTS: &str = "model.safetensors";
const CONFIG: &str = "config.json";
/// What a folder may have beside its weights, as far as models and tokenizers read it.
const COMPANIONS: [&str; 11] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "LICENSE",
    "NOTICE",
];
const MAX_COMPANION_BYTES: u64 = 128 << 20;
/// Bytes that are written between two reports.
const AT_ONCE: usize = 16 << 20;

/// A tensor of the folder that is made.
struct Planned {
    name: String,
    format: WeightFormat,
    shape: Vec<usize>,
    content: Content,
}

enum Content {
    /// A tensor of the source's folder by its name, as it is.
    Stored,
    /// Tensors of the source, one behind the other.
    Roles(Vec<TensorRole>),
}

impl Planned {
    fn bytes(&self) -> u64 {
        let (elements, size) = self.format.block();
        (self.shape.iter().product::<usize>() / elements * size) as u64
    }
}

/// A folder that is known to be possible.
pub struct FolderExport<'m> {
    files: &'m ModelFiles,
    tensors: Vec<Planned>,
    companions: Vec<(String, Vec<u8>)>,
}

impl<'m> FolderExport<'m> {
    /// Plans the folder of a model. Of a folder, `config.json` and the tokenizer's files are the source's own; of a GGUF file the
    /// former follows from its metadata, and the latter are `text`. Matrices in blocks become F16, floats keep their type.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a tensor type that is not read, or a network that a `config.json` of its family cannot describe;
    /// [`Error::Io`] for a file that cannot be read.
    pub fn new(files: &'m ModelFiles, text: Vec<(String, Vec<u8>)>) -> Result<FolderExport<'m>> {
        let mut companions = text;
        let tensors = match files.raw_config() {
            Some(config) => {
                companions.push((CONFIG.into(), config.to_vec()));
                for name in COMPANIONS {
                    if let Some(bytes) = read_small(&files.path.join(name), MAX_COMPANION_BYTES)? {
                        companions.push((name.into(), bytes));
                    }
                }
                stored(files)?
            }
            None => {
                let tensors = by_roles(files)?;
                let most = tensors.iter().max_by_key(|tensor| tensor.bytes());
                let config = folder_config::write(files, most.map_or(WeightFormat::F16, |tensor| tensor.format))?;
                companions.push((CONFIG.into(), config.into_bytes()));
                tensors
            }
        };
        Ok(FolderExport { files, tensors, companions })
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        let companions: usize = self.companions.iter().map(|(_, bytes)| bytes.len()).sum();
        self.header().len() as u64 + self.tensors.iter().map(Planned::bytes).sum::<u64>() + companions as u64
    }

    /// Writes the folder; `progress` hears bytes of weights written and bytes in all, and ends the work by an error.
    ///
    /// # Errors
    /// [`Error::Setting`] where something lies there, another process writes it, or its disk has not the room;
    /// [`Error::TensorNotFinite`] for a damaged source; [`Error::Io`]. Nothing is left then.
    pub fn write(&self, target: &Path, progress: &mut dyn FnMut(u64, u64) -> Result<()>) -> Result<()> {
        check_folder(target)?;
        let total = self.bytes();
        check_room(target, total, room(target))?;
        let beside = self.beside(target)?;
        // Another process that is at work there keeps what it has.
        let part = Part::create(&beside.join(WEIGHTS))?;
        let made = self.fill(part, &beside, (target, total), progress).and_then(|()| {
            check_folder(target)?;
            fs::rename(&beside, target).map_err(Error::io("write", target))
        });
        if made.is_err() {
            for name in self.names() {
                // What cannot be deleted is overwritten by the next one.
                let _ = fs::remove_file(beside.join(name));
            }
            let _ = fs::remove_dir(&beside);
        }
        made
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(WEIGHTS).chain(self.companions.iter().map(|(name, _)| name.as_str()))
    }

    /// The folder in the making. What a kill left there is overwritten; a folder with anything else in it is somebody's.
    fn beside(&self, target: &Path) -> Result<PathBuf> {
        let mut name = OsString::from(target.as_os_str());
        name.push(".part");
        let beside = PathBuf::from(name);
        fs::create_dir_all(&beside).map_err(Error::io("create", &beside))?;
        for entry in fs::read_dir(&beside).map_err(Error::io("read", &beside))? {
            let found = entry.map_err(Error::io("read", &beside))?.file_name();
            let own = |name: &str| {
                found == *name || found.to_str().and_then(|found| found.strip_suffix(".part")) == Some(name)
            };
            if !self.names().any(own) {
                let what = format!("{} is in the way: it holds {}", beside.display(), Path::new(&found).display());
                return Err(Error::Setting(what));
            }
        }
        Ok(beside)
    }

    fn fill(
        &self,
        mut part: Part,
        beside: &Path,
        (target, total): (&Path, u64),
        progress: &mut dyn FnMut(u64, u64) -> Result<()>,
    ) -> Result<()> {
        // Errors name what the user does.
        let named = |error: Error| match error {
            Error::Io { action, source, .. } => Error::Io { action, path: target.into(), source },
            other => other,
        };
        part.append(&self.header()).map_err(named)?;
        for tensor in &self.tensors {
            let mut write = |bytes: &[u8]| {
                part.append(bytes).map_err(named)?;
                progress(part.written(), total)
            };
            match &tensor.content {
                Content::Stored => {
                    let missing = || Error::Internal(format!("tensor `{}` is gone", tensor.name));
                    let (_, _, bytes) = self.files.stored(&tensor.name).ok_or_else(missing)?;
                    bytes.chunks(AT_ONCE).try_for_each(&mut write)?;
                }
                Content::Roles(roles) => {
                    for &role in roles {
                        let view = self.files.tensor(role)?;
                        let back = match role {
                            TensorRole::Layer(_, tensor) => self.files.row_permutation(tensor),
                            _ => None,
                        };
                        let format = known(view.kind, view.name)?;
                        let rows = Rows::of_view(view, format, back.map(super::Permutation::inverse));
                        rows.encode(tensor.format, &mut write, &mut rows::Done::default())?;
                    }
                }
            }
        }
        part.finish().map_err(named)?;
        for (name, bytes) in &self.companions {
            let mut part = Part::create(&beside.join(name))?;
            part.append(bytes).map_err(named)?;
            part.finish().map_err(named)?;
        }
        progress(total, total)
    }

    /// What a safetensors file begins with.
    fn header(&self) -> Vec<u8> {
        let mut entries = Map::new();
        entries.insert("__metadata__".into(), json!({"format": "pt"}));
        let mut at = 0;
        for tensor in &self.tensors {
            let end = at + tensor.bytes();
            let entry = json!({"dtype": tensor.format.name(), "shape": tensor.shape, "data_offsets": [at, end]});
            entries.insert(tensor.name.clone(), entry);
            at = end;
        }
        let mut text = Value::Object(entries).to_string();
        // Data begin at a multiple of eight.
        text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
        let mut header = (text.len() as u64).to_le_bytes().to_vec();
        header.extend(text.into_bytes());
        header
    }
}

/// Refuses a folder that is there.
///
/// # Errors
/// [`Error::Setting`] naming it.
pub fn check_folder(target: &Path) -> Result<()> {
    match target.symlink_metadata().is_ok() {
        true => Err(Error::Setting(format!("{} is there already: name another folder", target.display()))),
        false => Ok(()),
    }
}

/// Every tensor of a folder, under its own name.
fn stored(files: &ModelFiles) -> Result<Vec<Planned>> {
    let plan = |name: &str| {
        let (kind, shape, _) = files.stored(name)?;
        Some(known(kind, name).map(|format| Planned {
            name: name.into(),
            format,
            shape: shape.to_vec(),
            content: Content::Stored,
        }))
    };
    files.stored_names().filter_map(plan).collect()
}

/// Every tensor of a GGUF file, by Hugging Face's names.
fn by_roles(files: &ModelFiles) -> Result<Vec<Planned>> {
    let convention = Convention::of_folder(&files.config);
    let mut tensors: Vec<Planned> = Vec::new();
    // A folder's frequencies follow from its `config.json`.
    for role in files.roles().filter(|&role| role != TensorRole::RopeFactors) {
        let view = files.tensor(role)?;
        let name = convention.name(role, files.config.blocks.fused);
        let name = name.ok_or_else(|| Error::Internal(format!("{role:?} has no name in a folder")))?;
        if let Some(Planned { content: Content::Roles(roles), shape, .. }) =
            tensors.last_mut().filter(|last| last.name == name)
        {
            roles.push(role);
            shape[0] += view.rows;
            continue;
        }
        let format = known(view.kind, view.name)?.unpacked();
        let shape = if view.rows == 1 { vec![view.cols] } else { vec![view.rows, view.cols] };
        tensors.push(Planned { name, format, shape, content: Content::Roles(vec![role]) });
    }
    Ok(tensors)
}
