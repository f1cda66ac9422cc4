//! Every op against its naive CPU twin, over odd shapes and values that break careless code.
//!
//! Each op is swept with the kernel shapes of both tiers, whatever the adapter, without run-time checks in shaders and
//! with the adapter's own limits; and a thinner sweep once more the way a browser would run it: with all checks on and
//! WebGPU's default limits. An op without a sweep fails the suite, and so does a machine without an adapter.

mod cache;
mod choice;
mod compensation;
mod decoding;
mod harness;
mod history;
mod instrument;
mod matmul;
mod matrix;
mod mirrors;
mod probe;
mod sampling;

use harness::{Device, Manner};
use secateur::gpu::{Gpu, GpuOptions, Tier};
use std::sync::OnceLock;

/// The device that all sweeps of a tier and manner share, with its pipelines.
fn device(tier: Tier, manner: Manner) -> &'static Device {
    static DEVICES: [OnceLock<Device>; 4] = [const { OnceLock::new() }; 4];
    let index = 2 * usize::from(tier == Tier::Gpu) + usize::from(manner == Manner::Browser);
    DEVICES[index].get_or_init(|| {
        let browser = manner == Manner::Browser;
        let options =
            GpuOptions { tier: Some(tier), default_limits: browser, checked_shaders: browser, ..GpuOptions::default() };
        let gpu = Gpu::open(&options).expect("these tests need a GPU adapter; a software one such as lavapipe will do");
        Device { gpu, manner, matrix: false }
    })
}

macro_rules! sweeps {
    ($($file:ident: $($op:ident),*;)*) => {
        const SWEPT: &[&str] = &[$($(stringify!($op)),*),*];

        $($(mod $op {
            use super::*;

            #[test]
            fn of_gpus() {
                $file::$op(device(Tier::Gpu, Manner::Trusted));
            }

            #[test]
            fn of_gpus_in_a_browser() {
                $file::$op(device(Tier::Gpu, Manner::Browser));
            }

            #[test]
            fn of_software() {
                $file::$op(device(Tier::Software, Manner::Trusted));
            }

            #[test]
            fn of_software_in_a_browser() {
                $file::$op(device(Tier::Software, Manner::Browser));
            }
        })*)*
    };
}

sweeps! {
    matmul: matmul_rows, fc1, gate_up, matmul_columns, embed, column_power;
    cache: attention, qkv_list, rope_append, rope_append_normed;
    probe: rms_norm, layer_norm, add_positions, token_importance, sample_importance, gather_probe, probe_statistic;
    history: fusion, history_share, history_update, fluctuation;
    choice: score, top_k, cross_entropy;
    compensation: dropped_mean, add_bias;
    matrix: half_rows, matrix_chain;
    instrument: copy, fma_chain, random_weights;
    sampling: sample;
}

#[test]
fn every_op_is_swept() {
    let mut swept = SWEPT.to_vec();
    swept.sort_unstable();
    // An op's sweep takes the kernels for many tokens and for few with it.
    let op = |name: &'static str| {
        ["_tiled", "_matrix", "_few"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
    };
    let mut registered: Vec<&str> =
        secateur::kernels::registry(Tier::Gpu).iter().map(|(kernel, _)| op(kernel.source.name)).collect();
    registered.sort_unstable();
    registered.dedup();
    assert_eq!(swept, registered, "the sweeps, and kernels::registry");
}
