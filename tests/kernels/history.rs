//! Sweeps of what is remembered of activations, and of its fusion with what a probe sees.

use super::harness::{Device, EPS, Element, QUOTIENT, Random, TINY, magnitudes, summing, widen};
use super::probe::MAGNITUDES;
use secateur::kernels::fusion::History;
use secateur::kernels::history_update::{Update, Value};
use secateur::kernels::{self, HistoryRows, Kept, Rows};

pub fn fusion(device: &Device) {
    use HistoryRows::{Buckets, Each, One};
    let mut random = Random(45);
    let mut cases = Vec::new();
    for tokens in [1, 3, 33, 65] {
        for width in [1, 31, 172, 576] {
            // Fewer ranges than 100 positions reach, as many, and more.
            for rows in [None, Some(One), Some(Each(100)), Some(Buckets(3)), Some(Buckets(8)), Some(Buckets(12))] {
                let scale = random.pick(&[1.0, 1.0, 0.25]);
                let size = random.pick(&[1.0, 1e-6, 1e30, 0.0]);
                let weight = random.pick(&[None, None, Some(0.0), Some(0.3), Some(1.0)]);
                cases.push((tokens, width, rows, weight, scale, size));
            }
        }
    }
    for case in device.thin(cases) {
        let (tokens, width, rows, weight, scale, size) = case;
        let held = random.positive(tokens * width, size);
        let positions = random.subset(100, tokens);
        let h = random.positive(rows.map_or(1, HistoryRows::total) * width, size);
        let [held_buffer, h_buffer] = [&held, &h].map(|values| device.input(values, 0));
        let (list, f) = (device.input(&positions, 0), device.output::<f32>(width, 0));
        device.run(&case, |recorder| {
            let history = rows.map(|rows| History { values: &h_buffer, rows, weight });
            kernels::fusion::record(recorder, (&held_buffer, scale), (&list, tokens), history, &f, width)
        });
        let a: Vec<f32> = held.iter().map(|value| value * scale).collect();
        let row = |&position: &u32| rows.map_or(0, |rows| rows.row(position as usize));
        let past: Vec<f32> = positions.iter().flat_map(|at| h[row(at) * width..][..width].to_vec()).collect();
        let expected = kernels::fusion::twin(&a, rows.map(|_| &past[..]), weight, width);
        // The weights of a mean err by a quotient of a sum of three, and by a difference; nothing is negative, so a
        // mean's error is at most that of both its terms.
        let mean = QUOTIENT + 5.0 * EPS;
        let size = |i: usize| -> f64 { (0..tokens).map(|j| f64::from(a[j * width + i] + past[j * width + i])).sum() };
        let tolerance = |i: usize| (mean + summing(tokens)) * size(i) + tokens as f64 * TINY;
        device.compare(&case, "f", (&f, 0), &expected, tolerance);
    }
}

pub fn history_share(device: &Device) {
    let mut random = Random(49);
    let mut cases = Vec::new();
    for tokens in [1, 7, 65] {
        for (units, unit) in [(1, 1), (31, 1), (172, 1), (9, 8), (3, 64)] {
            for rows in [HistoryRows::One, HistoryRows::Each(100), HistoryRows::Buckets(4)] {
                let size = random.pick(&[1.0, 1e-6, 1e30, 0.0]);
                cases.push((
                    tokens,
                    units,
                    unit,
                    rows,
                    random.pick(&[None, None, Some(0.0), Some(0.3), Some(1.0)]),
                    size,
                ));
            }
        }
    }
    for case in device.thin(cases) {
        let (tokens, units, unit, rows, weight, size) = case;
        let width = units * unit;
        let (a, positions) = (random.positive(tokens * width, size), random.subset(100, tokens));
        let h = random.positive(rows.total() * width, size);
        let [a_buffer, h_buffer] = [&a, &h].map(|values| device.input(values, 0));
        let (list, shares) = (device.input(&positions, 0), device.output::<f32>(units, 0));
        device.run(&case, |recorder| {
            let (history, shape) = (History { values: &h_buffer, rows, weight }, (units, unit));
            kernels::history_share::record(recorder, (&a_buffer, 0.5), (&list, tokens), history, &shares, shape)
        });
        let row = |&position: &u32| rows.row(position as usize);
        let past: Vec<f32> = positions.iter().flat_map(|at| h[row(at) * width..][..width].to_vec()).collect();
        let a: Vec<f32> = a.iter().map(|value| value * 0.5).collect();
        let expected = kernels::history_share::twin(&a, &past, weight, (units, unit));
        // Both sums err as a fusion does, by a share of a + h; what they add up to is at least 0.3 of that for these weights, or
        // all of it that counts.
        let off = 8.0 * (QUOTIENT + 5.0 * EPS + summing(tokens * unit));
        device.compare(&case, "shares", (&shares, 0), &expected, |_| off);
    }
}

/// What of an activation is summed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Energy,
    Fluctuation,
    Plain,
}

/// How a history is updated.
#[derive(Debug, Clone)]
struct UpdateCase {
    update: Update,
    kind: Kind,
    unit: usize,
    kept: Option<Vec<u32>>,
    lengths: Option<Vec<u32>>,
    x_row: usize,
    magnitude: f32,
}

fn update_cases(device: &Device) -> Vec<UpdateCase> {
    let mut random = Random(46);
    let mut cases = Vec::new();
    for (samples, length) in [(1, 1), (1, 33), (2, 7), (3, 65), (7, 31), (2, 64)] {
        for (unit, units) in [(1, 1), (1, 33), (1, 172), (8, 9), (64, 3)] {
            for index in 0..6 {
                let kept = (index % 2 == 1).then(|| random.some(units));
                let present = kept.as_ref().map_or(units, Vec::len) * unit;
                let padded = random.below(2) == 1;
                let (keep, gain) = random.pick(&[(0.99, 0.01), (1.0, 1.0), (0.0, 1.0)]);
                let rows = random.pick(&[
                    HistoryRows::One,
                    HistoryRows::Each(length),
                    HistoryRows::Each(length + 5),
                    HistoryRows::Buckets(1),
                    HistoryRows::Buckets(3),
                    HistoryRows::Buckets(32),
                ]);
                let update = Update {
                    samples,
                    length,
                    width: unit * units,
                    stride: kernels::matmul_columns::stride(present),
                    average: random.below(2) == 1,
                    rows,
                    keep,
                    gain,
                };
                let lengths = padded.then(|| (0..samples).map(|_| 1 + random.below(length) as u32).collect());
                let kind = [Kind::Energy, Kind::Fluctuation, Kind::Plain][index / 2];
                let magnitude = random.pick(&MAGNITUDES);
                cases.push(UpdateCase { update, kind, unit, kept, lengths, x_row: random.below(3), magnitude });
            }
        }
    }
    device.thin(cases)
}

pub fn history_update(device: &Device) {
    let mut random = Random(47);
    for case in &update_cases(device) {
        let Update { samples, length, width, stride, rows, .. } = case.update;
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
        let mean = random.values(width, case.magnitude);
        let before = match case.kind {
            Kind::Plain => random.values(rows.total() * width, case.magnitude),
            Kind::Energy | Kind::Fluctuation => random.positive(rows.total() * width, case.magnitude),
        };
        let x_buffer = device.input(&widen(&x, channels.len(), stride, f32::POISON), case.x_row * stride);
        let (h_buffer, mean_buffer) = (device.in_out(&before, 0), device.input(&mean, 0));
        let [list, lengths_buffer] = [units, &lengths].map(|values| device.input(values, 0));
        device.run(case, |recorder| {
            let value = match case.kind {
                Kind::Energy => Value::Energy,
                Kind::Fluctuation => Value::Fluctuation(&mean_buffer),
                Kind::Plain => Value::Plain,
            };
            let x = Rows { buffer: &x_buffer, first: case.x_row as u32 };
            let kept = case.kept.as_ref().map(|kept| Kept { list: &list, count: kept.len(), unit: case.unit });
            let lengths = case.lengths.as_ref().map(|_| &lengths_buffer);
            kernels::history_update::record(recorder, (x, value), kept, lengths, &h_buffer, case.update)
        });
        let value = |x: f32, c: usize| match case.kind {
            Kind::Energy => x * x,
            Kind::Fluctuation => (x - mean[c]).powi(2),
            Kind::Plain => x,
        };
        let (mut expected, mut sizes) = (before.clone(), magnitudes(&before));
        kernels::history_update::twin((&x, value), &channels, &lengths, &mut expected, case.update);
        // Plain values cancel: what the errors are relative to is the sum of magnitudes.
        let magnitude = |x: f32, c: usize| value(x, c).abs();
        kernels::history_update::twin((&x, magnitude), &channels, &lengths, &mut sizes, case.update);
        let tokens = |row: usize| -> usize {
            (0..length)
                .filter(|&t| rows.row(t) == row)
                .map(|t| lengths.iter().filter(|&&l| t < l as usize).count())
                .sum()
        };
        let counts: Vec<usize> = (0..rows.total()).map(tokens).collect();
        // A difference and its square, the sum, a quotient, and a product and a sum of what was there.
        let relative = EPS + summing(samples * length) + QUOTIENT + 3.0 * EPS;
        let tolerance = |i: usize| match counts[i / width] > 0 && channels.contains(&(i % width)) {
            true => relative * f64::from(sizes[i]) + counts[i / width] as f64 * TINY,
            false => 0.0,
        };
        device.compare(case, "h", (&h_buffer, 0), &expected, tolerance);
    }
}

pub fn fluctuation(device: &Device) {
    let mut random = Random(48);
    let mut cases = Vec::new();
    for (index, parts) in [&[1][..], &[2], &[1, 1], &[1, 4, 3], &[5, 3], &[8], &[1, 1, 1, 1]].into_iter().enumerate() {
        for (length, width) in [(1, 31), (7, 1), (33, 172), (64, 64)] {
            let offset = random.pick(&[0.0, 0.0, 3.0]);
            cases.push((parts, length, width, MAGNITUDES[(index + width) % 5], offset));
        }
    }
    for case in device.thin(cases) {
        let (parts, length, width, magnitude, offset): (&[usize], usize, usize, f32, f32) = case;
        let samples: usize = parts.iter().sum();
        // Some channels vary far from zero.
        let mut x = random.values(samples * length * width, magnitude);
        x.iter_mut().enumerate().filter(|(i, _)| i % width % 2 == 1).for_each(|(_, x)| *x += offset * magnitude);
        let stride = kernels::matmul_columns::stride(width);
        let [mean, fluctuation] = [0, 1].map(|_| device.in_out(&vec![0.0f32; width], 0));
        let mut before = 0;
        for &part in parts {
            let rows = &x[before * length * width..][..part * length * width];
            let buffer = device.input(&widen(rows, width, stride, f32::POISON), 0);
            device.run(&case, |recorder| {
                let (sums, shape) = ((&mean, &fluctuation), (part, length, before));
                kernels::fluctuation::record(recorder, &buffer, sums, shape, (width, stride))
            });
            before += part;
        }
        let (means, fluctuations) = kernels::fluctuation::twin(&x, length, width);
        let largest: Vec<f64> =
            (0..width).map(|c| x.iter().skip(c).step_by(width).fold(0.0, |m, &x| f64::from(x).abs().max(m))).collect();
        let (n, tokens) = (samples as f64, length as f64);
        // Of the largest value X: a step of the mean errs by its sample's sum and quotient, by a difference and a quotient of up
        // to 2 X, all divided by the step's number, and by the rounding of a sum; steps count with their number.
        let of_mean = summing(length) + QUOTIENT + 2.0 * (EPS + QUOTIENT) + EPS * (n + 1.0) / 2.0;
        let mean_error = |c: usize| of_mean * largest[c] + TINY;
        device.compare(&case, "mean", (&mean, 0), &means, mean_error);
        // A product of two differences of up to 2 X, each off by the mean's error and a rounding; their sum; and at each step two
        // quotients, a product and a sum of what is at most all of them.
        let of_products = 4.0 * (of_mean + EPS) + 4.0 * summing(length) + 4.0 * n * (2.0 * QUOTIENT + 2.0 * EPS);
        let tolerance = |c: usize| of_products * tokens * largest[c].powi(2) + n * tokens * TINY;
        device.compare(&case, "fluctuation", (&fluctuation, 0), &fluctuations, tolerance);
    }
}
