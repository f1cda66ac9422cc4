//! What is known before anything runs.

use super::{Calibration, UnitSets};
use crate::config::PruneConfig;
use crate::error::{Error, Result};
use std::sync::Arc;

/// What methods may build on.
#[derive(Debug, Clone, Default)]
pub struct Knowledge {
    /// Statistics of dense runs over other text.
    pub calibration: Option<Arc<Calibration>>,
    /// Units that hold for every input.
    pub masks: Option<Arc<UnitSets>>,
}

impl Knowledge {
    /// The calibration that settings need.
    ///
    /// # Errors
    /// [`Error::Setting`] where there is none.
    pub fn calibration(&self, prune: &PruneConfig) -> Result<&Calibration> {
        self.calibration.as_deref().ok_or_else(|| {
            let method = prune.method.name();
            Error::Setting(format!(
                "`{method}` with these options needs calibrated statistics: give --calibration FILE (a text, or what `secateur calibrate` wrote)"
            ))
        })
    }

    /// The units of `--masks-in`.
    ///
    /// # Errors
    /// [`Error::Setting`] where there are none.
    pub fn masks(&self) -> Result<&UnitSets> {
        self.masks.as_deref().ok_or_else(|| {
            Error::Setting("`masks` runs the units of a file, and none is given: use --masks-in FILE".into())
        })
    }
}
