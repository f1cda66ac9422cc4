//! How much memory a device has, where its driver says so, and how much may be taken, where the user does.

use crate::error::{Error, Result};

/// Bytes of a megabyte.
pub const MEGABYTE: u64 = 1_000_000;

/// The limit in bytes that `SECATEUR_MEMORY` sets, in megabytes.
///
/// # Errors
/// [`Error::Setting`] for what is no whole number.
pub fn memory_limit() -> Result<Option<u64>> {
    let Some(text) = std::env::var_os("SECATEUR_MEMORY").filter(|text| !text.is_empty()) else { return Ok(None) };
    let megabytes: Option<u64> = text.to_str().and_then(|text| text.trim().parse().ok());
    let bytes = megabytes.and_then(|megabytes| megabytes.checked_mul(MEGABYTE));
    bytes.map(Some).ok_or_else(|| {
        Error::Setting(format!("SECATEUR_MEMORY is `{}`; it must be a whole number of megabytes", text.display()))
    })
}

/// Bytes of the memory of a graphics card, its own and whole: what other programs hold of it is not known. `None` where the driver is none
/// of Vulkan's.
#[cfg(not(target_vendor = "apple"))]
pub(super) fn card_memory(adapter: &wgpu::Adapter) -> Option<u64> {
    /// `VK_MEMORY_HEAP_DEVICE_LOCAL_BIT`.
    const DEVICE_LOCAL: u32 = 1;
    // SAFETY: the adapter of the layer below is only read, and not kept.
    let adapter = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let instance = adapter.shared_instance().raw_instance();
    // SAFETY: the physical device is this instance's, and both live as long as the adapter that is held here.
    let memory = unsafe { instance.get_physical_device_memory_properties(adapter.raw_physical_device()) };
    let heaps = memory.memory_heaps.iter().take(memory.memory_heap_count as usize);
    heaps.filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0).map(|heap| heap.size).max()
}

/// Metal shares the memory of the system, or does not say.
#[cfg(target_vendor = "apple")]
pub(super) fn card_memory(_: &wgpu::Adapter) -> Option<u64> {
    None
}
