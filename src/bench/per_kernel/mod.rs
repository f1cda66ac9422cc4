//! Every kernel of a decoded token, of a prompt and of the choice of units, timed alone at a model's shapes.
//!
//! A kernel is dispatched many times in one submission, layer after layer, so that it finds its weights where a pass would
//! find them: in memory, not in a cache that the last dispatch filled. Small activations stay in caches, as they do in a pass.

mod bank;
mod choice;
mod pass;
mod renewal;

use super::ceilings::Ceilings;
use super::clock::Clock;
use super::statistics::Spread;
use crate::config::PruneConfig;
use crate::engine::Engine;
use crate::error::Result;
use crate::gpu::Recorder;
use bank::Bank;
use choice::Choosing;
use pass::Pass;
use serde::Serialize;

/// What a kernel is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// A token behind the prompt.
    Decode,
    /// The prompt.
    Prompt,
    /// The probe of a prompt, and the choice from it.
    Choice,
    /// A renewal of the masks while decoding.
    Renewal,
}

/// One kernel at one shape. Times are of one call, which is one dispatch where no weight is cut into shards.
#[derive(Debug, Clone, Serialize)]
pub struct KernelRow {
    /// What it is run for.
    pub stage: Stage,
    /// Its name.
    pub kernel: &'static str,
    /// Which of its uses, such as the weight; empty where there is one.
    pub role: &'static str,
    /// Whether it runs on matrix units.
    pub matrix_units: bool,
    /// Whether it runs kept units, or runs to choose them.
    pub pruned: bool,
    /// Rows, columns and so on, for people.
    pub shape: String,
    /// Calls in one pass (of the layers that are pruned, where `pruned`).
    pub calls: f64,
    /// Bytes that it must move.
    pub bytes: f64,
    /// FLOPs that it must compute.
    pub flops: f64,
    /// The least seconds that both can take on this device.
    pub floor_seconds: f64,
    /// The best of the rounds, seconds.
    pub best_seconds: f64,
    /// Their median, seconds.
    pub median_seconds: f64,
    /// The floor over the best: 1 is the device's limit.
    pub reached: f64,
}

/// Records one call of a kernel, with the weights of a layer.
type Record<'a> = Box<dyn Fn(&mut Recorder<'_>, usize) -> Result<()> + 'a>;

/// A kernel with all that it is run on.
struct Work<'a> {
    stage: Stage,
    kernel: &'static str,
    role: &'static str,
    pruned: bool,
    shape: String,
    calls: f64,
    bytes: f64,
    flops: f64,
    /// Layers whose weights it walks over.
    layers: Vec<usize>,
    record: Record<'a>,
}

/// Rounds over all kernels.
const ROUNDS: usize = 6;
/// Least seconds of a submission: far above what it costs itself.
const LEAST: f64 = 0.02;
/// Seconds up to which a submission walks over every layer; drivers end what runs for very long.
const MOST: f64 = 0.5;
/// Most calls of a submission.
const CALLS: usize = 2048;

/// Times every kernel for a prompt of so many tokens and a token behind it: dense, and with the kept units of `prune` where it
/// drops any. `progress` hears of every kernel in every round, and how many those are.
///
/// # Errors
/// Those of [`crate::gpu::Gpu::buffer`] and of the kernels.
pub fn measure(
    engine: &Engine,
    prune: Option<&PruneConfig>,
    prompt: usize,
    ceilings: &Ceilings,
    progress: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Vec<KernelRow>> {
    let (gpu, model) = (engine.gpu(), engine.weights());
    let tier = gpu.tier();
    let any = prune.cloned().unwrap_or_default();
    let bank = Bank::new(gpu, model, &any, prompt)?;
    let masks = match prune {
        Some(prune) => bank::masks(gpu, model, prune)?,
        None => Vec::new(),
    };
    let drops = masks.iter().any(|masks| masks.heads.is_some() || masks.channels.is_some());
    let mut works = Vec::new();
    for stage in [Stage::Decode, Stage::Prompt] {
        works.extend(Pass { model, bank: &bank, stage, tier, masks: None }.works());
        if drops {
            works.extend(Pass { model, bank: &bank, stage, tier, masks: Some(&masks) }.works());
        }
    }
    if drops {
        works.extend(Choosing { model, bank: &bank, masks: &masks }.works());
    }
    let clock = Clock::new(gpu)?;
    let total = works.len() * (ROUNDS + 1);
    let mut laps = Vec::new();
    for work in &works {
        laps.push(Laps::new(&clock, work)?);
        progress(total)?;
    }
    for _ in 0..ROUNDS {
        for (work, laps) in works.iter().zip(&mut laps) {
            laps.round(&clock, work)?;
            progress(total)?;
        }
    }
    let mut rows = Vec::new();
    for (work, laps) in works.into_iter().zip(laps) {
        let mut rec = gpu.record();
        (work.record)(&mut rec, work.layers[0])?;
        let matrix_units = rec.kernels().any(|name| name.ends_with("_matrix"));
        rows.extend(work.row(&laps, ceilings, matrix_units));
    }
    Ok(rows)
}

/// The times of one kernel.
struct Laps {
    /// Calls of a submission.
    calls: usize,
    /// The layer that the next one starts with.
    next: usize,
    /// Seconds of a call, by round.
    seconds: Vec<f64>,
}

impl Laps {
    /// Compiles, and finds out how many calls a submission takes.
    fn new(clock: &Clock<'_>, work: &Work<'_>) -> Result<Laps> {
        let mut laps = Laps { calls: 1, next: 0, seconds: Vec::new() };
        laps.round(clock, work)?;
        laps.round(clock, work)?;
        let once = laps.seconds.last().copied().unwrap_or(LEAST);
        laps.calls = calls(once, work.layers.len());
        laps.seconds.clear();
        Ok(laps)
    }

    fn round(&mut self, clock: &Clock<'_>, work: &Work<'_>) -> Result<()> {
        let (layers, from) = (&work.layers, self.next);
        let layer = |call: usize| layers[(from + call) % layers.len()];
        let seconds = clock.time(|rec| (0..self.calls).try_for_each(|call| (work.record)(rec, layer(call))))?;
        self.seconds.push(seconds / self.calls as f64);
        self.next = (from + self.calls) % layers.len();
        Ok(())
    }
}

/// Calls of one submission: long enough to be timed, whole walks over the layers as far as that takes no age.
fn calls(seconds: f64, layers: usize) -> usize {
    let enough = ((LEAST / seconds).ceil() as usize).clamp(1, CALLS);
    let walks = enough.next_multiple_of(layers.max(1));
    if walks as f64 * seconds <= MOST && walks <= CALLS { walks } else { enough }
}

impl Work<'_> {
    fn row(self, laps: &Laps, ceilings: &Ceilings, matrix_units: bool) -> Option<KernelRow> {
        let Work { stage, kernel, role, pruned, shape, calls, bytes, flops, .. } = self;
        let Spread { median, min, .. } = Spread::of(&laps.seconds)?;
        let floor_seconds = match matrix_units {
            true => ceilings.matrix_floor(bytes, flops),
            false => ceilings.floor(bytes, flops),
        };
        Some(KernelRow {
            stage,
            kernel,
            role,
            matrix_units,
            pruned,
            shape,
            calls,
            bytes,
            flops,
            floor_seconds,
            best_seconds: min,
            median_seconds: median,
            reached: floor_seconds / min,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_is_long_enough_and_walks_over_whole_layers() {
        assert_eq!(calls(1e-4, 30), 210);
        assert_eq!(calls(5e-3, 30), 30);
        assert_eq!(calls(1.0, 30), 1, "one call is long enough, and a walk would take an age");
        assert_eq!(calls(1e-9, 30), CALLS);
        assert_eq!(calls(1e-3, 1), 20);
    }
}
