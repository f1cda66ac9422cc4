//! Sweeps of the ops that choose units, and of the loss.

use super::harness::{Device, EPS, Manner, QUOTIENT, ROOT, Random, TINY, exact, exp_error, summing};
use secateur::kernels;
use secateur::kernels::score::{Reduce, Rule};
use secateur::kernels::top_k::{Choice, DROPPED};

/// Every way of scoring, of groups of at most so many units that divide all.
fn rules(units: usize) -> Vec<Rule> {
    let mut rules = Vec::new();
    for root in [false, true] {
        for reduce in [Reduce::Norm, Reduce::Sum, Reduce::Mean] {
            rules.extend((1..=4).filter(|&group| units.is_multiple_of(group)).map(|group| Rule {
                root,
                reduce,
                group,
            }));
        }
    }
    rules
}

pub fn score(device: &Device) {
    let mut random = Random(60);
    let mut cases = Vec::new();
    for (units, unit) in [(1, 1), (31, 1), (172, 1), (1536, 1), (1, 8), (8, 16), (9, 64), (33, 64), (32, 128)] {
        for rule in rules(units) {
            // The products fit, their squares do not; and the other way round.
            cases.extend([1.0, 1e17, 1e-15, 0.0].map(|magnitude| (units, unit, rule, magnitude)));
        }
    }
    for case in device.thin(cases) {
        let (units, unit, rule, magnitude) = case;
        let mut f = random.positive(units * unit, magnitude);
        let power = random.positive(units * unit, if magnitude == 1.0 { 0.1 } else { magnitude });
        let zeros = random.below(units);
        f[zeros * unit..][..unit].fill(0.0);
        let [f_buffer, power_buffer] = [&f, &power].map(|values| device.input(values, 0));
        let scores = device.output::<f32>(units, 0);
        device.run(&case, |recorder| {
            kernels::score::record(recorder, (&f_buffer, &power_buffer), &scores, (units, unit), rule)
        });
        let expected = kernels::score::twin(&f, &power, unit, rule);
        // A part is a product, perhaps with a root.
        let part = EPS + if rule.root { ROOT } else { 0.0 };
        let channels = unit * rule.group;
        let relative = part
            + match rule.reduce {
                // Parts of the largest: a quotient, a square; then a positive sum, its root and a product.
                Reduce::Norm => QUOTIENT + EPS + summing(channels) / 2.0 + ROOT + EPS,
                Reduce::Sum => summing(channels),
                Reduce::Mean => summing(channels) + QUOTIENT,
            };
        let tolerance = |i: usize| relative * f64::from(expected[i]) + channels as f64 * TINY;
        device.compare(&case, "scores", (&scores, 0), &expected, tolerance);
    }
}

/// Scores of every awkward kind.
const KINDS: [&str; 7] = ["random", "wide", "equal", "zero", "few values", "infinite", "not numbers"];

fn scores(random: &mut Random, kind: &str, count: usize) -> Vec<f32> {
    let mut one = || match kind {
        "random" => random.signed().abs(),
        "wide" => 10f32.powi(random.below(70) as i32 - 35),
        "equal" => 0.5,
        "zero" => 0.0,
        "few values" => random.pick(&[0.25, 0.5, 0.5, 0.5, f32::from_bits(0.5f32.to_bits() + 1)]),
        "infinite" => random.pick(&[f32::INFINITY, f32::MAX, f32::MIN_POSITIVE, 1.0]),
        _ => random.pick(&[f32::NAN, -f32::NAN, -0.0, 0.0, 1.0, 2.0]),
    };
    (0..count).map(|_| one()).collect()
}

pub fn top_k(device: &Device) {
    let mut random = Random(61);
    let mut cases = Vec::new();
    for count in 1..=300 {
        // Every size keeps one, all, and something between; the kinds take turns.
        for keep in [1, count, 1 + random.below(count)] {
            let kind = cases.len() % KINDS.len();
            cases.push((KINDS[kind], count, keep, random.below(2) == 1));
        }
    }
    for kind in KINDS {
        for (index, count) in [300, 1536, 11008, 28672].into_iter().enumerate() {
            let some = 1 + random.below(count);
            cases.extend([1, count / 2, some, count - 1, count].map(|keep| (kind, count, keep, index % 2 == 0)));
        }
    }
    if device.manner == Manner::Browser {
        cases.retain(|case| case.1 % 4 == 0);
    }
    for case in device.thin(cases) {
        let (kind, count, keep, first_stays) = case;
        let values = scores(&mut random, kind, count);
        let input = device.input(&values, 0);
        let [kept, dropped] = [keep, count - keep].map(|len| device.output::<u32>(len, 0));
        let place_of = device.output::<u32>(count, 0);
        device.run(&case, |recorder| {
            let choice = Choice { kept: &kept, dropped: &dropped, place_of: &place_of };
            kernels::top_k::record(recorder, &input, choice, (count, keep), first_stays)
        });
        let (stay, go) = kernels::top_k::twin(&values, keep, first_stays);
        let mut places = vec![0; count];
        for (list, mark) in [(&stay, 0), (&go, DROPPED)] {
            list.iter().zip(mark..).for_each(|(&index, place)| places[index as usize] = place);
        }
        device.compare(&case, "kept", (&kept, 0), &stay, exact);
        device.compare(&case, "dropped", (&dropped, 0), &go, exact);
        device.compare(&case, "place_of", (&place_of, 0), &places, exact);
    }
}

pub fn cross_entropy(device: &Device) {
    let mut random = Random(62);
    let mut cases = Vec::new();
    for (width, rows) in [(1, 1), (2, 3), (7, 33), (31, 2), (257, 65), (1000, 7), (32000, 3), (49152, 1)] {
        cases.extend([1.0, 30.0, 1e4, 0.0].map(|magnitude| (width, rows, random.below(3), magnitude)));
    }
    for case in device.thin(cases) {
        let (width, rows, first, magnitude) = case;
        let logits = random.values(rows * width, magnitude);
        let mut targets: Vec<u32> = (0..rows).map(|_| random.below(width) as u32).collect();
        (targets[0], targets[rows - 1]) = (0, width as u32 - 1);
        let (logits_buffer, targets_buffer) = (device.input(&logits, 0), device.input(&targets, first));
        let nll = device.output::<f32>(rows, first);
        device.run(&case, |recorder| {
            let lists = (&targets_buffer, &nll);
            kernels::cross_entropy::record(recorder, &logits_buffer, lists, (first, rows), width)
        });
        let expected = kernels::cross_entropy::twin(&logits, &targets, width);
        // The sum of exponentials has the errors of its terms (each scaled twice) and of a positive sum. Its logarithm
        // makes them absolute, and errs by 2^-21 near 1, three units elsewhere. Then come a sum and a difference.
        let tolerance = |row: usize| {
            let logits = &logits[row * width..][..width];
            let top = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
            let terms = || logits.iter().map(|&logit| f64::from(logit) - top);
            let total: f64 = terms().map(f64::exp).sum();
            let terms_off: f64 = terms().map(|term| term.exp() * 2.0 * exp_error(term)).sum();
            let log_off = terms_off / total + summing(width) + 4.0 * EPS + 3.0 * EPS * total.ln();
            log_off + EPS * (total.ln() + 2.0 * top.abs() + f64::from(expected[row]))
        };
        device.compare(&case, "nll", (&nll, first), &expected, tolerance);
    }
}
