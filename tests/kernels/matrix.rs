//! What runs on matrix units, where the device has any: sweeps, and the check without which nothing does. No adapter of a usual CI
//! machine has them (Mesa's software Vulkan has from version 26 on): there these tests say so and pass, unless
//! `SECATEUR_TEST_MATRIX_UNITS` is set, which asks that they fail. `tests/shaders.rs` translates the shaders everywhere.

use super::harness::{Device, Element, Manner, Random};
use super::matmul;
use half::f16;
use secateur::format::{HostTensor, Layout, Weight, WeightFormat};
use secateur::gpu::{Gpu, GpuOptions, Tier};
use secateur::kernels::half_rows::{HEAD, width};
use secateur::kernels::shapes::{Sample, Shaped};
use secateur::kernels::{self, matrix, matrix_chain};
use std::sync::OnceLock;

/// Invocations of a subgroup as large as any, and of a workgroup a quarter of what every device allows.
const MORE: u32 = 64;

/// Whether a workgroup has exactly the subgroups that there is work for.
#[derive(Clone, Copy, PartialEq)]
enum Subgroups {
    AsMany,
    More,
}

/// The device of a manner, if it has matrix units. Unlike a browser's, the checked one keeps the adapter's features.
fn device(manner: Manner, subgroups: Subgroups) -> Option<&'static Device> {
    static DEVICES: [OnceLock<Device>; 4] = [const { OnceLock::new() }; 4];
    let index = 2 * usize::from(manner == Manner::Browser) + subgroups as usize;
    let device = DEVICES[index].get_or_init(|| {
        let checked_shaders = manner == Manner::Browser;
        let options = GpuOptions {
            tier: Some(Tier::Gpu),
            checked_shaders,
            matrix_subgroup: (subgroups == Subgroups::More).then_some(MORE),
            ..GpuOptions::default()
        };
        Device { gpu: Gpu::open(&options).expect("an adapter"), manner, matrix: true }
    });
    if device.gpu.matrix_units().is_none() {
        eprintln!("{} has no matrix units: the kernels for them are translated, but not run", device.gpu.info().name);
        let asked = std::env::var_os("SECATEUR_TEST_MATRIX_UNITS").is_some();
        assert!(!asked, "SECATEUR_TEST_MATRIX_UNITS is set, and {} has no matrix units", device.gpu.info().name);
        return None;
    }
    Some(device)
}

/// The one place that says whether they were tested.
#[test]
fn matrix_units_are_used_where_the_adapter_has_them() {
    let hardware = || GpuOptions { tier: Some(Tier::Gpu), ..GpuOptions::default() };
    let gpu = Gpu::open(&hardware()).expect("an adapter");
    assert_eq!(gpu.matrix_units(), gpu.info().matrix_units, "what the adapter has, the device has");
    assert_eq!(device(Manner::Trusted, Subgroups::AsMany).is_some(), gpu.matrix_units().is_some());
    for options in [
        GpuOptions { no_matrix_units: true, ..hardware() },
        GpuOptions { default_limits: true, ..hardware() },
        GpuOptions { tier: Some(Tier::Software), ..hardware() },
    ] {
        let gpu = Gpu::open(&options).expect("an adapter");
        assert_eq!(gpu.matrix_units(), None, "{options:?}");
        // Whatever somebody chooses.
        matrix::choose(&gpu, Shaped::Rows, &WeightFormat::ALL);
        assert_eq!(matrix::choice(&gpu), [const { Vec::<String>::new() }; 3]);
    }
    if let Some(units) = gpu.matrix_units() {
        eprintln!("{} has matrix units: {units}", gpu.info().name);
        assert!(matrix::KINDS.contains(&units), "{units:?} is no kind that the shaders were checked for");
    }
}

macro_rules! sweeps {
    ($($op:ident),*) => {
        $(mod $op {
            use super::*;

            #[test]
            fn on_matrix_units() {
                device(Manner::Trusted, Subgroups::AsMany).into_iter().for_each(matmul::$op);
            }

            /// Smaller subgroups than there may be are more of them: the others repeat what four do.
            #[test]
            fn on_more_subgroups_than_four() {
                device(Manner::Browser, Subgroups::More).into_iter().for_each(matmul::$op);
            }

            #[test]
            fn on_matrix_units_with_all_checks() {
                device(Manner::Browser, Subgroups::AsMany).into_iter().for_each(matmul::$op);
            }
        })*
    };
}

sweeps!(matmul_rows, fc1, gate_up, matmul_columns);

pub fn half_rows(device: &Device) {
    let mut random = Random(110);
    let mut cases = Vec::new();
    for columns in [1, 3, 4, 31, 32, 33, 64, 100, 576, 1537] {
        for rows in [1, 2, 7, 70] {
            cases.push((rows, columns, random.below(3)));
        }
    }
    for case in device.thin(cases) {
        let (rows, columns, first) = case;
        let stride = kernels::matmul_columns::stride(columns);
        let mut x = random.values(rows * columns, 1.0);
        let sizes = [1.0, 0.0, 3e38, 1e-30, 70_000.0, 1e-42];
        let row_sizes = x.chunks_exact_mut(columns).zip(sizes.into_iter().cycle());
        row_sizes.for_each(|(row, size)| row.iter_mut().for_each(|value| *value *= size));
        if rows == 7 {
            // A row that has no numbers keeps none; its neighbours do not notice.
            x[columns] = f32::INFINITY;
            x[2 * columns] = f32::NAN;
        }
        let input = device.input(&super::harness::widen(&x, columns, stride, f32::POISON), first * stride);
        let words = rows * width(columns) / 2;
        let h = device.output::<u32>(words, 0);
        device.run(&case, |recorder| {
            let x = kernels::Rows { buffer: &input, first: first as u32 };
            kernels::half_rows::record(recorder, x, (columns, stride), &h, rows)
        });
        let all: Vec<u32> = device.gpu.read(&h, h.bytes() as usize / 4).expect("words");
        let (found, rest) = all.split_at(words);
        assert!(rest.iter().all(|&word| word == u32::UNTOUCHED), "{case:?} wrote past its end");
        let expected = kernels::half_rows::twin(&x, columns);
        let halves = |words: &[u32]| -> Vec<f64> {
            let both = words.iter().flat_map(|&word| [word as u16, (word >> 16) as u16]);
            both.map(|bits| f16::from_bits(bits).to_f64()).collect()
        };
        let (found, expected) = (halves(found), halves(&expected));
        for (at, (a, b)) in found.iter().zip(&expected).enumerate() {
            let place = at % width(columns);
            // What keeps rows apart has no meaning. A cast goes to either neighbour, below the normal numbers perhaps to zero.
            let fine = match place {
                0 => a == b,
                1..HEAD => true,
                _ => (a - b).abs() <= b.abs() / 1024.0 + 2f64.powi(-14) || (a.is_nan() && b.is_nan()) || a == b,
            };
            assert!(fine, "{case:?}: value {place} of row {} is {a}, the twin has {b}", at / width(columns));
        }
    }
}

pub fn matrix_chain(device: &Device) {
    let Some(units) = device.gpu.matrix_units() else { return };
    let mut cases = Vec::new();
    for groups in [1, 2, 3, 70] {
        for rounds in [0, 1, 3] {
            // Every sum is exact.
            cases.extend([(0.5, 0.25), (1.0, -2.0)].map(|step| (groups, rounds, step)));
        }
    }
    for case in device.thin(cases) {
        let (groups, rounds, step) = case;
        let expected = matrix_chain::twin(units, groups, rounds, step);
        let out = device.output::<f32>(expected.len(), 0);
        device.run(&case, |recorder| matrix_chain::record(recorder, &out, groups, rounds, step));
        device.compare(&case, "out", (&out, 0), &expected, super::harness::exact);
    }
    let per_round = f64::from(units.side).powi(3) * 2.0 * 4.0 * (matrix_chain::CHAINS * matrix_chain::UNROLL) as f64;
    assert_eq!(matrix_chain::flops(units, 3, 2), per_round * 6.0);
}

fn weight(gpu: &Gpu, random: &mut Random, format: WeightFormat, layout: Layout, rows: usize, cols: usize) -> Weight {
    let values: Vec<f32> = random.values(rows * cols, 0.05);
    let bytes: Vec<u8> = match format {
        WeightFormat::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        _ => values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
    };
    Weight::upload(gpu, HostTensor { name: "test", format, rows, cols, bytes: &bytes }, layout, rows)
        .expect("an upload")
}

/// Before a model runs on matrix units, they must have agreed with the plain kernels on its own weights.
#[test]
fn a_choice_is_measured_and_checked() {
    if device(Manner::Trusted, Subgroups::AsMany).is_none() {
        return;
    }
    let gpu = Gpu::open(&GpuOptions { tier: Some(Tier::Gpu), ..GpuOptions::default() }).expect("an adapter");
    assert_eq!(matrix::choice(&gpu), [const { Vec::<String>::new() }; 3], "nothing runs on them unmeasured");
    let mut random = Random(111);
    let mut make = |format, layout, rows, cols| weight(&gpu, &mut random, format, layout, rows, cols);
    let (qkv, gate, up) = (
        make(WeightFormat::F16, Layout::Rows, 192, 128),
        make(WeightFormat::F16, Layout::Rows, 320, 128),
        make(WeightFormat::F16, Layout::Rows, 320, 128),
    );
    let down = make(WeightFormat::F32, Layout::Columns, 128, 320);
    let head = make(WeightFormat::F32, Layout::Rows, 500, 128);
    let sample = Sample { qkv: &qkv, gate_up: Some((&gate, &up)), down: &down };
    matrix::measure(&gpu, &[sample], &head).expect("a measurement");
    let measured = matrix::choice(&gpu);
    for (names, known) in measured.iter().zip([&["F32", "F16"][..], &["F16"], &["F32"]]) {
        assert!(
            names.iter().all(|name| known.contains(&name.as_str())),
            "{measured:?} has formats that nobody measured"
        );
    }
    // Kept and taken up again.
    let other = Gpu::open(&GpuOptions { tier: Some(Tier::Gpu), ..GpuOptions::default() }).expect("an adapter");
    matrix::apply(&other, &measured);
    assert_eq!(matrix::choice(&other), measured);
    matrix::apply(&other, &[vec!["F16".into(), "no format".into()], Vec::new(), Vec::new()]);
    assert_eq!(matrix::choice(&other), [vec!["F16".to_string()], Vec::new(), Vec::new()]);

    // A device that does not compute what it should: here, weights that do not keep to what was said of them.
    let mut lying = make(WeightFormat::F32, Layout::Columns, 128, 320);
    lying.shards[0].largest = 1e-9;
    matrix::measure(&gpu, &[Sample { down: &lying, ..sample }], &head).expect("a measurement");
    assert_eq!(matrix::choice(&gpu)[Shaped::Columns as usize], Vec::<String>::new(), "infinities are no agreement");
}
