//! What sequences are made for, and what is told of them.

use crate::config::PruneConfig;
use crate::error::{Error, Result};
use crate::prune::{ChosenLayers, Knowledge};

/// What sequences are made for.
pub struct SequenceOptions {
    /// Sequences side by side. Pruned decoding that renews its masks takes one.
    pub samples: usize,
    /// Slots of the cache: prompt and answer together, in tokens.
    pub context: usize,
    /// What to prune, and when.
    pub prune: PruneConfig,
    /// What methods may build on. A history by position serves the probe of a prompt that opens its sequence (and of that
    /// prompt's first 1024 tokens); every later choice is fused with its mean over positions.
    pub known: Knowledge,
    /// Whether somebody watches: choices can be read ([`super::Sequences::watched`]), and settings may change on the way
    /// ([`super::Sequences::set_prune`]), for which sums are kept of every block. Takes one sequence.
    pub live: bool,
}

/// A choice of units that was watched.
#[derive(Debug, Clone, PartialEq)]
pub struct Watched {
    /// How many choices came before it.
    pub index: usize,
    /// Whether it was made in the middle of an answer.
    pub renewal: bool,
    /// Tokens of the sequence when it was made: behind a dense prompt, or what led it; before a probed one.
    pub at: usize,
    /// What was in force.
    pub prune: PruneConfig,
    /// The choice; probed tokens are positions of the sequence.
    pub layers: ChosenLayers,
}

/// Refuses settings that sequences cannot run.
pub(super) fn check_settings(prune: &PruneConfig, known: &Knowledge, live: bool) -> Result<()> {
    if prune.needs_calibration() {
        known.calibration(prune)?;
    }
    if live && prune.method.is_static() {
        let method = prune.method.name();
        return Err(Error::Setting(format!("`{method}` chooses once: it cannot run where choices are watched")));
    }
    Ok(())
}
