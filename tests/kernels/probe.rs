//! Sweeps of the norm and of what probing makes of it.

use super::harness::{Device, EPS, Element, QUOTIENT, ROOT, Random, TINY, exact, summing, widen};
use secateur::kernels::fusion::History;
use secateur::kernels::history_update::Update;
use secateur::kernels::{self, Kept, Rows};

/// Magnitudes of values whose squares still fit, the small ones' barely.
const MAGNITUDES: [f32; 5] = [1.0, 1.0, 1e17, 1e-18, 0.0];

pub fn rms_norm(device: &Device) {
    let mut random = Random(40);
    let mut cases = Vec::new();
    for (index, tokens) in [1, 2, 3, 7, 31, 33, 65, 257].into_iter().enumerate() {
        for width in [4, 64, 172, 192, 576] {
            cases.push((tokens, width, index % 3, (index + 1) % 2, MAGNITUDES[(index + width) % 5]));
        }
    }
    for case in device.thin(cases) {
        let (tokens, width, x_row, y_row, magnitude) = case;
        let x = random.values(tokens * width, magnitude);
        let weight = random.values(width, 2.0);
        let [x_buffer, w_buffer] = [device.input(&x, x_row * width), device.input(&weight, 0)];
        let [y, norms] = [device.output::<f32>(x.len(), y_row * width), device.output::<f32>(tokens, 0)];
        device.run(&case, |recorder| {
            let (x, y) = (Rows { buffer: &x_buffer, first: x_row as u32 }, Rows { buffer: &y, first: y_row as u32 });
            kernels::rms_norm::record(recorder, x, &w_buffer, y, &norms, (tokens, width, 1e-5))
        });
        let (expected, lengths) = kernels::rms_norm::twin(&x, &weight, 1e-5);
        // A sum of squares has no cancellation: its relative error, halved by the root, is that of the norm.
        let norm = summing(width) / 2.0 + ROOT;
        let flushed = (width as f64 * TINY).sqrt();
        device.compare(&case, "norms", (&norms, 0), &lengths, |i| norm * f64::from(lengths[i]) + flushed);
        let scaled = norm + 2.0 * QUOTIENT + 3.0 * EPS;
        let tolerance = |i: usize| scaled * f64::from(expected[i]).abs() + TINY;
        device.compare(&case, "y", (&y, y_row * width), &expected, tolerance);
    }
}

/// Samples, tokens of the longest, and the tokens of each.
fn batches(random: &mut Random) -> Vec<(usize, usize, Vec<u32>)> {
    let mut batches = Vec::new();
    for (samples, length) in [(1, 1), (1, 33), (2, 7), (3, 65), (7, 31), (33, 257)] {
        let ragged = (0..samples).map(|_| 1 + random.below(length) as u32).collect();
        batches.push((samples, length, vec![length as u32; samples]));
        batches.push((samples, length, ragged));
    }
    batches
}

/// Norms of a batch, poison where a sample has ended.
fn padded_norms(random: &mut Random, lengths: &[u32], length: usize, magnitude: f32) -> Vec<f32> {
    let mut norms = random.positive(lengths.len() * length, magnitude);
    for (row, &len) in norms.chunks_exact_mut(length).zip(lengths) {
        row[len as usize..].fill(f32::POISON);
    }
    norms
}

/// Of the root of a sum of `n` squares.
fn root_of_squares(n: usize, value: f32) -> f64 {
    (summing(n) / 2.0 + ROOT) * f64::from(value) + (n as f64 * TINY).sqrt()
}

pub fn token_importance(device: &Device) {
    let mut random = Random(41);
    for (index, case) in device.thin(batches(&mut random)).iter().enumerate() {
        let (samples, length, lengths) = case;
        let norms = padded_norms(&mut random, lengths, *length, MAGNITUDES[index % 5]);
        let [norms_buffer, scores] = [device.input(&norms, 0), device.output::<f32>(*length, 0)];
        let lengths_buffer = device.input(lengths, 0);
        device.run(case, |recorder| {
            let batch = (&norms_buffer, &lengths_buffer);
            kernels::token_importance::record(recorder, batch, &scores, (*samples, *length))
        });
        let expected = kernels::token_importance::twin(&norms, lengths, *length);
        device.compare(case, "scores", (&scores, 0), &expected, |i| root_of_squares(*samples, expected[i]));
    }
}

pub fn sample_importance(device: &Device) {
    let mut random = Random(42);
    for (index, case) in device.thin(batches(&mut random)).iter().enumerate() {
        let (samples, length, lengths) = case;
        let norms = padded_norms(&mut random, lengths, *length, MAGNITUDES[index % 5]);
        let tokens = random.some(*length);
        let [norms_buffer, scores] = [device.input(&norms, 0), device.output::<f32>(*samples, 0)];
        let [lengths_buffer, list] = [device.input(lengths, 0), device.input(&tokens, 0)];
        device.run(case, |recorder| {
            let batch = (&norms_buffer, &lengths_buffer);
            kernels::sample_importance::record(recorder, batch, (&list, tokens.len()), &scores, (*samples, *length))
        });
        let expected = kernels::sample_importance::twin(&norms, lengths, &tokens, *length);
        device.compare(case, "scores", (&scores, 0), &expected, |i| root_of_squares(tokens.len(), expected[i]));
    }
}

pub fn gather_probe(device: &Device) {
    let mut random = Random(43);
    for case in device.thin(vec![(1, 1, 4), (1, 33, 64), (2, 7, 192), (3, 65, 576), (7, 31, 172)]) {
        let (samples, length, width) = case;
        let (samples_list, tokens) = (random.some(samples), random.some(length));
        let (probed, kept) = (samples_list.len(), tokens.len());
        let x = random.values(samples * length * width, 1.0);
        let places: Vec<[u32; 2]> = (0..samples * length).map(|_| [0; 2].map(|_| random.below(1000) as u32)).collect();
        let [x_buffer, y] = [device.input(&x, 0), device.output::<f32>(probed * kept * width, 0)];
        let [samples_buffer, tokens_buffer] = [&samples_list, &tokens].map(|list| device.input(list, 0));
        let (places_buffer, probe_places) = (device.pairs(&places), device.output::<u32>(probed * kept * 2, 0));
        device.run(&case, |recorder| {
            kernels::gather_probe::record(
                recorder,
                (&x_buffer, &places_buffer),
                (&samples_buffer, &tokens_buffer),
                (&y, &probe_places),
                (probed, kept),
                (length, width),
            )
        });
        let (rows, at) = kernels::gather_probe::twin((&x, &places), (&samples_list, &tokens), (length, width));
        device.compare(&case, "y", (&y, 0), &rows, exact);
        device.compare(&case, "places", (&probe_places, 0), at.as_flattened(), exact);
    }
}

pub fn probe_statistic(device: &Device) {
    let mut random = Random(44);
    let mut cases = Vec::new();
    for (samples, length, lengths) in batches(&mut random) {
        for width in [1, 31, 96, 257] {
            cases.push((samples.min(8), length, lengths[..samples.min(8)].to_vec(), width));
        }
    }
    for (index, case) in device.thin(cases).iter().enumerate() {
        let &(samples, length, ref lengths, width) = case;
        let (list, tokens) = (random.some(samples), random.some(length));
        let (probed, kept) = (list.len(), tokens.len());
        let mut probe = random.values(probed * kept * width, MAGNITUDES[index % 5]);
        for (row, values) in probe.chunks_exact_mut(width).enumerate() {
            if tokens[row % kept] >= lengths[list[row / kept] as usize] {
                values.fill(f32::POISON);
            }
        }
        let stride = kernels::matmul_columns::stride(width) + 4 * (index % 2);
        let probe_buffer = device.input(&widen(&probe, width, stride, f32::POISON), 0);
        let [list_buffer, tokens_buffer, lengths_buffer] = [&list, &tokens, lengths].map(|list| device.input(list, 0));
        let a = device.output::<f32>(kept * width, 0);
        device.run(case, |recorder| {
            let lists = (&list_buffer, &tokens_buffer, &lengths_buffer);
            let shape = (width, stride);
            kernels::probe_statistic::record(recorder, &probe_buffer, lists, &a, (probed, kept), shape)
        });
        let expected = kernels::probe_statistic::twin(&probe, &list, &tokens, lengths, width);
        let relative = summing(probed) + QUOTIENT;
        device.compare(case, "a", (&a, 0), &expected, |i| relative * f64::from(expected[i]) + TINY);
    }
}

pub fn fusion(device: &Device) {
    let mut random = Random(45);
    let mut cases = Vec::new();
    for tokens in [1, 3, 33, 65] {
        for width in [1, 31, 172, 576] {
            for history in ["none", "exact", "collapsed"] {
                let scale = random.pick(&[1.0, 1.0, 0.25]);
                let size = random.pick(&[1.0, 1e-6, 1e30, 0.0]);
                cases.push((tokens, width, history, scale, size));
            }
        }
    }
    for case in device.thin(cases) {
        let (tokens, width, history, scale, size): (usize, usize, &str, f32, f32) = case;
        let held = random.positive(tokens * width, size);
        let positions = random.subset(100, tokens);
        let h = random.positive(if history == "collapsed" { width } else { 100 * width }, size);
        let [held_buffer, h_buffer] = [&held, &h].map(|values| device.input(values, 0));
        let (list, f) = (device.input(&positions, 0), device.output::<f32>(width, 0));
        let kind = match history {
            "none" => History::None,
            "exact" => History::Exact(&h_buffer),
            _ => History::Collapsed(&h_buffer),
        };
        device.run(&case, |recorder| {
            kernels::fusion::record(recorder, (&held_buffer, scale), (&list, tokens), kind, &f, width)
        });
        let a: Vec<f32> = held.iter().map(|value| value * scale).collect();
        let row = |&position: &u32| if history == "collapsed" { 0 } else { position as usize };
        let past: Vec<f32> = positions.iter().flat_map(|at| h[row(at) * width..][..width].to_vec()).collect();
        let expected = kernels::fusion::twin(&a, (history != "none").then_some(&past), width);
        // The weights of a mean err by a quotient of a sum of three, and by a difference; nothing is negative, so a
        // mean's error is at most that of both its terms.
        let mean = QUOTIENT + 5.0 * EPS;
        let size = |i: usize| -> f64 { (0..tokens).map(|j| f64::from(a[j * width + i] + past[j * width + i])).sum() };
        let tolerance = |i: usize| (mean + summing(tokens)) * size(i) + tokens as f64 * TINY;
        device.compare(&case, "f", (&f, 0), &expected, tolerance);
    }
}

/// How a history is updated.
#[derive(Debug, Clone)]
struct UpdateCase {
    update: Update,
    unit: usize,
    kept: Option<Vec<u32>>,
    lengths: Option<Vec<u32>>,
    x_row: usize,
    magnitude: f32,
}

fn update_cases(device: &Device) -> Vec<UpdateCase> {
    let mut random = Random(46);
    let mut cases = Vec::new();
    for (samples, length) in [(1, 1), (1, 33), (2, 7), (3, 65), (7, 31)] {
        for (unit, units) in [(1, 1), (1, 33), (1, 172), (8, 9), (64, 3)] {
            for listed in [false, true] {
                let kept = listed.then(|| random.some(units));
                let present = kept.as_ref().map_or(units, Vec::len) * unit;
                let padded = random.below(2) == 1;
                let (keep, gain) = random.pick(&[(0.99, 0.01), (1.0, 1.0), (0.0, 1.0)]);
                let update = Update {
                    samples,
                    length,
                    width: unit * units,
                    stride: kernels::matmul_columns::stride(present),
                    mean: random.below(2) == 1,
                    collapsed: random.below(2) == 1,
                    keep,
                    gain,
                };
                let lengths = padded.then(|| (0..samples).map(|_| 1 + random.below(length) as u32).collect());
                let magnitude = random.pick(&MAGNITUDES);
                cases.push(UpdateCase { update, unit, kept, lengths, x_row: random.below(3), magnitude });
            }
        }
    }
    device.thin(cases)
}

pub fn history_update(device: &Device) {
    let mut random = Random(47);
    for case in &update_cases(device) {
        let Update { samples, length, width, stride, collapsed, .. } = case.update;
        let all: Vec<u32> = (0..(width / case.unit) as u32).collect();
        let units = case.kept.as_ref().unwrap_or(&all);
        let channels: Vec<usize> =
            units.iter().flat_map(|&unit| (0..case.unit).map(move |i| unit as usize * case.unit + i)).collect();
        let lengths = case.lengths.clone().unwrap_or(vec![length as u32; samples]);
        let mut x = random.values(samples * length * channels.len(), case.magnitude);
        for (row, values) in x.chunks_exact_mut(channels.len()).enumerate() {
            if row % length >= lengths[row / length] as usize {
                values.fill(f32::POISON);
            }
        }
        let mut h = random.positive(if collapsed { width } else { length * width }, case.magnitude);
        let before = h.clone();
        let x_buffer = device.input(&widen(&x, channels.len(), stride, f32::POISON), case.x_row * stride);
        let (h_buffer, list, lengths_buffer) =
            (device.in_out(&h, 0), device.input(units, 0), device.input(&lengths, 0));
        device.run(case, |recorder| {
            let x = Rows { buffer: &x_buffer, first: case.x_row as u32 };
            let kept = case.kept.as_ref().map(|kept| Kept { list: &list, count: kept.len(), unit: case.unit });
            let lengths = case.lengths.as_ref().map(|_| &lengths_buffer);
            kernels::history_update::record(recorder, x, kept, lengths, &h_buffer, case.update)
        });
        kernels::history_update::twin(&x, &channels, &lengths, &mut h, case.update);
        // Nothing is negative: relative errors of the sum, a quotient, and a product and a sum of what was there.
        let relative = summing(samples * length) + QUOTIENT + 3.0 * EPS;
        let tolerance = |i: usize| if h[i] == before[i] { 0.0 } else { relative * f64::from(h[i]) + TINY };
        device.compare(case, "h", (&h_buffer, 0), &h, tolerance);
    }
}
