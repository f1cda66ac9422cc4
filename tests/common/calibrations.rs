//! Calibrations of given tokens, for tests that need what a text would say.

use secateur::config::HistoryKind;
use secateur::engine::Engine;
use secateur::eval::calibrate;
use secateur::prune::{Calibration, Knowledge, Recipe};
use std::sync::Arc;

/// SHA-256 of the model that a made-up recipe names.
pub const MODEL_SHA256: &str = "00000000000000000000000000000000000000000000000000000000000000aa";

/// The recipe of a measurement of `samples` samples that has not begun.
pub fn recipe(samples: usize, seq_len: usize, positions: HistoryKind) -> Recipe {
    Recipe {
        format: 0,
        model_sha256: MODEL_SHA256.into(),
        model: "tiny".into(),
        data: "made up".into(),
        data_sha256: "0".repeat(64),
        samples,
        seq_len,
        seed: None,
        positions,
        measured: 0,
        version: String::new(),
    }
}

/// Statistics of `samples`, all of one length, measured `batch` at a time.
pub fn measured(engine: &Arc<Engine>, samples: &[Vec<u32>], batch: usize, positions: HistoryKind) -> Calibration {
    let recipe = recipe(samples.len(), samples[0].len(), positions);
    calibrate::measure(engine, recipe, (samples, batch), None, &mut |_| Ok(())).expect("a calibration")
}

/// What methods may build on: a calibration.
pub fn known(calibration: &Arc<Calibration>) -> Knowledge {
    Knowledge { calibration: Some(calibration.clone()), masks: None }
}
