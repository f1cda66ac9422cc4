//! The order in which arms take turns.
//!
//! Invariant: the order follows from the counts and the seed alone, so that a log of results needs no order of its own.

use crate::random::SplitMix;

/// One batch, which all arms run before the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Index of the round: a pass over all data sets.
    pub round: usize,
    /// Index of the data set.
    pub data: usize,
    /// Index of the batch within it.
    pub batch: usize,
}

/// What is run, in which order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Arms; 0 is dense.
    pub arms: usize,
    /// Batches by data set.
    pub batches: Vec<usize>,
    /// Passes over all data sets.
    pub rounds: usize,
    /// Seed of the orders.
    pub seed: u64,
}

impl Schedule {
    /// All steps in order: rounds, data sets, batches.
    pub fn steps(&self) -> Vec<Step> {
        let of_data = |round, data: usize| (0..self.batches[data]).map(move |batch| Step { round, data, batch });
        let of_round = |round| (0..self.batches.len()).flat_map(move |data| of_data(round, data));
        (0..self.rounds).flat_map(of_round).collect()
    }

    /// The arms in the order in which they run a step. Over each `arms` consecutive batches of a data set every arm
    /// stands once at every place, so that a machine that warms up or slows down within a step favours none; the next
    /// so many batches are shuffled anew.
    pub fn order(&self, step: Step) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.arms).collect();
        let block = step.batch / self.arms.max(1);
        let parts = [step.round, step.data, block];
        let mut random = SplitMix(parts.iter().fold(self.seed, |seed, &part| SplitMix(seed ^ part as u64).next()));
        for last in (1..order.len()).rev() {
            order.swap(last, (random.next() % (last as u64 + 1)) as usize);
        }
        order.rotate_left(step.batch % self.arms.max(1));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(arms: usize, seed: u64) -> Schedule {
        Schedule { arms, batches: vec![10, 3], rounds: 2, seed }
    }

    #[test]
    fn rounds_hold_data_sets_and_these_batches() {
        let steps = schedule(2, 0).steps();
        let of = |at: usize| (steps[at].round, steps[at].data, steps[at].batch);
        assert_eq!(steps.len(), 26);
        assert_eq!([of(0), of(9), of(10), of(12), of(13)], [(0, 0, 0), (0, 0, 9), (0, 1, 0), (0, 1, 2), (1, 0, 0)]);
    }

    #[test]
    fn every_arm_stands_at_every_place_equally_often() {
        for arms in 1..8 {
            let schedule = schedule(arms, 7);
            let orders: Vec<_> =
                (0..arms).map(|batch| schedule.order(Step { round: 1, data: 0, batch: arms + batch })).collect();
            for place in 0..arms {
                let mut there: Vec<usize> = orders.iter().map(|order| order[place]).collect();
                there.sort_unstable();
                assert_eq!(there, (0..arms).collect::<Vec<_>>(), "{arms} arms, place {place}");
            }
        }
    }

    #[test]
    fn orders_follow_from_the_seed_and_differ() {
        let orders = |seed| schedule(5, seed).steps().into_iter().map(move |step| schedule(5, seed).order(step));
        let of = |seed| orders(seed).collect::<Vec<_>>();
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
        let step = |round, data, batch| schedule(5, 3).order(Step { round, data, batch });
        let firsts = [step(0, 0, 0), step(0, 0, 5), step(0, 1, 0), step(1, 0, 0)];
        assert!(firsts.windows(2).all(|pair| pair[0] != pair[1]), "{firsts:?}");
    }
}
