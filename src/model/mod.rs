//! Model files: GGUF and Hugging Face folders, the catalogue and its downloads.
//!
//! Owns everything between a path and a checked set of tensors in memory maps. Invariant: whatever [`ModelFiles`]
//! hands out has been checked against the files' sizes and against the configuration; files are treated as hostile.

pub mod files;
pub mod gguf;
mod mapped;
mod names;
pub mod safetensors;
mod tensor;

pub use files::ModelFiles;
pub use mapped::MappedFile;
pub use tensor::{LayerTensor, TensorRole, TensorType, TensorView};
