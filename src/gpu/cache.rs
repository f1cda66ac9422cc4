//! Compiled pipelines that survive the program, where the driver can hand them over (Vulkan).
//!
//! The file is the driver's own data behind a hash of it: a file that was cut short or changed is never given to the driver, which
//! itself refuses what another device or version of it wrote.

use super::Gpu;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

const HASH_BYTES: usize = 32;

/// Where compiled pipelines and measured kernel shapes are kept: `SECATEUR_CACHE` (empty = nowhere), or the folder that the system has
/// for such files.
#[cfg(not(target_arch = "wasm32"))]
pub fn cache_folder() -> Option<PathBuf> {
    use etcetera::base_strategy::{BaseStrategy, choose_native_strategy};
    match std::env::var_os("SECATEUR_CACHE") {
        Some(folder) => (!folder.is_empty()).then(|| folder.into()),
        None => choose_native_strategy().ok().map(|native| native.cache_dir().join("secateur")),
    }
}

/// The driver's cache and its file.
pub(super) struct PipelineStore {
    pub raw: wgpu::PipelineCache,
    path: PathBuf,
    /// Whether something was compiled that the file does not have.
    fresh: AtomicBool,
}

impl PipelineStore {
    /// Opens the cache of an adapter. `None` where the device has no such feature.
    pub fn open(device: &wgpu::Device, adapter: &wgpu::Adapter, folder: &Path) -> Option<PipelineStore> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let path = folder.join(wgpu::util::pipeline_cache_key(&adapter.get_info())?);
        let data = std::fs::read(&path).ok().and_then(|bytes| checked(&bytes).map(<[u8]>::to_vec));
        // SAFETY: the data is what `get_data` gave for a device of this vendor and model: `keep` writes nothing else, and the hash
        // in front of it says that the file is as it was written. Data of another driver is dropped by `fallback`.
        let raw = unsafe {
            device.create_pipeline_cache(&wgpu::PipelineCacheDescriptor {
                label: Some("secateur"),
                data: data.as_deref(),
                fallback: true,
            })
        };
        Some(PipelineStore { raw, path, fresh: AtomicBool::new(false) })
    }

    /// Notes that a pipeline was compiled.
    pub fn compiled(&self) {
        self.fresh.store(true, Ordering::Relaxed);
    }

    fn keep(&self) {
        if !self.fresh.swap(false, Ordering::Relaxed) {
            return;
        }
        let Some(data) = self.raw.get_data() else { return };
        // A program that starts more slowly is no reason to fail.
        if let Err(error) = write_whole(&self.path, &[Sha256::digest(&data).as_slice(), &data].concat()) {
            tracing::debug!("compiled pipelines are not kept in {}: {error}", self.path.display());
        }
    }
}

/// The data behind its hash, if it is that data's.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (hash, data) = bytes.split_at_checked(HASH_BYTES)?;
    (Sha256::digest(data).as_slice() == hash).then_some(data)
}

/// Writes a file that is there as a whole or not at all.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    std::fs::write(&partial, bytes).and_then(|()| std::fs::rename(&partial, path)).inspect_err(|_| {
        // Nothing to do where even that fails.
        let _ = std::fs::remove_file(&partial);
    })
}

impl Gpu {
    /// Keeps what was compiled since the last time, for the next start. Costs nothing where nothing was.
    pub fn keep_pipelines(&self) {
        if let Some(store) = self.store.as_ref().filter(|_| self.check().is_ok()) {
            store.keep();
        }
    }
}

impl Gpu {
    /// What [`Gpu::remember`] kept under this name on this adapter and driver. The outer `None` = this device keeps nothing.
    pub fn remembered(&self, name: &str) -> Option<Option<String>> {
        let path = self.fact(name)?;
        Some(std::fs::read_to_string(path).ok())
    }

    /// Keeps a fact for the next start. Where that fails, it will be found out again.
    pub fn remember(&self, name: &str, fact: &str) {
        let Some(path) = self.fact(name) else { return };
        if let Err(error) = write_whole(&path, fact.as_bytes()) {
            tracing::debug!("{} is not kept: {error}", path.display());
        }
    }

    fn fact(&self, name: &str) -> Option<PathBuf> {
        let info = &self.info;
        let whose = format!("{name}|{}|{}|{}|{:?}", info.name, info.backend, info.driver, self.tier);
        let hash: String = Sha256::digest(whose.as_bytes()).iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        let kind = name.split('|').next().unwrap_or(name);
        Some(self.facts.as_ref()?.join(format!("{kind}_{hash}")))
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        self.keep_pipelines();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_as_it_was_written_is_left_alone() {
        let data = b"compiled".to_vec();
        let whole = [Sha256::digest(&data).as_slice(), &data].concat();
        assert_eq!(checked(&whole), Some(&data[..]));
        assert_eq!(checked(&whole[..whole.len() - 1]), None, "cut short");
        assert_eq!(checked(&whole[..HASH_BYTES - 1]), None);
        let mut changed = whole.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(checked(&changed), None);
    }

    #[test]
    fn a_written_file_replaces_the_one_before_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deeper").join("file");
        write_whole(&path, b"one").unwrap();
        write_whole(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
