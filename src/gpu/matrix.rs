//! Matrix units (tensor cores, simdgroup matrices): whether an adapter has any that the kernels can use.

use serde::Serialize;

/// Matrix units that multiply 16-bit floats and add in 32 bits, a subgroup at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct MatrixUnits {
    /// Rows and columns of each of the three matrices of a multiplication: 8 or 16.
    pub side: u32,
    /// Most invocations of a subgroup, which owns a matrix together.
    pub subgroup: u32,
}

/// Subgroups that a kernel on matrix units has work for.
pub const MATRIX_SUBGROUPS: u32 = 4;

/// What the device must have been asked for.
pub(super) const FEATURES: wgpu::Features =
    wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX.union(wgpu::Features::SHADER_F16).union(wgpu::Features::SUBGROUP);

impl MatrixUnits {
    /// Those of an adapter; the larger side where it has both.
    pub(super) fn of(adapter: &wgpu::Adapter) -> Option<MatrixUnits> {
        if !adapter.features().contains(FEATURES) {
            return None;
        }
        let has = |side: &u32| {
            adapter.cooperative_matrix_properties().iter().any(|offer| {
                [offer.m_size, offer.n_size, offer.k_size] == [*side; 3]
                    && offer.ab_type == wgpu::CooperativeScalarType::F16
                    && offer.cr_type == wgpu::CooperativeScalarType::F32
            })
        };
        let units =
            MatrixUnits { side: [16, 8].into_iter().find(has)?, subgroup: adapter.get_info().subgroup_max_size };
        let limits = adapter.limits();
        let room = limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x);
        (units.subgroup.is_power_of_two() && units.lanes() <= room).then_some(units)
    }

    /// Invocations of a workgroup: as many subgroups as there is work for, whatever size up to the largest the driver takes.
    pub fn lanes(&self) -> u32 {
        MATRIX_SUBGROUPS * self.subgroup
    }
}

impl std::fmt::Display for MatrixUnits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{0}x{0}x{0} f16", self.side)
    }
}

/// Whether the user wants no matrix units: `SECATEUR_NO_MATRIX_UNITS` is set, to anything but nothing and `0`.
pub fn matrix_units_refused() -> bool {
    std::env::var_os("SECATEUR_NO_MATRIX_UNITS").is_some_and(|value| !value.is_empty() && value != "0")
}
