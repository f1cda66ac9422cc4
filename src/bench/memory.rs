//! Memory of the device and of the process, and what loading a model took.

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model::ModelFiles;
use serde::Serialize;
use std::time::Instant;

/// Memory at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Memory {
    /// Bytes in buffers of the device.
    pub device_bytes: u64,
    /// The most bytes that the process had in memory so far, maps of files and a software device's buffers among them;
    /// `null` where the system does not say.
    pub peak_resident_bytes: Option<u64>,
}

impl Memory {
    /// Now.
    pub fn now(gpu: &Gpu) -> Memory {
        let status = std::fs::read_to_string("/proc/self/status").ok();
        Memory { device_bytes: gpu.allocated(), peak_resident_bytes: status.as_deref().and_then(peak) }
    }
}

/// `VmHWM` of Linux's `/proc/self/status`, in bytes.
fn peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Reads every byte of a model's tensors once, as an upload does, and returns the seconds that took: what loading takes
/// beyond that is the program's own.
pub fn read_seconds(files: &ModelFiles) -> f64 {
    let started = Instant::now();
    let mut sum = 0u64;
    for tensor in files.tensors() {
        let (words, rest) = tensor.bytes.as_chunks::<8>();
        sum = words.iter().fold(sum, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
        sum = rest.iter().fold(sum, |sum, &byte| sum.wrapping_add(byte.into()));
    }
    std::hint::black_box(sum);
    started.elapsed().as_secs_f64()
}

/// Refuses key/value caches that the memory cannot hold, before the system starts to take it from other programs.
pub(super) fn check_caches(gpu: &Gpu, needed: u64) -> Result<()> {
    match gpu.memory_available() {
        Some(available) if needed > available => Err(Error::DeviceLimit {
            what: "the key/value caches of all configurations".into(),
            needed,
            available,
            limit: "free memory in bytes; measure fewer ratios, shorter prompts or smaller batches at once",
            adapter: gpu.info().name.clone(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_where_linux_writes_it() {
        let status = "Name:\tx\nVmPeak:\t  500 kB\nVmHWM:\t    1234 kB\nVmRSS:\t 9 kB\n";
        assert_eq!(peak(status), Some(1234 * 1024));
        assert_eq!(peak("VmHWM:\tmany\n"), None);
        assert_eq!(peak(""), None);
    }
}
