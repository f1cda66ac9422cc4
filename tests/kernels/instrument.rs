//! Sweeps of what the instrument measures with: copies, chains of arithmetic, random weights.

use super::harness::{Device, EPS, Random, exact};
use secateur::format::{Layout, Weight, WeightFormat, rows_per_shard};
use secateur::gpu::{Gpu, GpuOptions, Tier};
use secateur::kernels::column_power::Degree;
use secateur::kernels::random_weights::{Bits, Words};
use secateur::kernels::{self, fma_chain};

pub fn copy(device: &Device) {
    let mut random = Random(90);
    let mut cases = vec![4, 8, 60, 64, 68, 508, 512, 516, 2048, 4100, 65_540];
    // More workgroups than a row of the grid has, where a workgroup moves 64 vectors.
    if device.gpu.tier() == Tier::Software {
        cases.push(65_536 * 256 + 4);
    }
    for words in device.thin(cases) {
        let x: Vec<u32> = (0..words).map(|_| random.below(1 << 31) as u32).collect();
        let (from, to) = (device.input(&x, 0), device.output::<u32>(words, 0));
        device.run(&words, |recorder| kernels::copy::record(recorder, &from, &to, words));
        device.compare(&words, "y", (&to, 0), &kernels::copy::twin(&x), exact);
    }
}

pub fn fma_chain(device: &Device) {
    let tier = device.gpu.tier();
    let mut cases = Vec::new();
    for count in [1, 7, 8, 9, 63, 64, 65, 130, 1000] {
        for rounds in [0, 1, 3] {
            cases.extend([(0.5, 0.25), (0.75, -3.0), (0.9, 0.0)].map(|step| (count, rounds, step)));
        }
    }
    for case in device.thin(cases) {
        let (count, rounds, step) = case;
        let out = device.output::<f32>(count * 4, 0);
        device.run(&case, |recorder| fma_chain::record(recorder, &out, count, rounds, step));
        let expected = fma_chain::twin(tier, count, rounds, step);
        // A step may round once or twice, each by half of EPS of at most the start or the fixed point, and what it inherits
        // shrinks by the factor; then the chains are added.
        let (factor, summand) = (f64::from(step.0), f64::from(step.1));
        let chains = fma_chain::chains(tier) as f64;
        let largest = (64.0 + chains).max(summand.abs() / (1.0 - factor));
        let tolerance = chains * (2.0 * EPS * largest / (1.0 - factor) + chains * EPS * largest);
        device.compare(&case, "out", (&out, 0), &expected, |_| tolerance);
    }
    assert_eq!(fma_chain::flops(tier, 10, 2), (10 * 2 * 16 * 8 * fma_chain::chains(tier)) as f64);
}

pub fn random_weights(device: &Device) {
    let mut cases = Vec::new();
    for words in [1, 3, 8, 63, 64, 65, 1000, 4097] {
        for seed in [0, 1, 0xffff_ffff] {
            let (any, floats) = (Bits { mask: u32::MAX, pattern: 0 }, Bits { mask: 0x83ff_83ff, pattern: 0x2400_2400 });
            cases.push((words, seed, Words::from(any)));
            cases.push((words, seed, Words::from(floats)));
            cases.push((words, seed, Words { period: 5, head: 4, first: any, rest: floats }));
            cases.push((words, seed, Words { period: 500, head: 64, first: floats, rest: any }));
        }
    }
    for case in device.thin(cases) {
        let (count, seed, words) = case;
        let plane = device.output::<u32>(count, 0);
        device.run(&case, |recorder| kernels::random_weights::record(recorder, &plane, count, seed, words));
        device.compare(&case, "plane", (&plane, 0), &kernels::random_weights::twin(count, seed, words), exact);
    }
    for format in device.thin(WeightFormat::ALL.to_vec()) {
        has_the_wished_spread(&device.gpu, format);
    }
}

/// What kernels read of random weights has a mean of zero and a deviation of one over the root of the columns, about.
fn has_the_wished_spread(gpu: &Gpu, format: WeightFormat) {
    let (rows, cols) = (96, 1536);
    let about = |what: &str, deviation: f64| {
        let wished = 1.0 / (cols as f64).sqrt();
        assert!((0.6..1.6).contains(&(deviation / wished)), "{what} of {}: {deviation} for {wished}", format.name());
    };
    let at_once = |layout| rows_per_shard(gpu, format, layout, cols);
    let table =
        Weight::random(gpu, "rows", (format, Layout::Rows), (rows, cols), at_once(Layout::Rows), 5).expect("a weight");
    // A buffer has 16 bytes at least.
    let planes = format.plane_bytes(Layout::Rows, rows, cols);
    assert_eq!(table.bytes(), planes.map(|bytes| bytes.max(16)).iter().sum::<u64>());
    let ids = gpu.upload("ids", &(0..rows as u32).collect::<Vec<u32>>()).expect("ids");
    let x = gpu.zeros("x", rows * cols).expect("a buffer");
    let mut recorder = gpu.record();
    kernels::embed::record(&mut recorder, &ids, &table, &x, rows).and_then(|()| recorder.submit()).expect("a run");
    let values: Vec<f32> = gpu.read(&x, rows * cols).expect("values");
    let bound = kernels::random_weights::largest(cols);
    assert!(values.iter().all(|value| value.abs() <= bound), "{}: more than {bound}", format.name());
    let count = values.len() as f64;
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let square = values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>() / count;
    about("rows", square.sqrt());
    // The mean of n numbers strays by their deviation over the root of n; groups share a scale's sign.
    assert!(mean.abs() < 6.0 * square.sqrt() / (count / 32.0).sqrt(), "{}: a mean of {mean}", format.name());

    let layout = Layout::Columns;
    let weight = Weight::random(gpu, "columns", (format, layout), (rows, cols), at_once(layout), 6).expect("a weight");
    let power = gpu.zeros("power", cols).expect("a buffer");
    let mut recorder = gpu.record();
    let recorded = kernels::column_power::record(&mut recorder, &weight, Degree::Two, &power);
    recorded.and_then(|()| recorder.submit()).expect("a run");
    let power: Vec<f32> = gpu.read(&power, cols).expect("powers");
    about("columns", (power.iter().map(|&power| f64::from(power)).sum::<f64>() / (rows * cols) as f64).sqrt());
}

/// A weight larger than a binding is cut, and its shards differ.
#[test]
fn random_weights_are_cut_like_a_files() {
    // Whose planes can be read back.
    let options = GpuOptions { max_binding: Some(1 << 14), tier: Some(Tier::Gpu), ..GpuOptions::default() };
    let gpu = Gpu::open(&options).expect("an adapter");
    for (format, layout) in [(WeightFormat::Q4_1, Layout::Rows), (WeightFormat::F16, Layout::Columns)] {
        let (rows, cols) = (192, 128);
        let at_once = rows_per_shard(&gpu, format, layout, cols);
        let weight = Weight::random(&gpu, "cut", (format, layout), (rows, cols), at_once, 1).expect("a weight");
        let shards: Vec<(u32, u32)> = weight.shards.iter().map(|shard| (shard.first_row, shard.rows)).collect();
        let expected: Vec<(u32, u32)> = match format {
            WeightFormat::Q4_1 => vec![(0, 192)],
            _ => vec![(0, 64), (64, 64), (128, 64)],
        };
        assert_eq!(shards, expected, "{}", format.name());
        let read = |index: usize| gpu.read::<u32>(&weight.shards[index].quants, 64).expect("words");
        if shards.len() > 1 {
            assert_ne!(read(0), read(1));
        }
    }
    let refused = Weight::random(&gpu, "wide", (WeightFormat::F32, Layout::Rows), (1, 8192), 0, 1).err();
    assert!(refused.expect("a refusal").to_string().contains("a row of `wide`"));
}
