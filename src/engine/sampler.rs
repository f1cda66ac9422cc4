//! Drawing the next token from logits. Order: repetition penalty, temperature, top-k, top-p, min-p, draw.

use crate::config::SamplingConfig;
use crate::error::{Error, Result};
use std::collections::VecDeque;

/// Draws tokens by one set of settings; the same seed and logits give the same tokens.
pub struct Sampler {
    config: SamplingConfig,
    state: u64,
    recent: VecDeque<u32>,
}

impl Sampler {
    /// A sampler at the start of its seed's stream.
    ///
    /// # Errors
    /// [`Error::Setting`] for values outside their ranges.
    pub fn new(config: SamplingConfig) -> Result<Sampler> {
        config.validate()?;
        Ok(Sampler { state: config.seed, recent: VecDeque::new(), config })
    }

    /// Counts a token (of the prompt or the answer) among the recent ones that the penalty looks at.
    pub fn accept(&mut self, token: u32) {
        self.recent.push_back(token);
        while self.recent.len() > self.config.repetition_window {
            self.recent.pop_front();
        }
    }

    /// The next token for `logits [vocab]`.
    ///
    /// # Errors
    /// [`Error::Device`] when a logit is NaN: the model or the driver computed nonsense.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32> {
        if let Some(index) = logits.iter().position(|logit| logit.is_nan()) {
            return Err(Error::Device(format!("the logit of token {index} is not a number")));
        }
        let mut scores: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
        self.penalise(&mut scores);
        if self.config.temperature == 0.0 {
            return Ok(greedy(&scores));
        }
        // Likeliest first; equal logits by id, so that a seed means the same on every machine.
        let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        let keep = match self.config.top_k {
            0 => scores.len(),
            k => k.min(scores.len()),
        };
        if keep < scores.len() {
            scores.select_nth_unstable_by(keep - 1, order);
            scores.truncate(keep);
        }
        scores.sort_unstable_by(order);
        let top = scores.first().map_or(0.0, |best| best.1);
        let mut weights: Vec<f64> =
            scores.iter().map(|(_, logit)| f64::from((logit - top) / self.config.temperature).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut reached = 0.0;
        let mut count = 0;
        for weight in &weights {
            // The likeliest always stays; min_p compares with it (its weight is 1).
            let enough = reached >= f64::from(self.config.top_p) * total;
            if count > 0 && (enough || *weight < f64::from(self.config.min_p)) {
                break;
            }
            reached += weight;
            count += 1;
        }
        weights.truncate(count);
        let mut left = self.uniform() * reached;
        for (weight, (token, _)) in weights.iter().zip(&scores) {
            left -= weight;
            if left < 0.0 {
                return Ok(*token);
            }
        }
        Ok(scores.get(count.saturating_sub(1)).map_or(0, |last| last.0))
    }

    fn penalise(&self, scores: &mut [(u32, f32)]) {
        let penalty = self.config.repetition_penalty;
        if penalty == 1.0 {
            return;
        }
        let mut seen: Vec<u32> = self.recent.iter().copied().collect();
        seen.sort_unstable();
        seen.dedup();
        for token in seen {
            if let Some((_, logit)) = scores.get_mut(token as usize) {
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
        }
    }

    /// A number in [0, 1): SplitMix64, written out so that a seed outlives any library's version.
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The likeliest token; of equals the lowest id.
fn greedy(scores: &[(u32, f32)]) -> u32 {
    scores
        .iter()
        .fold((0, f32::NEG_INFINITY), |best, &(token, logit)| if logit > best.1 { (token, logit) } else { best })
        .0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(change: impl Fn(&mut SamplingConfig)) -> Sampler {
        let mut config = SamplingConfig { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..Default::default() };
        change(&mut config);
        Sampler::new(config).expect("valid settings")
    }

    fn drawn(mut sampler: Sampler, logits: &[f32]) -> Vec<u32> {
        let mut seen: Vec<u32> = (0..400).map(|_| sampler.sample(logits).expect("finite")).collect();
        seen.sort_unstable();
        seen.dedup();
        seen
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        assert_eq!(sampler(|c| c.temperature = 0.0).sample(&[1.0, 3.0, 3.0, 2.0]).expect("finite"), 1);
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let mut sampler = sampler(|c| c.seed = 7);
        let logits = [0.0f32, 2.0f32.ln(), 5.0f32.ln()];
        let mut counts = [0usize; 3];
        for _ in 0..80_000 {
            counts[sampler.sample(&logits).expect("finite") as usize] += 1;
        }
        for (count, share) in counts.into_iter().zip([1.0 / 8.0, 2.0 / 8.0, 5.0 / 8.0]) {
            // Five standard deviations of a binomial of 80,000.
            let deviation = (80_000.0f64 * share * (1.0 - share)).sqrt();
            assert!((count as f64 - 80_000.0 * share).abs() < 5.0 * deviation, "{counts:?}");
        }
    }

    #[test]
    fn filters_leave_what_they_say() {
        let logits = [4.0f32.ln(), 3.0f32.ln(), 2.0f32.ln(), 1.0f32.ln()]; // 0.4 0.3 0.2 0.1
        assert_eq!(drawn(sampler(|c| c.top_k = 2), &logits), [0, 1]);
        assert_eq!(drawn(sampler(|c| c.top_p = 0.65), &logits), [0, 1]);
        assert_eq!(drawn(sampler(|c| c.min_p = 0.4), &logits), [0, 1, 2]);
        assert_eq!(drawn(sampler(|c| c.top_p = 1e-6), &logits), [0]);
        assert_eq!(drawn(sampler(|_| ()), &logits), [0, 1, 2, 3]);
    }

    #[test]
    fn a_seed_repeats_and_another_differs() {
        let run = |seed| {
            let mut sampler = sampler(|c| c.seed = seed);
            (0..50).map(|_| sampler.sample(&[0.0; 100]).expect("finite")).collect::<Vec<u32>>()
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }

    #[test]
    fn the_penalty_moves_the_best_away() {
        let mut sampler = sampler(|c| (c.temperature, c.repetition_penalty, c.repetition_window) = (0.0, 2.0, 1));
        sampler.accept(1);
        assert_eq!(sampler.sample(&[1.5, 2.0, 0.0]).expect("finite"), 0);
        sampler.accept(2); // pushes 1 out of the window
        assert_eq!(sampler.sample(&[1.5, 2.0, 0.0]).expect("finite"), 1);
    }

    #[test]
    fn not_a_number_is_an_error() {
        assert!(sampler(|_| ()).sample(&[0.0, f32::NAN]).is_err());
    }
}
