//! Sweeps of what puts the means of dropped units back.

use super::harness::{Device, EPS, Random, exact};
use secateur::kernels;
use secateur::kernels::top_k::DROPPED;

pub fn dropped_mean(device: &Device) {
    let mut random = Random(80);
    let mut cases = Vec::new();
    for (units, unit) in [(1, 1), (31, 1), (172, 1), (1536, 1), (9, 64), (8, 16), (33, 8)] {
        // None, one, some and all are dropped.
        cases.extend([0, 1, random.below(units), units].map(|dropped| (units, unit, dropped)));
    }
    for case in device.thin(cases) {
        let (units, unit, dropped) = case;
        let mean = random.values(units * unit, 10.0);
        let gone = if dropped == 0 { Vec::new() } else { random.subset(units, dropped.min(units)) };
        let (mut place_of, mut next) = (Vec::new(), [0, DROPPED]);
        for index in 0..units as u32 {
            let next = &mut next[usize::from(gone.contains(&index))];
            place_of.push(*next);
            *next += 1;
        }
        let (mean_buffer, places) = (device.input(&mean, 0), device.input(&place_of, 0));
        let out = device.output::<f32>(units * unit, 0);
        device.run(&case, |recorder| {
            kernels::dropped_mean::record(recorder, &mean_buffer, (&places, unit), &out, units * unit)
        });
        let expected = kernels::dropped_mean::twin(&mean, &place_of, unit);
        assert_eq!(expected.iter().filter(|&&mean| mean != 0.0).count(), gone.len() * unit);
        device.compare(&case, "out", (&out, 0), &expected, exact);
    }
}

pub fn add_bias(device: &Device) {
    let mut random = Random(81);
    let mut cases = Vec::new();
    for tokens in [1, 2, 3, 33, 257] {
        for width in [4, 36, 64, 172, 576] {
            cases.push((tokens, width));
        }
    }
    for case in device.thin(cases) {
        let (tokens, width) = case;
        let (x, bias) = (random.values(tokens * width, 30.0), random.values(width, 3.0));
        let (x_buffer, bias_buffer) = (device.in_out(&x, 0), device.input(&bias, 0));
        device.run(&case, |recorder| kernels::add_bias::record(recorder, &x_buffer, &bias_buffer, case));
        let expected = kernels::add_bias::twin(&x, &bias);
        device.compare(&case, "x", (&x_buffer, 0), &expected, |i| EPS / 2.0 * f64::from(expected[i]).abs());
    }
}
