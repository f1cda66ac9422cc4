//! Choices of units on their way back from the device, for whoever watches. The engine itself never needs them.

use super::Mask;
use crate::error::Result;
use crate::gpu::{Buffer, Gpu, Pending};
use std::sync::Arc;

/// What one block has to tell.
pub(super) struct Site {
    /// `[units]`.
    pub scores: Arc<Buffer>,
    /// `[units]`: shares of the history; `None` = there is none.
    pub shares: Option<Arc<Buffer>>,
    /// The choice.
    pub mask: Arc<Mask>,
    /// Positions that were probed, and how many; `None` = every token.
    pub probed: Option<(Arc<Buffer>, usize)>,
}

/// Why one block keeps what it keeps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chosen {
    /// Kept units, ascending.
    pub kept: Vec<u32>,
    /// Score by unit.
    pub scores: Vec<f32>,
    /// Share of the history in what each unit was scored by, in [0, 1]; empty = there is no history.
    pub from_history: Vec<f32>,
    /// Tokens of the pass that were probed, ascending; empty = every token.
    pub probed: Vec<u32>,
}

/// Heads and channels by layer; `None` where nothing is pruned.
pub type ChosenLayers = Vec<[Option<Chosen>; 2]>;

/// The choices of all layers, being read.
pub struct Reading {
    sites: Vec<[Option<Site>; 2]>,
    pending: Pending,
}

impl Reading {
    /// Starts to read what the sites hold after everything submitted so far.
    pub(super) fn start(gpu: &Gpu, sites: Vec<[Option<Site>; 2]>) -> Result<Reading> {
        let mut parts: Vec<(&Buffer, usize)> = Vec::new();
        for site in sites.iter().flatten().flatten() {
            let units = site.mask.total();
            parts.extend([(&*site.scores, units), (site.mask.list(), site.mask.kept().count)]);
            parts.extend(site.shares.as_ref().map(|shares| (&**shares, units)));
            parts.extend(site.probed.as_ref().map(|(tokens, count)| (&**tokens, *count)));
        }
        let pending = gpu.read_later(&parts)?;
        Ok(Reading { sites, pending })
    }

    /// The choices, once they are there; never waits.
    ///
    /// # Errors
    /// Those of [`Pending::take`].
    pub fn take(&self) -> Result<Option<ChosenLayers>> {
        let Some(values) = self.pending.take()? else { return Ok(None) };
        let mut values = values.into_iter();
        let mut next = || values.next().unwrap_or_default();
        let mut chosen = |site: &Option<Site>| {
            site.as_ref().map(|site| Chosen {
                scores: next().into_iter().map(f32::from_bits).collect(),
                kept: next(),
                from_history: match site.shares {
                    Some(_) => next().into_iter().map(f32::from_bits).collect(),
                    None => Vec::new(),
                },
                probed: if site.probed.is_some() { next() } else { Vec::new() },
            })
        };
        Ok(Some(self.sites.iter().map(|[heads, channels]| [chosen(heads), chosen(channels)]).collect()))
    }
}
