//! Other engines that take their turns in the same rounds, on the same weights.

use super::Setup;
use crate::error::Result;
use serde::Serialize;

/// Another engine.
pub trait Peer {
    /// What stands in the report: "llama-bench" or "burn".
    fn name(&self) -> &'static str;

    /// Tokens a second of a prompt, and of an answer of `decode` tokens behind it (`None` for none), one sequence. `ids` are both.
    ///
    /// # Errors
    /// Those of the engine.
    fn turn(&mut self, setup: Setup, ids: &[u32], decode: usize) -> Result<[Option<f64>; 2]>;

    /// What is told of it, after it ran.
    fn record(&self) -> PeerRecord;
}

/// What is told of another engine beside its figures.
#[derive(Debug, Clone, Serialize)]
pub struct PeerRecord {
    /// As [`Peer::name`] says it.
    pub name: &'static str,
    /// The program, or the library and its version.
    pub what: String,
    /// What it was given beside the lengths and the model.
    pub options: Vec<String>,
    /// What it says it ran on, such as "Vulkan" or "CPU".
    pub backends: String,
    /// Whether its answers ran behind the prompt's tokens, as ours do; else they start from an empty cache.
    pub decodes_behind_the_prompt: bool,
}
