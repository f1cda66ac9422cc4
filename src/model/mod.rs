//! Model files: GGUF and Hugging Face folders, the catalogue and its downloads, and those of data sets.
//!
//! Owns everything between a path and a checked set of tensors in memory maps, and between such a set and a file in another format
//! ([`convert`]); and LoRA adapters ([`adapter`]). Invariant: whatever [`ModelFiles`]
//! hands out has been checked against the files' sizes and against the configuration; files are treated as hostile.

#[cfg(not(target_arch = "wasm32"))]
pub mod adapter;
pub mod catalogue;
#[cfg(not(target_arch = "wasm32"))]
pub mod convert;
#[cfg(not(target_arch = "wasm32"))]
pub mod datasets;
pub mod files;
pub mod gguf;
pub(crate) mod mapped;
mod mlp;
mod names;
mod norm;
// The browser has neither files nor processes; a page fetches its model itself.
#[cfg(not(target_arch = "wasm32"))]
pub mod pull;
#[cfg(not(target_arch = "wasm32"))]
mod random;
pub mod safetensors;
#[cfg(not(target_arch = "wasm32"))]
pub mod shapes;
#[cfg(target_arch = "wasm32")]
pub mod shelf;
#[cfg(not(target_arch = "wasm32"))]
mod sizes;
mod tensor;
mod weights;

pub use files::ModelFiles;
pub use mapped::MappedFile;
pub use mlp::Mlp;
pub use norm::{Added, Norm};
#[cfg(not(target_arch = "wasm32"))]
pub use sizes::Sizes;
pub use tensor::{LayerTensor, TensorRole, TensorType, TensorView};
pub use weights::{LayerWeights, ModelWeights};
