//! Sweeps of the ops that read weights: every format, both layouts, kept lists, shards.

use super::harness::{Device, Element, Manner, QUOTIENT, ROOT, Random, TINY, exact, magnitudes, summing, widen};
use super::harness::{EPS, exp_error};
use half::{bf16, f16};
use secateur::format::{HostTensor, Layout, Weight, WeightFormat};
use secateur::gpu::Buffer;
use secateur::kernels::column_power::Degree;
use secateur::kernels::shapes::Shaped;
use secateur::kernels::{self, Kept, Rows, matmul_columns, matmul_columns::stride, qkv_list, top_k::DROPPED};

/// Around the tiles that matmuls of software adapters take: one or two tokens, a narrow tile, a wide one that is not filled, and both.
const TOKENS: [usize; 8] = [1, 2, 3, 7, 31, 61, 100, 257];
const COUNTS: [usize; 7] = [1, 7, 31, 33, 96, 172, 257];
const WIDTHS: [usize; 3] = [64, 192, 576];

/// The formats to try with so many tokens. Few tokens take the cheap tiles, which every format gets. The large ones
/// take seconds to compile on software adapters: each gets floats, formats with scales and with minima, of blocks of 32 and of
/// 256, and every format gets one.
fn formats(device: &Device, tokens: usize) -> &'static [WeightFormat] {
    use WeightFormat::{Bf16, F16, F32, Iq4Nl, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
    if device.matrix {
        return &WeightFormat::ALL;
    }
    match (device.manner, tokens) {
        (Manner::Trusted, 0..=2) => &WeightFormat::ALL,
        (Manner::Trusted, 3..=32) => &[F32, Bf16, Q8_0, Q4_1, Q5_0, Q2K, Q6K],
        (Manner::Trusted, _) => &[F16, Q4_0, Q4_1, Q5_1, Iq4Nl, Q3K, Q4K, Q5K],
        (Manner::Browser, 0..=2) => &[Q8_0, Q2K, Q6K],
        (Manner::Browser, 3..=32) => &[Q4_1, Q5K],
        (Manner::Browser, _) => &[F16],
    }
}

/// A tensor as a file has it: random values, or random blocks with scales of either sign.
struct Tensor {
    format: WeightFormat,
    rows: usize,
    cols: usize,
    bytes: Vec<u8>,
}

impl Tensor {
    fn random(random: &mut Random, format: WeightFormat, rows: usize, cols: usize) -> Tensor {
        let (elements, size) = format.block();
        let mut bytes = Vec::with_capacity(rows * cols / elements * size);
        for _ in 0..rows * cols / elements {
            let value = random.signed();
            let (before, halves) = match format {
                WeightFormat::F32 => {
                    bytes.extend(value.to_le_bytes());
                    continue;
                }
                WeightFormat::Bf16 => {
                    bytes.extend(bf16::from_f32(value).to_le_bytes());
                    continue;
                }
                // Bytes before the f16 fields, and these.
                WeightFormat::F16 => (0, vec![value]),
                WeightFormat::Q8_0 | WeightFormat::Iq4Nl => (0, vec![value / 100.0]),
                WeightFormat::Q4_0 => (0, vec![value / 8.0]),
                WeightFormat::Q4_1 => (0, vec![value / 8.0, random.signed()]),
                WeightFormat::Q5_0 => (0, vec![value / 16.0]),
                WeightFormat::Q5_1 => (0, vec![value / 16.0, random.signed()]),
                WeightFormat::Q2K => (80, vec![value / 30.0, random.signed() / 15.0]),
                WeightFormat::Q3K => (108, vec![value / 100.0]),
                WeightFormat::Q4K => (0, vec![value / 500.0, random.signed() / 60.0]),
                WeightFormat::Q5K => (0, vec![value / 1000.0, random.signed() / 60.0]),
                WeightFormat::Q6K => (208, vec![value / 2000.0]),
            };
            let start = bytes.len();
            bytes.extend((0..before).map(|_| random.below(256) as u8));
            bytes.extend(halves.into_iter().flat_map(|half| f16::from_f32(half).to_le_bytes()));
            while bytes.len() < start + size {
                bytes.push(random.below(256) as u8);
            }
        }
        Tensor { format, rows, cols, bytes }
    }

    /// The same with floats that 16 bits do not hold, for matrix units.
    fn any(device: &Device, random: &mut Random, format: WeightFormat, rows: usize, cols: usize) -> Tensor {
        let mut tensor = Tensor::random(random, format, rows, cols);
        if device.matrix && random.below(2) == 1 {
            match format {
                WeightFormat::F32 => scale(&mut tensor.bytes, 4, |bytes| {
                    (f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) * 1e6).to_le_bytes().to_vec()
                }),
                WeightFormat::Bf16 => scale(&mut tensor.bytes, 2, |bytes| {
                    bf16::from_f32(bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32() * 1e-9).to_le_bytes().to_vec()
                }),
                _ => {}
            }
        }
        tensor
    }

    fn values(&self) -> Vec<f32> {
        self.format.dequantise(&self.bytes)
    }

    fn upload(&self, device: &Device, layout: Layout, rows_per_shard: usize) -> Weight {
        let Tensor { format, rows, cols, ref bytes } = *self;
        let tensor = HostTensor { name: "test", format, rows, cols, bytes };
        let mut weight = Weight::upload(&device.gpu, tensor, layout, rows_per_shard).expect("an upload");
        if layout == Layout::Rows && rows % 2 == 1 {
            // In either order: a shard must not write what another would put right later.
            weight.shards.reverse();
        }
        weight
    }
}

fn scale(bytes: &mut [u8], size: usize, change: impl Fn(&[u8]) -> Vec<u8>) {
    bytes.chunks_exact_mut(size).for_each(|value| value.copy_from_slice(&change(value)));
}

/// Activations, on matrix units with rows of different sizes.
fn activations(
    device: &Device,
    random: &mut Random,
    rows: usize,
    cols: usize,
    magnitude: f32,
    sizes: [f32; 3],
) -> Vec<f32> {
    let mut x = random.values(rows * cols, magnitude);
    if device.matrix {
        let rows = x.chunks_exact_mut(cols).zip(sizes.into_iter().cycle());
        rows.for_each(|(row, size)| row.iter_mut().for_each(|value| *value *= size));
    }
    x
}

/// The product of activations and weights, as the twin has it.
type Twin<'a> = &'a dyn Fn(&[f32], &[f32]) -> Vec<f32>;

/// By how much every value of a product of `x` rows of `cols` and a weight may differ from the twin's. `product` is the twin with as many
/// values for every row of `x`.
fn product_off(device: &Device, (x, cols): (&[f32], usize), (w, bound): (&[f32], f32), product: Twin<'_>) -> Vec<f64> {
    let sizes = product(&magnitudes(x), &magnitudes(w));
    if !device.matrix {
        return sizes.iter().map(|&size| summing(cols) * f64::from(size)).collect();
    }
    // A cast to 16 bits goes to either neighbour: it errs by 2^-10 of the value at most, by 2^-28 of its row's (of its weight's) largest
    // below the normal numbers.
    const CAST: f64 = 1.0 / 1024.0;
    const SMALL: f64 = 1.0 / (1u32 << 28) as f64;
    let largest: Vec<f32> = x
        .chunks_exact(cols)
        .map(|row| row.iter().fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs())))
        .collect();
    let of_row = |f: &dyn Fn(f32, f32) -> f32| -> Vec<f32> {
        x.chunks_exact(cols)
            .zip(&largest)
            .flat_map(|(row, &most)| row.iter().map(move |&value| f(value, most)).collect::<Vec<f32>>())
            .collect()
    };
    let most_w = w.iter().fold(f32::MIN_POSITIVE, |most, value| most.max(value.abs()));
    let squares_w: Vec<f32> = w.iter().map(|value| (value / most_w).powi(2)).collect();
    let squares = product(&of_row(&|value, most| (value / most).powi(2)), &squares_w);
    let lost_x = product(&of_row(&|_, most| most), &magnitudes(w));
    let lost_w = product(&magnitudes(x), &vec![bound; w.len()]);
    let exact = product(x, w);
    let width = exact.len() / largest.len().max(1);
    let off = |i: usize| {
        let size = f64::from(sizes[i]);
        // Errors of independent products: an even part of the result (casts that cut off), and a random one that exceeds eight
        // times its root of squares once in 10^13 (Hoeffding).
        let root = f64::from(squares[i]).sqrt() * f64::from(largest[i / width]) * f64::from(most_w);
        let casts = (2.0 * CAST * f64::from(exact[i]).abs() + 8.0 * 2f64.sqrt() * CAST * root).min(2.0 * CAST * size);
        // Matrix units may cut off what is below a partial sum's last bit, at every addition.
        casts + SMALL * (f64::from(lost_x[i]) + f64::from(lost_w[i])) + (2 * cols) as f64 * EPS * size
    };
    (0..exact.len()).map(off).collect()
}

/// The kept units of a case: some of the weight's, then some that name nobody.
#[derive(Debug, Clone)]
struct Pick {
    unit: usize,
    units: Vec<u32>,
    nobody: usize,
}

impl Pick {
    fn count(&self) -> usize {
        self.units.len() + self.nobody
    }

    fn channels(&self) -> Vec<usize> {
        self.units.iter().flat_map(|&unit| (0..self.unit).map(move |i| unit as usize * self.unit + i)).collect()
    }

    /// Where every unit below `end` went, as top_k says it.
    fn places(&self, end: usize) -> Vec<u32> {
        let kept_before = |unit: u32| self.units.iter().filter(|&&kept| kept < unit).count() as u32;
        let dropped = |unit: u32| !self.units.contains(&unit);
        (0..end as u32)
            .map(|unit| if dropped(unit) { DROPPED + unit - kept_before(unit) } else { kept_before(unit) })
            .collect()
    }

    fn upload(&self, device: &Device) -> Buffer {
        device.input(&[&self.units[..], &vec![qkv_list::NOBODY; self.nobody]].concat(), 0)
    }
}

/// A product with a weight of either layout. `units` are its outputs or, in columns, its inputs.
#[derive(Debug, Clone)]
struct Case {
    formats: [WeightFormat; 2],
    tokens: usize,
    rows: usize,
    cols: usize,
    pick: Option<Pick>,
    rows_per_shard: usize,
    x_row: usize,
    y_row: usize,
    magnitude: f32,
    add: bool,
}

impl Case {
    /// The units that are computed, in order.
    fn channels(&self, all: usize) -> Vec<usize> {
        self.pick.as_ref().map_or((0..all).collect(), Pick::channels)
    }

    /// Values of an activation row that has one for every unit, those of nobody too.
    fn units(&self, all: usize) -> usize {
        self.pick.as_ref().map_or(all, |pick| pick.count() * pick.unit)
    }
}

/// A weight's units for a count of them: all, kept single ones, kept heads. The list, and how many units there are.
fn picks(random: &mut Random, count: usize, nobody: bool) -> [(Option<Pick>, usize); 3] {
    let single = random.some(count);
    let (unit, heads) = (random.pick(&[8, 64, 100]), 1 + random.below(9));
    let kept = random.some(heads);
    let nobody = if nobody { random.below(3) } else { 0 };
    [
        (None, count),
        (Some(Pick { unit: 1, units: single, nobody: 0 }), count),
        (Some(Pick { unit, units: kept, nobody }), heads * unit),
    ]
}

/// A number that takes every remainder with each of the three [`picks`] of successive cases.
fn rotation(case: usize) -> usize {
    case % 3 + case / 3
}

fn row_cases(device: &Device, seed: u64) -> Vec<Case> {
    let mut random = Random(seed);
    let mut cases = Vec::new();
    for (tokens, count) in TOKENS.iter().flat_map(|&tokens| COUNTS.map(|count| (tokens, count))) {
        for (pick, rows) in picks(&mut random, count, true) {
            let formats = formats(device, tokens);
            let format = formats[rotation(cases.len()) % formats.len()];
            cases.push(Case {
                formats: [format; 2],
                tokens,
                rows,
                cols: random.pick(&WIDTHS).next_multiple_of(format.block().0),
                pick,
                rows_per_shard: rows.div_ceil(1 + random.below(4)),
                x_row: random.below(3),
                y_row: random.below(3),
                magnitude: random.pick(&[1.0, 1.0, 1.0, 30.0, 0.0]),
                add: false,
            });
        }
    }
    device.thin(cases)
}

/// Uploads a case's kept list, and calls `then` with it.
fn with_kept<R>(device: &Device, pick: Option<&Pick>, then: impl FnOnce(Option<Kept<'_>>) -> R) -> R {
    let list = pick.map(|pick| pick.upload(device));
    let kept = pick.zip(list.as_ref()).map(|(pick, list)| Kept { list, count: pick.count(), unit: pick.unit });
    then(kept)
}

fn at(buffer: &Buffer, first: usize) -> Rows<'_> {
    Rows { buffer, first: first as u32 }
}

/// All cases with the shape that is taken unmeasured, those of one or two tokens with every other candidate.
fn with_each_shape(device: &Device, shaped: Shaped, cases: &[Case], mut check: impl FnMut(&Case)) {
    if device.matrix {
        kernels::matrix::choose(&device.gpu, shaped, &WeightFormat::ALL);
        return cases.iter().filter(|case| case.tokens > 8).for_each(check);
    }
    cases.iter().for_each(&mut check);
    for candidate in 1..shaped.candidates(device.gpu.tier()).len() {
        shaped.choose(&device.gpu, candidate);
        cases.iter().filter(|case| case.tokens <= 2).for_each(&mut check);
    }
    shaped.choose(&device.gpu, 0);
}

pub fn matmul_rows(device: &Device) {
    let mut random = Random(1);
    let mut cases = row_cases(device, 2);
    cases[0].magnitude = 1e18;
    with_each_shape(device, Shaped::Rows, &cases, |case| {
        let tensor = Tensor::any(device, &mut random, case.formats[0], case.rows, case.cols);
        let weight = tensor.upload(device, Layout::Rows, case.rows_per_shard);
        let x = activations(device, &mut random, case.tokens, case.cols, case.magnitude, [1.0, 1e12, 1e-12]);
        let (rows, outputs) = (case.channels(case.rows), case.units(case.rows));
        let input = device.input(&x, case.x_row * case.cols);
        let y = device.output::<f32>(case.tokens * outputs, case.y_row * outputs);
        with_kept(device, case.pick.as_ref(), |kept| {
            device.run(case, |recorder| {
                let (x, y) = (at(&input, case.x_row), at(&y, case.y_row));
                kernels::matmul_rows::record(recorder, x, &weight, kept, y, case.tokens)
            });
        });
        let twin = |x: &[f32], w: &[f32], fill: f32| {
            widen(&kernels::matmul_rows::twin(x, w, case.cols, &rows), rows.len(), outputs, fill)
        };
        let expected = twin(&x, &tensor.values(), f32::UNTOUCHED);
        let weights = (&tensor.values()[..], tensor.format.largest(&tensor.bytes));
        let off = product_off(device, (&x, case.cols), weights, &|x, w| twin(x, w, 0.0));
        device.compare(case, "y", (&y, case.y_row * outputs), &expected, |i| off[i]);
    });
}

/// Half as many cases as its shader's other half, [`matmul_rows`], has: what is new is what follows a sum.
pub fn fc1(device: &Device) {
    let mut random = Random(9);
    let cases: Vec<Case> = row_cases(device, 10).into_iter().step_by(2).collect();
    with_each_shape(device, Shaped::Rows, &cases, |case| {
        let tensor = Tensor::any(device, &mut random, case.formats[0], case.rows, case.cols);
        let weight = tensor.upload(device, Layout::Rows, case.rows_per_shard);
        let x = activations(device, &mut random, case.tokens, case.cols, case.magnitude, [1.0, 1e3, 1e-3]);
        let bias = random.values(case.rows, 8.0);
        let (rows, width) = (case.channels(case.rows), stride(case.units(case.rows)));
        let (input, biases) = (device.input(&x, case.x_row * case.cols), device.input(&bias, 0));
        let y = device.output::<f32>(case.tokens * width, case.y_row * width);
        with_kept(device, case.pick.as_ref(), |kept| {
            device.run(case, |recorder| {
                let (x, y) = (at(&input, case.x_row), at(&y, case.y_row));
                kernels::fc1::record(recorder, x, (&weight, &biases), kept, y, case.tokens)
            });
        });
        let (w, bound) = (tensor.values(), tensor.format.largest(&tensor.bytes));
        let expected = kernels::fc1::twin(&x, &w, &bias, case.cols, &rows);
        let expected = widen(&expected, rows.len(), width, f32::UNTOUCHED);
        let product =
            |x: &[f32], w: &[f32]| widen(&kernels::matmul_rows::twin(x, w, case.cols, &rows), rows.len(), width, 0.0);
        let off = product_off(device, (&x, case.cols), (&w, bound), &product);
        // The activation is nowhere steeper than 1; the bias rounds once.
        device.compare(case, "y", (&y, case.y_row * width), &expected, |i| off[i] + EPS * f64::from(expected[i]).abs());
    });
}

pub fn gate_up(device: &Device) {
    let mut random = Random(3);
    let mut cases = row_cases(device, 4);
    if device.manner == Manner::Trusted {
        // Files mix formats within a layer.
        let mixed = if device.matrix { 61 } else { 2 };
        cases.iter_mut().filter(|case| case.tokens == mixed).for_each(|case| case.formats[1] = WeightFormat::Q8_0);
    }
    with_each_shape(device, Shaped::GateUp, &cases, |case| {
        let [g, u] = case.formats.map(|format| Tensor::any(device, &mut random, format, case.rows, case.cols));
        let [gate, up] = [&g, &u].map(|tensor| tensor.upload(device, Layout::Rows, case.rows_per_shard));
        let x = activations(device, &mut random, case.tokens, case.cols, case.magnitude, [1.0, 1e3, 1e-3]);
        let (rows, width) = (case.channels(case.rows), stride(case.units(case.rows)));
        let input = device.input(&x, case.x_row * case.cols);
        let y = device.output::<f32>(case.tokens * width, case.y_row * width);
        with_kept(device, case.pick.as_ref(), |kept| {
            device.run(case, |recorder| {
                let (x, y) = (at(&input, case.x_row), at(&y, case.y_row));
                kernels::gate_up::record(recorder, x, (&gate, &up), kept, y, case.tokens)
            });
        });
        let bounds = [&g, &u].map(|tensor| tensor.format.largest(&tensor.bytes));
        let (g, u) = (g.values(), u.values());
        let spread = |values: Vec<f32>, fill: f32| widen(&values, rows.len(), width, fill);
        let product = |x: &[f32], w: &[f32]| spread(kernels::matmul_rows::twin(x, w, case.cols, &rows), 0.0);
        let expected = spread(kernels::gate_up::twin(&x, &g, &u, case.cols, &rows), f32::UNTOUCHED);
        let off = |w: &[f32], bound: f32| product_off(device, (&x, case.cols), (w, bound), &product);
        let (gates, gate_offs) = (product(&x, &g), off(&g, bounds[0]));
        let (ups, up_offs) = (product(&x, &u), off(&u, bounds[1]));
        // silu is nowhere steeper than 1.1; where its exp overflows on one side, it is below |gate| / f32::MAX.
        let tolerance = |i: usize| {
            let (gate, up) = (f64::from(gates[i]), f64::from(ups[i]));
            let (gate_off, up_off) = (gate_offs[i], up_offs[i]);
            let silu = (gate / (1.0 + (-gate).exp())).abs();
            1.1 * gate_off * (up.abs() + up_off)
                + silu * up_off
                + silu * up.abs() * (exp_error(gate) + QUOTIENT + 2.0 * EPS)
                + gate.abs() * up.abs() * TINY
        };
        device.compare(case, "y", (&y, case.y_row * width), &expected, tolerance);
    });
}

fn column_cases(device: &Device) -> Vec<Case> {
    let mut random = Random(5);
    let mut cases = Vec::new();
    for (tokens, count) in TOKENS.iter().flat_map(|&tokens| COUNTS.map(|count| (tokens, count))) {
        for (pick, channels) in picks(&mut random, count, false) {
            let formats = formats(device, tokens);
            let format = formats[rotation(cases.len()) % formats.len()];
            let (blocks, parts) = (random.pick(&[1, 3, 5, 18]), 1 + random.below(3));
            cases.push(Case {
                formats: [format; 2],
                tokens,
                rows: blocks * 32,
                // Blocks of a format lie along the inputs.
                cols: channels.next_multiple_of(format.block().0),
                pick,
                rows_per_shard: blocks.div_ceil(parts) * 32,
                x_row: random.below(3),
                y_row: random.below(3),
                magnitude: random.pick(&[1.0, 1.0, 1e18, 0.0]),
                add: random.below(2) == 1,
            });
        }
    }
    device.thin(cases)
}

pub fn matmul_columns(device: &Device) {
    let mut random = Random(6);
    with_each_shape(device, Shaped::Columns, &column_cases(device), |case| {
        let tensor = Tensor::any(device, &mut random, case.formats[0], case.rows, case.cols);
        let weight = tensor.upload(device, Layout::Columns, case.rows_per_shard);
        let channels = case.channels(case.cols);
        let (inputs, width) = (channels.len(), stride(channels.len()));
        let a = activations(device, &mut random, case.tokens, inputs, case.magnitude, [1.0, 1e12, 1e-12]);
        let before = random.values(case.tokens * case.rows, case.magnitude);
        let input = device.input(&widen(&a, inputs, width, f32::POISON), case.x_row * width);
        let y = device.in_out(&before, case.y_row * case.rows);
        let places = case.pick.as_ref().map(|pick| device.input(&pick.places(case.cols.div_ceil(pick.unit)), 0));
        let count = matmul_columns::parts(device.gpu.tier(), case.tokens);
        let parts = device.output::<f32>(count * case.tokens * case.rows, 0);
        with_kept(device, case.pick.as_ref(), |kept| {
            device.run(case, |recorder| {
                let (a, y, kept) = (at(&input, case.x_row), at(&y, case.y_row), kept.zip(places.as_ref()));
                let into = if case.add { matmul_columns::Product::Add(y) } else { matmul_columns::Product::Set(y) };
                matmul_columns::record(recorder, a, &weight, kept, into, case.tokens)?;
                matmul_columns::record(recorder, a, &weight, kept, matmul_columns::Product::Parts(&parts), case.tokens)
            });
        });
        let twin = |a: &[f32], w: &[f32], before: &[f32]| -> Vec<f32> {
            let product = kernels::matmul_columns::twin(a, w, case.cols, &channels);
            let base = before.iter().map(|&value| if case.add { value } else { 0.0 });
            base.zip(product).map(|(base, value)| base + value).collect()
        };
        let expected = twin(&a, &tensor.values(), &before);
        let sizes = twin(&magnitudes(&a), &magnitudes(&tensor.values()), &magnitudes(&before));
        let weights = (&tensor.values()[..], tensor.format.largest(&tensor.bytes));
        let product = |a: &[f32], w: &[f32]| kernels::matmul_columns::twin(a, w, case.cols, &channels);
        let off = product_off(device, (&a, inputs), weights, &product);
        let tolerance = |i: usize| off[i] + summing(1) * f64::from(sizes[i]);
        device.compare(case, "y", (&y, case.y_row * case.rows), &expected, tolerance);
        // Parts add up to the product.
        let parts: Vec<f32> = device.gpu.read(&parts, count * case.tokens * case.rows).expect("the parts");
        let sum = |i: usize| parts.iter().skip(i).step_by(case.tokens * case.rows).sum::<f32>();
        let sums: Vec<f32> = (0..case.tokens * case.rows).map(sum).collect();
        let zeros = vec![0.0; before.len()];
        let product = twin(&a, &tensor.values(), &zeros);
        device.compare(case, "sum of the parts", (&device.in_out(&sums, 0), 0), &product, |i| {
            off[i] + summing(count) * f64::from(sizes[i])
        });
    });
}

pub fn embed(device: &Device) {
    let mut random = Random(7);
    for format in WeightFormat::ALL {
        for (tokens, rows, cols) in
            device.thin(vec![(1, 1, 64), (2, 7, 192), (7, 33, 576), (65, 257, 192), (257, 96, 64)])
        {
            let cols = usize::next_multiple_of(cols, format.block().0);
            let case = (format, tokens, rows, cols);
            let table = Tensor::random(&mut random, format, rows, cols);
            let weight = table.upload(device, Layout::Rows, rows.div_ceil(1 + random.below(4)));
            let mut ids: Vec<u32> = (0..tokens).map(|_| random.below(rows) as u32).collect();
            (ids[0], ids[tokens - 1]) = (0, rows as u32 - 1);
            let x = device.output::<f32>(tokens * cols, 0);
            let list = device.input(&ids, 0);
            device.run(&case, |recorder| kernels::embed::record(recorder, &list, &weight, &x, tokens));
            // Exact for every format: a scale of 11 bits times an integer of 8, or a sub-scale of 7 and an integer of 5, fits in
            // 24, a minimum is added once.
            device.compare(&case, "x", (&x, 0), &kernels::embed::twin(&ids, &table.values(), cols), exact);
        }
    }
}

pub fn column_power(device: &Device) {
    let mut random = Random(8);
    for format in WeightFormat::ALL {
        for (rows, cols, rows_per_shard) in
            device.thin(vec![(32, 32, 32), (96, 96, 64), (192, 192, 64), (576, 64, 576), (1536, 320, 512)])
        {
            let cols = usize::next_multiple_of(cols, format.block().0);
            let tensor = Tensor::random(&mut random, format, rows, cols);
            let weight = tensor.upload(device, Layout::Columns, rows_per_shard);
            // Terms are positive, so relative errors carry over: of a power (its products), of the sum, and for every shard of
            // a sum, or of a root and a square.
            let shards = weight.shards.len() as f64;
            for (degree, relative) in [
                (Degree::One, summing(rows) + shards * EPS),
                (Degree::Two, EPS + summing(rows) + shards * EPS),
                (Degree::Four, 3.0 * EPS + summing(rows) + shards * (ROOT + EPS)),
            ] {
                let case = (degree, format, rows, cols, rows_per_shard);
                let power = device.output::<f32>(cols, 0);
                device.run(&case, |recorder| kernels::column_power::record(recorder, &weight, degree, &power));
                let expected = kernels::column_power::twin(&tensor.values(), cols, degree);
                device.compare(&case, "power", (&power, 0), &expected, |i| relative * f64::from(expected[i]) + TINY);
            }
        }
    }
}
