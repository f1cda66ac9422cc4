//! Wall clock around a submission and the wait for it.

use crate::error::Result;
use crate::gpu::{Gpu, Recorder};
use std::time::Instant;

/// Submissions whose cost without a dispatch is looked at.
const EMPTY: usize = 32;

/// Times submissions, less what one without a dispatch takes.
pub(super) struct Clock<'g> {
    gpu: &'g Gpu,
    /// Seconds of a submission without a dispatch, and of waiting for it: the least of some.
    pub empty: f64,
}

impl<'g> Clock<'g> {
    pub fn new(gpu: &'g Gpu) -> Result<Clock<'g>> {
        gpu.wait()?;
        let mut empty = f64::INFINITY;
        for _ in 0..EMPTY {
            let started = Instant::now();
            gpu.submit_empty()?;
            gpu.wait()?;
            empty = empty.min(started.elapsed().as_secs_f64());
        }
        Ok(Clock { gpu, empty })
    }

    /// Seconds that the device takes over what `record` records; the recording itself is not timed.
    pub fn time(&self, record: impl FnOnce(&mut Recorder<'_>) -> Result<()>) -> Result<f64> {
        // What was written before goes ahead.
        self.gpu.submit_empty()?;
        self.gpu.wait()?;
        let mut rec = self.gpu.record();
        record(&mut rec)?;
        let started = Instant::now();
        rec.submit()?;
        self.gpu.wait()?;
        // Never zero: rates are quotients.
        Ok((started.elapsed().as_secs_f64() - self.empty).max(1e-9))
    }
}
