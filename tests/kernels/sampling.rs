//! Sweep of the draw of tokens.

use super::harness::{Device, Manner, Random, exact, exp_error};
use secateur::kernels::sample::{self, Draw, Filters, NOT_A_NUMBER};

const KINDS: [&str; 9] =
    ["peaked", "flat", "wide", "equal", "few values", "zeros", "impossible", "infinite", "not numbers"];

fn logits(random: &mut Random, kind: &str, count: usize) -> Vec<f32> {
    let holes = [f32::NEG_INFINITY, f32::NEG_INFINITY, -1.0, 0.5];
    let mut values: Vec<f32> = match kind {
        "peaked" => (0..count).map(|_| 20.0 * random.signed().powi(5)).collect(),
        "flat" => random.values(count, 0.3),
        "wide" => random.values(count, 1e4),
        "equal" => vec![-3.0; count],
        "few values" => (0..count).map(|_| random.pick(&[1.0, 1.0, 0.25, -2.0])).collect(),
        "zeros" => (0..count).map(|_| random.pick(&[0.0, -0.0, -1.0])).collect(),
        "impossible" => (0..count).map(|_| random.pick(&holes)).collect(),
        "infinite" => (0..count).map(|_| random.pick(&[f32::MAX, f32::MIN, 1.0])).collect(),
        _ => random.values(count, 5.0),
    };
    let mut put = |value: f32| values[random.below(count)] = value;
    match kind {
        "peaked" => put(25.0),
        "infinite" => (put(f32::INFINITY), put(f32::INFINITY)).1,
        "not numbers" => (put(f32::NAN), put(-f32::NAN)).1,
        _ => {}
    }
    values
}

/// Ways to draw; where there are many tokens, every search of the shader is among them.
fn ways(random: &mut Random, vocab: usize) -> Vec<Filters> {
    let open = Filters { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, penalty: 1.0 };
    let some = 1 + random.below(vocab);
    vec![
        Filters { temperature: 0.0, ..open },
        Filters { temperature: 0.0, penalty: 2.0, ..open },
        open,
        Filters { temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.05, penalty: 2.0 },
        Filters { top_k: 1, ..open },
        Filters { top_k: some, penalty: 0.5, ..open },
        Filters { top_k: some, top_p: 0.7, ..open },
        Filters { top_p: 0.9, temperature: 1.5, ..open },
        Filters { top_p: 1e-6, ..open },
        Filters { min_p: 0.3, ..open },
        Filters { min_p: 0.02, top_p: 0.99, temperature: 0.05, ..open },
        Filters { top_k: vocab, top_p: 0.999, temperature: 30.0, penalty: 2.0, ..open },
    ]
}

/// The tokens that a draw may give when every weight is off by as much as the shader's exponential: that moves what a
/// filter keeps, and where the draw falls.
fn nearly(logits: &[f32], filters: Filters, draw: &Draw) -> Vec<u32> {
    // The least of the weights that are not 0.
    let off = exp_error(32.0);
    let signs = || [-1.0, 0.0, 1.0].into_iter();
    let all = signs().flat_map(|a| signs().flat_map(move |b| signs().map(move |c| [a, b, c])));
    let one = |[a, b, c]: [f64; 3]| {
        let filters = Filters {
            top_p: if filters.top_p < 1.0 { filters.top_p * (1.0 + off * a) as f32 } else { 1.0 },
            min_p: filters.min_p * (1.0 + off * b) as f32,
            ..filters
        };
        let uniform = (draw.uniform + off * c).clamp(0.0, 1.0 - f64::EPSILON);
        sample::twin(logits, filters, &Draw { uniform, ..draw.clone() })
    };
    all.map(one).collect()
}

pub fn sample(device: &Device) {
    let mut random = Random(70);
    let mut cases = Vec::new();
    let small = (1..=40).chain([288, 511, 513, 1000, 2051]);
    for vocab in small.chain([4099, 49152]) {
        for (way, filters) in ways(&mut random, vocab).into_iter().enumerate() {
            // The kinds take turns where that leaves every way with each of them.
            let kinds = if vocab > 500 && vocab < 5000 { KINDS.len() } else { 1 };
            cases.extend(
                (0..kinds).map(|kind| (KINDS[(vocab + way + kind) % KINDS.len()], vocab, 1 + way % 3, filters)),
            );
        }
    }
    // What every token takes part in, of many.
    let open = Filters { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, penalty: 1.0 };
    for kind in ["flat", "equal", "few values", "peaked"] {
        cases.push((kind, 32003, 1, Filters { top_k: 9999, top_p: 0.8, min_p: 0.001, ..open }));
        cases.push((kind, 128_256, 1, Filters { top_p: 0.8, ..open }));
    }
    if device.manner == Manner::Browser {
        cases.retain(|case| case.1 % 3 != 1 && case.1 < 5000);
    }
    for case in device.thin(cases) {
        let (kind, vocab, samples, filters) = case;
        let rows: Vec<Vec<f32>> = (0..samples).map(|_| logits(&mut random, kind, vocab)).collect();
        let mut draw = || {
            let anywhere = f64::from(random.signed().abs());
            let penalised = match filters.penalty {
                1.0 => Vec::new(),
                _ => random.some(vocab.min(90)).into_iter().rev().collect(),
            };
            Draw { uniform: random.pick(&[0.0, 0.5, 0.999_999, anywhere]), penalised }
        };
        let draws: Vec<Draw> = (0..samples).map(|_| draw()).collect();
        let buffer = device.in_out(&rows.concat(), 0);
        let (words, stride) = sample::words(&draws);
        let words = device.input(&words, 0);
        let ids = device.output::<u32>(samples, 0);
        device.run(&case, |recorder| {
            sample::record(recorder, &buffer, (&words, stride), &ids, (samples, vocab), filters)
        });
        let found: Vec<u32> = device.gpu.read(&ids, samples).expect("the ids");
        let expected: Vec<u32> = (rows.iter().zip(&draws).zip(&found))
            .map(|((row, draw), found)| {
                let twin = sample::twin(row, filters, draw);
                let rounded = twin != *found && nearly(row, filters, draw).contains(found);
                if rounded { *found } else { twin }
            })
            .collect();
        if kind == "not numbers" {
            assert!(expected.iter().all(|id| id & NOT_A_NUMBER != 0));
        }
        device.compare(&case, "ids", (&ids, 0), &expected, exact);

        let mut penalised = rows;
        for (row, draw) in penalised.iter_mut().zip(&draws) {
            for &token in &draw.penalised {
                let logit = &mut row[token as usize];
                *logit = if *logit > 0.0 { *logit / filters.penalty } else { *logit * filters.penalty };
            }
        }
        device.compare(&case, "logits", (&buffer, 0), &penalised.concat(), exact);
    }
}
