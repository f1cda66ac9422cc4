//! Drawing the next token from logits: the settings, the seed's stream of numbers, the recent tokens. The draw itself is the
//! op [`crate::kernels::sample`], on the device ([`super::Sequences::draw`]) or its twin here.

use crate::config::SamplingConfig;
use crate::error::{Error, Result};
use crate::kernels::sample::{self, Draw, Filters, NOT_A_NUMBER};
use crate::random::SplitMix;
use std::collections::VecDeque;

/// Draws tokens by one set of settings; the same seed and logits give the same tokens.
pub struct Sampler {
    config: SamplingConfig,
    random: SplitMix,
    recent: VecDeque<u32>,
}

impl Sampler {
    /// A sampler at the start of its seed's stream.
    ///
    /// # Errors
    /// [`Error::Setting`] for values outside their ranges.
    pub fn new(config: SamplingConfig) -> Result<Sampler> {
        config.validate()?;
        Ok(Sampler { random: SplitMix(config.seed), recent: VecDeque::new(), config })
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
        let draw = self.draw(logits.len());
        token(sample::twin(logits, self.filters(), &draw))
    }

    /// The settings of every draw.
    pub(super) fn filters(&self) -> Filters {
        Filters {
            temperature: self.config.temperature,
            top_k: self.config.top_k,
            top_p: self.config.top_p,
            min_p: self.config.min_p,
            penalty: self.config.repetition_penalty,
        }
    }

    /// What the next draw from a vocabulary of so many tokens needs besides; uses up a number of the stream.
    pub(super) fn draw(&mut self, vocab: usize) -> Draw {
        let mut penalised: Vec<u32> = Vec::new();
        if self.config.repetition_penalty != 1.0 {
            penalised.extend(self.recent.iter().filter(|&&token| (token as usize) < vocab));
            penalised.sort_unstable();
            penalised.dedup();
        }
        let uniform = if self.config.temperature == 0.0 { 0.0 } else { self.random.unit() };
        Draw { uniform, penalised }
    }
}

/// The token of a draw.
///
/// # Errors
/// [`Error::Device`] where a logit was NaN.
pub(super) fn token(drawn: u32) -> Result<u32> {
    if drawn & NOT_A_NUMBER != 0 {
        let index = drawn & !NOT_A_NUMBER;
        return Err(Error::Device(format!("the logit of token {index} is not a number")));
    }
    Ok(drawn)
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
