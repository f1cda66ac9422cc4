//! Sweeps of the norm and of what probing makes of it.

use super::harness::{Device, EPS, Element, QUOTIENT, ROOT, Random, TINY, exact, summing, widen};
use secateur::kernels::{self, Rows};

/// Magnitudes of values whose squares still fit, the small ones' barely.
pub const MAGNITUDES: [f32; 5] = [1.0, 1.0, 1e17, 1e-18, 0.0];

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
        let mut x = random.values(tokens * width, magnitude);
        let parts = random.below(4);
        let added = random.values(parts * tokens * width, magnitude);
        let weight = random.values(width, 2.0);
        let (x_buffer, w_buffer) = (device.in_out(&x, x_row * width), device.input(&weight, 0));
        let added_buffer = device.input(if parts > 0 { &added } else { &weight }, 0);
        let [y, norms] = [device.output::<f32>(x.len(), y_row * width), device.output::<f32>(tokens, 0)];
        device.run(&case, |recorder| {
            let (x, y) = (Rows { buffer: &x_buffer, first: x_row as u32 }, Rows { buffer: &y, first: y_row as u32 });
            let added = (parts > 0).then_some((&added_buffer, parts));
            kernels::rms_norm::record(recorder, x, added, &w_buffer, y, &norms, (tokens, width, 1e-5))
        });
        for part in added.chunks_exact(tokens * width) {
            x.iter_mut().zip(part).for_each(|(x, part)| *x += part);
        }
        device.compare(&case, "x", (&x_buffer, x_row * width), &x, exact);
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

pub fn layer_norm(device: &Device) {
    use kernels::layer_norm::{Place, twin};
    let mut random = Random(44);
    let mut cases = Vec::new();
    for (index, tokens) in [1, 2, 3, 7, 31, 33, 65, 257].into_iter().enumerate() {
        for (place, width) in [4, 64, 172, 192, 576].into_iter().enumerate() {
            let place = [Place::Before, Place::Behind, Place::Nowhere][(index + place) % 3];
            cases.push((tokens, width, index % 3, (index + 1) % 2, MAGNITUDES[(index + width) % 5], place));
        }
    }
    for case in device.thin(cases) {
        let (tokens, width, x_row, y_row, magnitude, place) = case;
        let mut x = random.values(tokens * width, magnitude);
        // A row far from zero, whose variance drowns in its mean where both are summed at once.
        x[..width].iter_mut().for_each(|x| *x += 20.0 * magnitude);
        let (parts, biased) = (random.below(4), random.below(2) == 1);
        let added = random.values(parts * tokens * width, magnitude);
        let (bias, norm) = (random.values(width, magnitude), random.values(2 * width, 2.0));
        let (x_buffer, norm_buffer) = (device.in_out(&x, x_row * width), device.input(&norm, 0));
        let added_buffer = device.input(if parts > 0 { &added } else { &norm }, 0);
        let bias_buffer = device.input(&bias, 0);
        let [y, norms] = [device.output::<f32>(x.len(), y_row * width), device.output::<f32>(tokens, 0)];
        device.run(&case, |recorder| {
            let (x, y) = (Rows { buffer: &x_buffer, first: x_row as u32 }, Rows { buffer: &y, first: y_row as u32 });
            let added = ((parts > 0).then_some((&added_buffer, parts)), biased.then_some(&bias_buffer));
            let shape = (tokens, width, 1e-5);
            kernels::layer_norm::record(recorder, x, added, (&norm_buffer, place), y, &norms, shape)
        });
        for part in added.chunks_exact(tokens * width) {
            x.iter_mut().zip(part).for_each(|(x, part)| *x += part);
        }
        if biased {
            x.iter_mut().enumerate().for_each(|(i, x)| *x += bias[i % width]);
        }
        let (expected, lengths) = twin(&x, &norm, place, 1e-5);
        let off: Vec<f64> =
            x.chunks_exact(width).zip(expected.chunks_exact(width)).flat_map(|(x, y)| off(x, y, &norm)).collect();
        let tolerance = |i: usize| if place == Place::Nowhere { 0.0 } else { off[i] };
        device.compare(&case, "y", (&y, y_row * width), &expected, tolerance);
        match place {
            Place::Behind => device.compare(&case, "x", (&x_buffer, x_row * width), &expected, tolerance),
            _ => device.compare(&case, "x", (&x_buffer, x_row * width), &x, exact),
        }
        // A length errs as its sum of squares does, and by no more than the length of what its elements err.
        let flushed = (width as f64 * TINY).sqrt();
        device.compare(&case, "norms", (&norms, 0), &lengths, |row| {
            let inherited = (0..width).map(|i| tolerance(row * width + i).powi(2)).sum::<f64>().sqrt();
            let inherited = if place == Place::Behind { inherited } else { 0.0 };
            (summing(width) / 2.0 + ROOT) * f64::from(lengths[row]) + inherited + flushed
        });
    }
}

/// By how much each element of a layer norm of a row may differ from the twin's.
fn off(x: &[f32], y: &[f32], norm: &[f32]) -> Vec<f64> {
    let width = x.len() as f64;
    let wide = |v: &f32| f64::from(*v);
    let mean = x.iter().map(wide).sum::<f64>() / width;
    let deviation = (x.iter().map(|v| (wide(v) - mean).powi(2)).sum::<f64>() / width + 1e-5).sqrt();
    // The mean errs by this, a difference to it by a rounding more, and so does the root of their mean square, relative to it.
    let of_mean = summing(x.len()) * x.iter().map(|v| wide(v).abs()).sum::<f64>() / width + 2.0 * EPS * mean.abs();
    let relative = summing(x.len()) / 2.0 + ROOT + 2.0 * QUOTIENT + 3.0 * EPS + 2.0 * of_mean / deviation;
    let of = |(i, v): (usize, &f32)| {
        let (scale, shift, from_mean) = (wide(&norm[i]).abs(), wide(&norm[x.len() + i]).abs(), (wide(v) - mean).abs());
        let normed = scale * from_mean / deviation;
        scale * (of_mean + EPS * wide(v).abs()) / deviation
            + relative * normed
            + EPS * (shift + wide(&y[i]).abs())
            + TINY
    };
    x.iter().enumerate().map(of).collect()
}

pub fn add_positions(device: &Device) {
    let mut random = Random(45);
    let mut cases = Vec::new();
    for tokens in [1, 2, 3, 33, 257] {
        for width in [4, 36, 64, 172, 576] {
            cases.push((tokens, width, random.below(3)));
        }
    }
    for case in device.thin(cases) {
        let (tokens, width, offset) = case;
        let mut x = random.values(tokens * width, 30.0);
        let table = random.values((offset + 40) * width, 3.0);
        let positions: Vec<u32> =
            (0..tokens).map(|token| if token == 0 { 39 } else { random.below(40) as u32 }).collect();
        let places: Vec<[u32; 2]> = positions.iter().map(|&position| [position, 7]).collect();
        let (x_buffer, table_buffer, places) = (device.in_out(&x, 0), device.input(&table, 0), device.pairs(&places));
        device.run(&case, |recorder| {
            kernels::add_positions::record(recorder, &x_buffer, &places, (&table_buffer, offset), (tokens, width))
        });
        kernels::add_positions::twin(&mut x, &positions, &table, offset);
        device.compare(&case, "x", (&x_buffer, 0), &x, exact);
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
            let centred = random.below(2) == 1;
            cases.push((samples.min(8), length, lengths[..samples.min(8)].to_vec(), width, centred));
        }
    }
    for (index, case) in device.thin(cases).iter().enumerate() {
        let &(samples, length, ref lengths, width, centred) = case;
        let (list, tokens) = (random.some(samples), random.some(length));
        let (probed, kept) = (list.len(), tokens.len());
        let mut probe = random.values(probed * kept * width, MAGNITUDES[index % 5]);
        let mean = if centred { random.values(width, MAGNITUDES[index % 5]) } else { vec![0.0; width] };
        for (row, values) in probe.chunks_exact_mut(width).enumerate() {
            if tokens[row % kept] >= lengths[list[row / kept] as usize] {
                values.fill(f32::POISON);
            }
        }
        let stride = kernels::matmul_columns::stride(width) + 4 * (index % 2);
        let probe_buffer = device.input(&widen(&probe, width, stride, f32::POISON), 0);
        let [list_buffer, tokens_buffer, lengths_buffer] = [&list, &tokens, lengths].map(|list| device.input(list, 0));
        let (mean_buffer, a) = (device.input(&mean, 0), device.output::<f32>(kept * width, 0));
        device.run(case, |recorder| {
            let lists = (&list_buffer, &tokens_buffer, &lengths_buffer);
            let (probe, shape) = ((&probe_buffer, centred.then_some(&mean_buffer)), (width, stride));
            kernels::probe_statistic::record(recorder, probe, lists, &a, (probed, kept), shape)
        });
        let expected = kernels::probe_statistic::twin((&probe, &mean), &list, &tokens, lengths, width);
        // A difference errs by half a unit, its square by twice that; squares add up without cancelling.
        let relative = EPS + summing(probed) + QUOTIENT;
        let tolerance = |i: usize| relative * f64::from(expected[i]) + probed as f64 * TINY;
        device.compare(case, "a", (&a, 0), &expected, tolerance);
    }
}
