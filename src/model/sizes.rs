//! What a model's tensors take in a file and on a device, in their own formats or in others.

use super::convert::Recipe;
use super::tensor::{LayerTensor, TensorRole};
use super::{ModelFiles, TensorView};
use crate::error::Result;
use crate::format::{Layout, WeightFormat};

/// Bytes of all tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// In a GGUF file, without its header.
    pub file: u64,
    /// On a device, with the factors of scores that are computed of them.
    pub device: u64,
}

impl ModelFiles {
    /// What the tensors take: as a conversion by `recipe` would have them, or as they are. Of a type that no kernel reads, what its bytes
    /// in the file are.
    ///
    /// # Errors
    /// Those of [`ModelFiles::tensor`].
    pub fn sizes(&self, recipe: Option<&Recipe>) -> Result<Sizes> {
        let mut sizes = Sizes::default();
        for role in self.roles() {
            let view = self.tensor(role)?;
            let config = &self.config;
            let format = match recipe {
                _ if view.rows == 1 => Some(WeightFormat::F32),
                Some(recipe) => {
                    Some(recipe.format(role, view.cols, config.num_hidden_layers, config.tie_word_embeddings))
                }
                None => WeightFormat::by_name(view.kind.name()),
            };
            sizes.add(role, &view, format);
        }
        Ok(sizes)
    }
}

impl Sizes {
    fn add(&mut self, role: TensorRole, view: &TensorView<'_>, format: Option<WeightFormat>) {
        let (rows, cols) = (view.rows, view.cols);
        let Some(format) = format else {
            self.file += view.bytes.len() as u64;
            self.device += view.bytes.len() as u64;
            return;
        };
        let (elements, size) = format.block();
        self.file += (rows * (cols / elements) * size) as u64;
        self.device += match role {
            // A table of turns holds them.
            TensorRole::RopeFactors => 0,
            _ if rows == 1 => 4 * cols as u64,
            TensorRole::PositionEmbedding => 4 * (rows * cols) as u64,
            TensorRole::Layer(_, LayerTensor::O | LayerTensor::Down) => {
                format.bytes(Layout::Columns, rows, cols) + 4 * cols as u64
            }
            _ => format.bytes(Layout::Rows, rows, cols),
        };
    }
}
