//! What the device can do at most, measured: how fast it moves memory, how fast it computes, what a dispatch costs.
//!
//! On hardware these are the two roofs of a roofline. On software adapters a lane's load is a call with a bounds check: there
//! the copy says how fast the driver's code moves data through such calls, far below the memory's own bandwidth, and a kernel
//! that loads less often than it moves bytes may do better.

use super::clock::Clock;
use crate::error::Result;
use crate::gpu::{Gpu, Tier};
use crate::kernels::{copy, fma_chain, matrix_chain};
use serde::Serialize;

/// Measured bounds of a device.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ceilings {
    /// Bytes that a copy between two buffers reads and writes in a second, the best of some.
    pub copy_bytes_per_second: f64,
    /// Bytes of each of the two.
    pub copy_buffer_bytes: u64,
    /// Floating-point operations (32 bits; a multiplication and an addition are two) of independent chains of fused
    /// multiplications and additions in a second, the best of some.
    pub fma_flops_per_second: f64,
    /// The same (16 bits, added in 32) of chains of multiplications on matrix units, where the device has any that kernels use.
    pub matrix_flops_per_second: Option<f64>,
    /// Seconds of a dispatch of one workgroup that moves 16 bytes, in a submission of many.
    pub empty_dispatch_seconds: f64,
    /// Seconds of a submission without a dispatch, with the wait for it.
    pub empty_submit_seconds: f64,
}

/// Repetitions of which the best counts.
const REPETITIONS: usize = 5;
/// A repetition's least length in seconds: far above the cost of a submission.
const REPETITION: f64 = 0.02;
/// Most dispatches of a repetition.
const MOST: usize = 64;
/// Largest buffer of the copy: beyond any cache, and soon made.
const COPY_BYTES: u64 = 512 << 20;
/// Dispatches by which the cost of an empty one is measured.
const EMPTY_DISPATCHES: usize = 512;

impl Ceilings {
    /// Measures a device.
    ///
    /// # Errors
    /// Those of [`Gpu::buffer`] and of the device.
    pub fn measure(gpu: &Gpu) -> Result<Ceilings> {
        let clock = Clock::new(gpu)?;
        let (copy_bytes_per_second, copy_buffer_bytes) = bandwidth(gpu, &clock)?;
        Ok(Ceilings {
            copy_bytes_per_second,
            copy_buffer_bytes,
            fma_flops_per_second: fma_rate(gpu, &clock)?,
            matrix_flops_per_second: matrix_rate(gpu, &clock)?,
            empty_dispatch_seconds: empty_dispatch(gpu, &clock)?,
            empty_submit_seconds: clock.empty,
        })
    }

    /// The better of two measurements, figure by figure.
    pub fn or_better(self, other: Ceilings) -> Ceilings {
        Ceilings {
            copy_bytes_per_second: self.copy_bytes_per_second.max(other.copy_bytes_per_second),
            copy_buffer_bytes: self.copy_buffer_bytes.max(other.copy_buffer_bytes),
            fma_flops_per_second: self.fma_flops_per_second.max(other.fma_flops_per_second),
            matrix_flops_per_second: match (self.matrix_flops_per_second, other.matrix_flops_per_second) {
                (Some(a), Some(b)) => Some(a.max(b)),
                (a, b) => a.or(b),
            },
            empty_dispatch_seconds: self.empty_dispatch_seconds.min(other.empty_dispatch_seconds),
            empty_submit_seconds: self.empty_submit_seconds.min(other.empty_submit_seconds),
        }
    }

    /// The least seconds that moving `bytes` and computing `flops` can take.
    pub fn floor(&self, bytes: f64, flops: f64) -> f64 {
        (bytes / self.copy_bytes_per_second).max(flops / self.fma_flops_per_second)
    }

    /// The same of what runs on matrix units.
    pub fn matrix_floor(&self, bytes: f64, flops: f64) -> f64 {
        let rate = self.matrix_flops_per_second.unwrap_or(self.fma_flops_per_second);
        (bytes / self.copy_bytes_per_second).max(flops / rate)
    }
}

fn bandwidth(gpu: &Gpu, clock: &Clock<'_>) -> Result<(f64, u64)> {
    // Of the memory that is left, a part.
    let room = gpu.memory_available().map_or(u64::MAX, |bytes| bytes / 8);
    let bytes = gpu.max_binding().min(COPY_BYTES).min(room).max(16) / 16 * 16;
    let words = bytes as usize / 4;
    let (x, y) = (gpu.zeros("copied from", words)?, gpu.zeros("copied to", words)?);
    // Both are written once: pages that never were may not be there yet.
    clock.time(|rec| copy::record(rec, &x, &y, words))?;
    clock.time(|rec| copy::record(rec, &y, &x, words))?;
    let once = clock.time(|rec| copy::record(rec, &x, &y, words))?;
    let seconds = best(clock, once, |rec| copy::record(rec, &x, &y, words))?;
    Ok((2.0 * bytes as f64 / seconds, bytes))
}

fn fma_rate(gpu: &Gpu, clock: &Clock<'_>) -> Result<f64> {
    let (count, rounds) = match gpu.tier() {
        Tier::Software => (1 << 14, 256),
        Tier::Gpu => (1 << 20, 256),
    };
    let out = gpu.zeros("sums of chains", count * 4)?;
    let record = |rec: &mut crate::gpu::Recorder<'_>| fma_chain::record(rec, &out, count, rounds, (0.75, 0.5));
    clock.time(record)?;
    let once = clock.time(record)?;
    Ok(fma_chain::flops(gpu.tier(), count, rounds) / best(clock, once, record)?)
}

fn matrix_rate(gpu: &Gpu, clock: &Clock<'_>) -> Result<Option<f64>> {
    let Some(units) = gpu.matrix_units() else { return Ok(None) };
    // Many more workgroups than any device runs at a time; a software adapter has no need of so many.
    let (groups, rounds) = if gpu.info().kind == "Cpu" { (64, 16) } else { (1 << 13, 64) };
    let out = gpu.zeros("sums of matrix chains", groups * matrix_chain::outputs(units))?;
    let record = |rec: &mut crate::gpu::Recorder<'_>| matrix_chain::record(rec, &out, groups, rounds, (0.5, 0.5));
    clock.time(record)?;
    let once = clock.time(record)?;
    Ok(Some(matrix_chain::flops(units, groups, rounds) / best(clock, once, record)?))
}

/// The best seconds of one of what `record` records, where it took `once` before.
fn best(clock: &Clock<'_>, once: f64, record: impl Fn(&mut crate::gpu::Recorder<'_>) -> Result<()>) -> Result<f64> {
    let times = ((REPETITION / once).ceil() as usize).clamp(1, MOST);
    let mut best = once;
    for _ in 0..REPETITIONS {
        let seconds = clock.time(|rec| (0..times).try_for_each(|_| record(rec)))?;
        best = best.min(seconds / times as f64);
    }
    Ok(best)
}

fn empty_dispatch(gpu: &Gpu, clock: &Clock<'_>) -> Result<f64> {
    let (x, y) = (gpu.zeros("empty", 4)?, gpu.zeros("empty", 4)?);
    let mut best = f64::INFINITY;
    for _ in 0..REPETITIONS {
        let many = clock.time(|rec| (0..EMPTY_DISPATCHES).try_for_each(|_| copy::record(rec, &x, &y, 4)))?;
        best = best.min(many / EMPTY_DISPATCHES as f64);
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_of_two_measurements_counts() {
        let [quiet, busy] = [2.0, 1.0].map(|speed| Ceilings {
            copy_bytes_per_second: speed,
            copy_buffer_bytes: 16,
            fma_flops_per_second: 3.0 - speed,
            matrix_flops_per_second: (speed > 1.0).then_some(speed),
            empty_dispatch_seconds: 1.0 / speed,
            empty_submit_seconds: speed,
        });
        let both = quiet.or_better(busy);
        assert_eq!((both.copy_bytes_per_second, both.fma_flops_per_second), (2.0, 2.0));
        assert_eq!(both.matrix_flops_per_second, Some(2.0));
        assert_eq!((both.empty_dispatch_seconds, both.empty_submit_seconds), (0.5, 1.0));
    }

    #[test]
    fn the_floor_is_the_slower_of_memory_and_arithmetic() {
        let ceilings = Ceilings {
            copy_bytes_per_second: 10.0,
            copy_buffer_bytes: 16,
            fma_flops_per_second: 100.0,
            matrix_flops_per_second: Some(1000.0),
            empty_dispatch_seconds: 0.0,
            empty_submit_seconds: 0.0,
        };
        assert_eq!(ceilings.floor(20.0, 50.0), 2.0);
        assert_eq!(ceilings.floor(1.0, 500.0), 5.0);
        assert_eq!(ceilings.matrix_floor(1.0, 500.0), 0.5);
        assert_eq!(Ceilings { matrix_flops_per_second: None, ..ceilings }.matrix_floor(1.0, 500.0), 5.0);
    }
}
