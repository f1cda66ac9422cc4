//! The loop: every batch by all arms in turn, each result logged at once.
//!
//! Invariant: an arm enters a data set with no memory of earlier ones, and meets its batches in order. Where it follows
//! them (the history of Probe Pruning) and the run was interrupted between, the batches before are run again and not
//! counted: they bring the arm to the same state, and show that the device still gives the same numbers. The
//! alternative, to save the state, would write `T x (A*d + C)` floats a layer after every batch: 65 MB for a model of 135
//! million parameters, gigabytes for one of 7 billion. To run again costs at most what the interrupted data set took.

use super::log::{BatchLine, BatchResult, Log};
use super::schedule::{Schedule, Step};
use crate::error::{Error, Result};
use std::collections::HashSet;

/// Runs batches.
pub trait Work {
    /// Whether what an arm computes depends on its batches before.
    fn follows(&self, arm: usize) -> bool;

    /// Makes an arm ready for the first batch of a data set, with no memory of any other.
    ///
    /// # Errors
    /// Its own; they end the run.
    fn start(&mut self, arm: usize, data: usize) -> Result<()>;

    /// Runs a batch with the arm that was started on this data set, and measures it.
    ///
    /// # Errors
    /// Its own; they end the run.
    fn run(&mut self, arm: usize, data: usize, batch: usize) -> Result<BatchResult>;
}

/// What an arm is running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Its first batch, which is not counted.
    WarmUp,
    /// A batch that is known already, to follow it.
    Again,
    /// A batch that counts.
    Batch,
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Batches of arms that are known.
    pub done: usize,
    /// Batches of arms in all.
    pub total: usize,
    /// The arm that runs next.
    pub arm: usize,
    /// The step it is for.
    pub step: Step,
    /// What it does.
    pub activity: Activity,
}

/// Listens to a run.
pub trait Watch {
    /// Something is about to run.
    fn progress(&mut self, at: Progress);

    /// Whether to stop before the next batch.
    fn asked_to_stop(&self) -> bool;
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every batch is known.
    Whole,
    /// Stopped when asked to, with so many of all steps known.
    Stopped {
        /// Steps known to the log.
        steps: usize,
        /// Steps in all.
        of: usize,
    },
}

/// Runs every step that `log` does not know yet.
///
/// # Errors
/// Those of the work and of the log; [`Error::Device`] where a batch that is run again gives other numbers.
pub fn run(schedule: &Schedule, log: &mut Log, work: &mut dyn Work, watch: &mut dyn Watch) -> Result<Ended> {
    let steps = schedule.steps();
    let known = log.lines().len() / schedule.arms;
    let mut run = Run { schedule, log, work, watch, total: steps.len() * schedule.arms, warm: HashSet::new() };
    for (index, &step) in steps.iter().enumerate().skip(known) {
        let stopped = (step.batch == 0 || index == known) && !run.enter(step)?;
        if stopped || !run.step(step)? {
            return Ok(Ended::Stopped { steps: index, of: steps.len() });
        }
    }
    Ok(Ended::Whole)
}

struct Run<'a> {
    schedule: &'a Schedule,
    log: &'a mut Log,
    work: &'a mut dyn Work,
    watch: &'a mut dyn Watch,
    total: usize,
    /// Data sets whose first batches have run in this process.
    warm: HashSet<usize>,
}

impl Run<'_> {
    /// Whether to go on; says what comes.
    fn goes_on(&mut self, arm: usize, step: Step, activity: Activity) -> bool {
        if self.watch.asked_to_stop() {
            return false;
        }
        let done = self.log.lines().len();
        self.watch.progress(Progress { done, total: self.total, arm, step, activity });
        true
    }

    /// Brings every arm to the state in which `step` begins; `false` where it was asked to stop.
    fn enter(&mut self, step: Step) -> Result<bool> {
        let Step { data, batch, .. } = step;
        let cold = self.warm.insert(data);
        for arm in 0..self.schedule.arms {
            if cold {
                if !self.goes_on(arm, step, Activity::WarmUp) {
                    return Ok(false);
                }
                self.work.start(arm, data)?;
                self.work.run(arm, data, batch)?;
            }
            self.work.start(arm, data)?;
            let again = if self.work.follows(arm) { 0..batch } else { 0..0 };
            for batch in again {
                let earlier = Step { batch, ..step };
                if !self.goes_on(arm, earlier, Activity::Again) {
                    return Ok(false);
                }
                let now = self.work.run(arm, data, batch)?;
                self.check_same(arm, earlier, &now)?;
            }
        }
        Ok(true)
    }

    /// Refuses numbers that differ from those logged.
    fn check_same(&self, arm: usize, step: Step, now: &BatchResult) -> Result<()> {
        let known = self.log.lines().iter().find(|line| line.step() == step && line.arm == arm);
        let known = known.map(|line| &line.result.scores).filter(|&scores| *scores != now.scores);
        let Some(known) = known else { return Ok(()) };
        Err(Error::Device(format!(
            "batch {} of arm {arm} on data set {} scored {:?} before the interruption and {:?} when it was run again: \
             the table cannot go on, start a new one with another --out",
            step.batch, step.data, known, now.scores
        )))
    }

    /// Runs a step by all arms; `false` where it was asked to stop, which leaves it to be run anew as a whole.
    fn step(&mut self, step: Step) -> Result<bool> {
        for arm in self.schedule.order(step) {
            if !self.goes_on(arm, step, Activity::Batch) {
                return Ok(false);
            }
            let result = self.work.run(arm, step.data, step.batch)?;
            self.log.append(BatchLine { round: step.round, data: step.data, batch: step.batch, arm, result })?;
        }
        self.log.sync()?;
        Ok(true)
    }
}
