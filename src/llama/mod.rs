//! LLaMA's parts in [burn](https://burn.dev), a general tensor library: its device on an adapter of ours, a layer, the head,
//! and their weights out of the files of a model.
//!
//! Invariants: everything is computed in f32 by burn's own operations; blocks are LLaMA's alone ([`check_blocks`]); what burn
//! panics about comes back as an error where it runs inside of [`guarded`].

pub(crate) mod device;
mod failure;
mod layers;

pub(crate) use failure::{failure, guarded};
pub(crate) use layers::{Extras, Head, KeyValues, Layer, LowRank, Scene, Turns, embed, embedding, hidden};

use crate::config::{Blocks, ModelConfig};
use crate::error::{Error, Result};
use crate::model::ModelFiles;

/// Refuses relatives of LLaMA, whose blocks have what these lack.
///
/// # Errors
/// [`Error::Unsupported`] with the family's name.
pub(crate) fn check_blocks(config: &ModelConfig) -> Result<()> {
    if config.blocks == Blocks::default() {
        return Ok(());
    }
    let (name, supported) = (config.family_name().to_owned(), "models with LLaMA's blocks".into());
    Err(Error::Unsupported { what: "family in burn", name, supported })
}

/// Refuses a tensor that is larger in f32 than one binding of the adapter.
///
/// # Errors
/// [`Error::DeviceLimit`] with the tensor's name.
pub(crate) fn check_bindings(files: &ModelFiles, available: u64, adapter: &str) -> Result<()> {
    for view in files.tensors() {
        let needed = (view.rows * view.cols * size_of::<f32>()) as u64;
        if needed > available {
            return Err(Error::DeviceLimit {
                what: format!("tensor `{}`, which burn holds as f32 in one piece,", view.name),
                needed,
                available,
                limit: "max_storage_buffer_binding_size",
                adapter: adapter.into(),
            });
        }
    }
    Ok(())
}
