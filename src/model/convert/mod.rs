//! A model in another format: read through [`ModelFiles`], encoded tensor by tensor, written as one GGUF file, or with an adapter as
//! a Hugging Face folder.
//!
//! Invariants: under its name the file is whole, for it is written beside it, flushed and renamed; what is held in memory is some
//! rows of a tensor, whatever the model's size; a value that is not finite, before or after, ends the work by an error with its place.

mod file;
mod folder;
mod folder_config;
mod metadata;
mod recipe;
mod rows;

pub use folder::{FolderExport, check_folder};
pub use metadata::Words;
pub use recipe::{RECIPES, Recipe};

use super::gguf::writer::{self, ALIGNMENT, Metadata, TensorHead};
use super::names::Convention;
use super::{LayerTensor, ModelFiles, TensorRole, TensorType};
use crate::config::RopeLayout;
use crate::error::{Error, Result};
use crate::format::WeightFormat;
pub(super) use file::Part;
pub(super) use rows::Permutation;
use rows::Rows;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// What a conversion may do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Permissions {
    /// Quantise again what is quantised already, into another format.
    pub requantise: bool,
    /// Write over a file that is there.
    pub overwrite: bool,
}

/// A conversion that is known to be possible.
pub struct Conversion<'m> {
    files: &'m ModelFiles,
    recipe: &'static Recipe,
    metadata: Metadata,
    tensors: Vec<Planned>,
}

/// A tensor of the file that is made.
struct Planned {
    name: String,
    content: Content,
    to: WeightFormat,
    rows: usize,
    cols: usize,
}

enum Content {
    /// Tensors of the source with the same columns, one behind the other.
    Roles(Vec<TensorRole>),
    /// A vector that the source has in its configuration.
    Values(Vec<f32>),
}

impl Planned {
    fn bytes(&self) -> u64 {
        let (elements, size) = self.to.block();
        (self.rows * (self.cols / elements) * size) as u64
    }

    fn head(&self) -> TensorHead<'_> {
        TensorHead {
            name: &self.name,
            shape: if self.rows == 1 { vec![self.cols] } else { vec![self.rows, self.cols] },
            kind: TensorType::of(self.to),
            bytes: self.bytes(),
        }
    }

    /// The name without layer and suffix: what tensors of all layers share.
    fn kind(&self) -> &str {
        if self.rows == 1 {
            return "vectors";
        }
        let stem = self.name.strip_suffix(".weight").unwrap_or(&self.name);
        stem.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).map_or(stem, |(_, stem)| stem)
    }
}

/// What a conversion did to the tensors of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kind {
    /// The tensors' name in GGUF without layer and suffix: "attn_q", "token_embd"; "vectors" for norms and the like.
    pub kind: String,
    /// Tensors by the format that they have now.
    pub formats: BTreeMap<&'static str, usize>,
    /// Elements.
    pub parameters: u64,
    /// Bytes before.
    pub source_bytes: u64,
    /// Bytes now.
    pub bytes: u64,
    /// Root of the mean squared difference to the source, relative to the root of its mean square.
    pub relative_rms_error: f64,
}

/// Refuses a file that is there, unless it may be written over, and the model's own file always.
///
/// # Errors
/// [`Error::Setting`] naming the file.
pub fn check_target(files: &ModelFiles, target: &Path, may: Permissions) -> Result<()> {
    let same =
        |source: &Path| target.canonicalize().is_ok_and(|target| source.canonicalize().is_ok_and(|s| s == target));
    if files.gguf_file().is_some_and(|file| same(file.path())) {
        return Err(Error::Setting(format!("{} is the model itself: name another file", target.display())));
    }
    if target.is_dir() {
        return Err(Error::Setting(format!("{} is a folder: name a file in it", target.display())));
    }
    if target.exists() && !may.overwrite {
        return Err(Error::Setting(format!(
            "{} is there already: name another file, or pass --force",
            target.display()
        )));
    }
    Ok(())
}

impl<'m> Conversion<'m> {
    /// Plans a file of `recipe`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a tensor type that is not read or a network that GGUF has no keys for, [`Error::Setting`] where quantised weights would be quantised again
    /// and may not.
    pub fn new(
        files: &'m ModelFiles,
        recipe: &'static Recipe,
        words: &Words<'_>,
        may: Permissions,
    ) -> Result<Conversion<'m>> {
        let mut tensors: Vec<Planned> = Vec::new();
        for role in files.roles() {
            let view = files.tensor(role)?;
            let from = known(view.kind, view.name)?;
            let name = Convention::Gguf.name(role, files.config.blocks.fused);
            let name = name.ok_or_else(|| Error::Internal(format!("{role:?} has no name in GGUF")))?;
            // Tensors that are one in GGUF follow each other.
            if let Some(Planned { content: Content::Roles(roles), rows, .. }) =
                tensors.last_mut().filter(|last| last.name == name && last.cols == view.cols)
            {
                roles.push(role);
                *rows += view.rows;
                continue;
            }
            let to = match view.rows {
                1 => WeightFormat::F32,
                _ => {
                    let config = &files.config;
                    recipe.format(role, view.cols, config.num_hidden_layers, config.tie_word_embeddings)
                }
            };
            if view.rows > 1 && from != to && is_quantised(from) && is_quantised(to) && !may.requantise {
                return Err(Error::Setting(format!(
                    "`{}` is {} already, and to quantise it again to {} loses more than from the original floats: convert those, or \
                     pass --requantise",
                    view.name,
                    from.name(),
                    to.name()
                )));
            }
            tensors.push(Planned { name, content: Content::Roles(vec![role]), to, rows: view.rows, cols: view.cols });
        }
        let factors = files.config.rope_factors().filter(|_| !files.has(TensorRole::RopeFactors));
        if let (Some(factors), Some(name)) = (factors, Convention::Gguf.name(TensorRole::RopeFactors, false)) {
            let cols = factors.len();
            tensors.push(Planned { name, content: Content::Values(factors), to: WeightFormat::F32, rows: 1, cols });
        }
        Ok(Conversion { files, recipe, metadata: metadata::of(files, recipe, words)?, tensors })
    }

    /// What is made.
    pub fn recipe(&self) -> &'static Recipe {
        self.recipe
    }

    /// Bytes of the file that is made.
    pub fn bytes(&self) -> u64 {
        self.header().len() as u64
            + self.tensors.iter().map(|tensor| tensor.bytes().next_multiple_of(ALIGNMENT)).sum::<u64>()
    }

    fn header(&self) -> Vec<u8> {
        writer::header(&self.metadata, &self.tensors.iter().map(Planned::head).collect::<Vec<_>>())
    }

    /// Writes the file, with every processor; `progress` hears bytes written and in all, and ends the work by an error.
    ///
    /// # Errors
    /// [`Error::Setting`] for a disk without the room; [`Error::TensorNotFinite`] for a damaged source; [`Error::Setting`] for a value
    /// too large for its format; [`Error::Io`] if the file cannot be written. The target is then as it was.
    pub fn write(&self, target: &Path, progress: &mut dyn FnMut(u64, u64) -> Result<()>) -> Result<Vec<Kind>> {
        let total = self.bytes();
        check_room(target, total, file::room(target))?;
        let mut part = Part::create(target)?;
        part.append(&self.header())?;
        let mut kinds = Kinds::default();
        for tensor in &self.tensors {
            let mut done = rows::Done::default();
            for rows in self.rows(tensor)? {
                rows.encode(
                    tensor.to,
                    &mut |bytes| {
                        part.append(bytes)?;
                        progress(part.written(), total)
                    },
                    &mut done,
                )?;
            }
            part.pad(ALIGNMENT)?;
            kinds.add(tensor, &done);
        }
        part.finish()?;
        progress(total, total)?;
        Ok(kinds.finish())
    }

    /// What a tensor is made of.
    fn rows<'a>(&'a self, tensor: &'a Planned) -> Result<Vec<Rows<'a>>> {
        let roles = match &tensor.content {
            Content::Values(values) => return Ok(vec![Rows::of_values(&tensor.name, values)]),
            Content::Roles(roles) => roles,
        };
        let rows = |&role: &TensorRole| -> Result<Rows<'a>> {
            let view = self.files.tensor(role)?;
            Ok(Rows::of_view(view, known(view.kind, view.name)?, self.permutation(role)))
        };
        roles.iter().map(rows).collect()
    }

    /// The order that GGUF wants of a tensor's rows, where it is not the source's.
    fn permutation(&self, role: TensorRole) -> Option<Permutation> {
        let config = &self.files.config;
        let (_, layout) = metadata::target(config);
        let turned = matches!(role, TensorRole::Layer(_, LayerTensor::Q | LayerTensor::K));
        let differs = (config.rope_layout, layout) == (RopeLayout::Halves, RopeLayout::Adjacent);
        (turned && differs).then_some(Permutation::new(config.head_dim))
    }
}

/// Refuses a disk that has not the room.
fn check_room(target: &Path, needed: u64, available: Option<u64>) -> Result<()> {
    match available {
        Some(available) if available < needed => Err(Error::Setting(format!(
            "{} needs {needed} bytes, but its disk has {available} free: make room, write to another disk, or take a smaller format",
            target.display()
        ))),
        _ => Ok(()),
    }
}

/// Bytes that are free where `target` would be written; `None` where the system does not say.
pub fn room(target: &Path) -> Option<u64> {
    file::room(target)
}

pub(super) fn known(kind: TensorType, name: &str) -> Result<WeightFormat> {
    WeightFormat::by_name(kind.name()).ok_or_else(|| Error::Unsupported {
        what: "tensor type",
        name: format!("{} of `{name}`", kind.name()),
        supported: WeightFormat::ALL.map(WeightFormat::name).join(", "),
    })
}

fn is_quantised(format: WeightFormat) -> bool {
    format.block().0 > 1
}

/// Sums by kind, in the order in which kinds come.
#[derive(Default)]
struct Kinds(Vec<(Kind, [f64; 2])>);

impl Kinds {
    fn add(&mut self, tensor: &Planned, done: &rows::Done) {
        let kind = tensor.kind();
        let place = self.0.iter().position(|(known, _)| known.kind == kind);
        let place = place.unwrap_or_else(|| {
            let empty = Kind {
                kind: kind.into(),
                formats: BTreeMap::new(),
                parameters: 0,
                source_bytes: 0,
                bytes: 0,
                relative_rms_error: 0.0,
            };
            self.0.push((empty, [0.0; 2]));
            self.0.len() - 1
        });
        let (kind, sums) = &mut self.0[place];
        *kind.formats.entry(tensor.to.name()).or_default() += 1;
        kind.parameters += (tensor.rows * tensor.cols) as u64;
        kind.source_bytes += done.source_bytes;
        kind.bytes += tensor.bytes();
        sums[0] += done.squared_error;
        sums[1] += done.squares;
    }

    fn finish(self) -> Vec<Kind> {
        let whole = |(kind, [error, squares]): (Kind, [f64; 2])| Kind {
            relative_rms_error: if squares > 0.0 { (error / squares).sqrt() } else { 0.0 },
            ..kind
        };
        self.0.into_iter().map(whole).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_room_is_told_with_both_numbers() {
        let target = Path::new("out.gguf");
        assert!(check_room(target, 100, Some(100)).is_ok());
        assert!(check_room(target, 100, None).is_ok(), "where nobody knows, writing decides");
        let error = check_room(target, 101, Some(100)).unwrap_err().to_string();
        assert!(error.contains("out.gguf needs 101 bytes") && error.contains("100 free"), "{error}");
    }
}
