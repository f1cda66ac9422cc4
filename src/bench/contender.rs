//! One configuration at work: made-up prompts and answers, timed.

use super::Setup;
use crate::config::{Method, PruneConfig};
use crate::engine::{Engine, SequenceOptions, Sequences, Traffic};
use crate::error::Result;
use crate::prune::{Flops, Half, Knowledge, LayerUnits, Origin, UnitSets, Units};
use serde::Serialize;
use std::sync::Arc;
use std::time::Instant;

/// Which units a configuration runs, and who chose them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// All of them.
    All,
    /// Chosen on the way, by the method.
    Chosen,
    /// As many, given beforehand: the same pass without probe and choice.
    Given,
}

/// One phase of one round.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lap {
    pub seconds: f64,
    pub flops: Flops,
    pub traffic: Traffic,
    pub dispatches: u64,
    pub submissions: u64,
}

/// A configuration at work, and what its rounds gave.
pub(super) struct Contender {
    pub kept: Kept,
    /// Method and ratio that it stands for, and its other settings.
    pub prune: PruneConfig,
    /// By phase, prefill and decode, and round.
    pub laps: [Vec<Lap>; 2],
    engine: Arc<Engine>,
    sequences: Sequences,
    decode: usize,
}

impl Contender {
    /// Sequences of a setup; `units` runs those in place of choosing.
    pub fn new(
        engine: &Arc<Engine>,
        setup: Setup,
        decode: usize,
        prune: &PruneConfig,
        units: Option<UnitSets>,
    ) -> Result<Contender> {
        let kept = match (&units, prune.method) {
            (Some(_), _) => Kept::Given,
            (None, Method::Dense) => Kept::All,
            (None, _) => Kept::Chosen,
        };
        let method = if units.is_some() { Method::Masks } else { prune.method };
        let known = Knowledge { masks: units.map(Arc::new), ..Knowledge::default() };
        let options = SequenceOptions {
            samples: setup.batch,
            context: setup.prompt_tokens + decode,
            prune: PruneConfig { method, ..prune.clone() },
            known,
            live: false,
        };
        let sequences = Sequences::new(engine, options)?;
        let (engine, laps) = (engine.clone(), Default::default());
        Ok(Contender { kept, prune: prune.clone(), laps, engine, sequences, decode })
    }

    /// Prompts and answers once; what it took is kept.
    pub fn round(&mut self, ids: &[Vec<u32>]) -> Result<()> {
        let laps = [self.prefill(ids)?, self.answer(ids)?];
        for (kept, lap) in self.laps.iter_mut().zip(laps) {
            kept.push(lap);
        }
        Ok(())
    }

    /// Runs the prompts.
    pub fn prefill(&mut self, ids: &[Vec<u32>]) -> Result<Lap> {
        self.sequences.clear()?;
        // What clearing wrote is not of the prompt.
        self.engine.gpu().submit_empty()?;
        self.engine.gpu().wait()?;
        let prompts: Vec<Vec<u32>> = ids.iter().map(|ids| ids[..ids.len() - self.decode].to_vec()).collect();
        self.timed(|sequences| sequences.prefill(&prompts).map(drop))
    }

    /// Decodes the rest, one token of every sequence at a time.
    pub fn answer(&mut self, ids: &[Vec<u32>]) -> Result<Lap> {
        let prompt = ids[0].len() - self.decode;
        self.timed(|sequences| {
            for at in prompt..ids[0].len() {
                sequences.step(&ids.iter().map(|ids| ids[at]).collect::<Vec<u32>>())?;
            }
            Ok(())
        })
    }

    fn timed(&mut self, run: impl FnOnce(&mut Sequences) -> Result<()>) -> Result<Lap> {
        let (gpu, sequences) = (self.engine.gpu(), &mut self.sequences);
        let (flops, traffic) = (sequences.flops(), sequences.traffic());
        let (dispatches, submissions) = (gpu.dispatches(), gpu.submissions());
        let started = Instant::now();
        run(sequences)?;
        let seconds = started.elapsed().as_secs_f64();
        let now = sequences.traffic();
        Ok(Lap {
            seconds,
            flops: sequences.flops() - flops,
            traffic: Traffic { read: now.read - traffic.read, dense: now.dense - traffic.dense },
            dispatches: gpu.dispatches() - dispatches,
            submissions: gpu.submissions() - submissions,
        })
    }

    /// The units that the last choice kept; `None` where nothing is dropped. Waits for the device.
    pub fn units(&self) -> Result<Option<UnitSets>> {
        let gpu = self.engine.gpu();
        let mut layers = Vec::new();
        for masks in self.sequences.masks() {
            let of = |half: Half| -> Result<Option<Units>> {
                half.mask(masks).map(|mask| Ok(Units { kept: mask.read(gpu)?, bias: None })).transpose()
            };
            layers.push(LayerUnits::new(of(Half::Attention)?, of(Half::Mlp)?));
        }
        let drops = |layer: &LayerUnits| Half::BOTH.into_iter().any(|half| layer.half(half).is_some());
        // Never saved: they belong to this run alone.
        let origin = Origin::of_method("", &self.prune, None);
        Ok(layers.iter().any(drops).then_some(UnitSets { origin, layers }))
    }
}
