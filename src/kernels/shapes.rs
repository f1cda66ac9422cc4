//! Which shape a matmul of one token takes on a device: the first candidate of a tier, until [`measure`] found a faster one.
//!
//! On software adapters all candidates add in the same order, so that results do not depend on what was measured; on hardware they
//! differ in rounding.

use super::matmul_columns::Product;
use super::{Kept, gate_up, matmul_columns, matmul_rows};
use crate::error::Result;
use crate::format::{Layout, Weight, WeightFormat};
use crate::gpu::{Buffer, Gpu, Grid, Recorder, Substitution, Tier};
use std::time::Duration;
use web_time::Instant;

/// Matmuls that have several shapes for one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shaped {
    /// [`matmul_rows`].
    Rows,
    /// [`gate_up`].
    GateUp,
    /// [`matmul_columns`].
    Columns,
}

/// The shape of a matmul of one or two tokens: what one invocation computes, and how invocations form a workgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Outputs of an invocation, of each weight; by columns always one block of 32.
    pub tn: u32,
    /// Invocations along outputs.
    pub ln: u32,
    /// Invocations that share the inputs of the same outputs.
    pub lk: u32,
}

impl Shape {
    /// The variant of a matmul by rows.
    pub(super) fn of_rows(self, formats: &[WeightFormat]) -> Substitution {
        self.variant(Layout::Rows, formats, self.tn, &[("TN", self.tn)])
    }

    /// The variant of a matmul by columns, each invocation with `sums` of four outputs.
    pub(super) fn of_columns(self, format: WeightFormat, sums: u32, list: u32) -> Substitution {
        self.variant(Layout::Columns, &[format], sums, &[("LIST", list)])
    }

    fn variant(self, layout: Layout, formats: &[WeightFormat], sums: u32, own: &[(&'static str, u32)]) -> Substitution {
        let lanes = self.ln * self.lk;
        let partials = if self.lk > 1 { lanes * sums } else { 1 };
        Substitution {
            weights: formats.iter().map(|format| format.decoder(layout)).collect(),
            numbers: [own, &[("LN", self.ln), ("LK", self.lk), ("LANES", lanes), ("PARTIALS", partials)]].concat(),
        }
    }

    /// Workgroups for so many outputs (by columns: blocks of outputs in all parts) of `tokens`.
    pub(super) fn grid(self, outputs: usize, tokens: usize) -> Grid {
        [(outputs as u32).div_ceil(self.tn * self.ln), tokens as u32, 1]
    }
}

/// How much faster a shape must be to replace the first: less is noise.
const WORTH_IT: f64 = 0.97;

impl Shaped {
    /// All of them.
    pub const ALL: [Shaped; 3] = [Shaped::Rows, Shaped::GateUp, Shaped::Columns];

    fn slot(self) -> usize {
        self as usize
    }

    /// The shapes for one or two tokens, the one that is taken unmeasured first.
    pub fn candidates(self, tier: Tier) -> Vec<Shape> {
        let shape = |tn, ln, lk| Shape { tn, ln, lk };
        match (tier, self) {
            (Tier::Software, Shaped::Rows | Shaped::GateUp) => vec![shape(8, 8, 1), shape(4, 8, 1), shape(16, 8, 1)],
            (Tier::Software, Shaped::Columns) => vec![shape(1, 8, 1)],
            (Tier::Gpu, Shaped::Rows) => {
                vec![shape(4, 4, 16), shape(2, 4, 16), shape(4, 2, 32), shape(8, 4, 16), shape(2, 8, 8)]
            }
            (Tier::Gpu, Shaped::GateUp) => {
                vec![shape(2, 4, 16), shape(1, 4, 16), shape(2, 2, 32), shape(4, 4, 16), shape(1, 8, 8)]
            }
            (Tier::Gpu, Shaped::Columns) => {
                vec![shape(1, 8, 16), shape(1, 16, 8), shape(1, 32, 4), shape(1, 4, 32), shape(1, 16, 4)]
            }
        }
    }

    /// The shape in force on a device.
    pub(super) fn shape(self, gpu: &Gpu) -> Shape {
        let candidates = self.candidates(gpu.tier());
        candidates[gpu.choice(self.slot()).min(candidates.len() - 1)]
    }

    /// Puts a candidate into force.
    pub fn choose(self, gpu: &Gpu, candidate: usize) {
        gpu.choose(self.slot(), candidate);
    }
}

/// The weights of a layer, to measure with.
#[derive(Clone, Copy)]
pub struct Sample<'a> {
    /// By rows.
    pub qkv: &'a Weight,
    /// By rows, two of a shape, where the layer has such.
    pub gate_up: Option<(&'a Weight, &'a Weight)>,
    /// By columns.
    pub down: &'a Weight,
}

/// Measures the candidates on a model's own weights, takes the fastest, and returns them in [`Shaped::ALL`]'s order.
///
/// # Errors
/// Those of the kernels.
pub fn measure(gpu: &Gpu, layers: &[Sample<'_>]) -> Result<[usize; 3]> {
    let mut chosen = [0; 3];
    let Some(first) = layers.first() else { return Ok(chosen) };
    let widest = first.down.cols.max(first.down.rows).max(first.qkv.rows);
    let parts = matmul_columns::parts(gpu.tier(), 1);
    let bench = Bench { gpu, layers, x: gpu.zeros("shapes x", widest)?, y: gpu.zeros("shapes y", widest * parts)? };
    for shaped in Shaped::ALL {
        if shaped == Shaped::GateUp && first.gate_up.is_none() {
            continue;
        }
        let mut best = f64::INFINITY;
        for candidate in 0..shaped.candidates(gpu.tier()).len() {
            shaped.choose(gpu, candidate);
            let seconds = bench.seconds(shaped)?;
            if seconds < best * if candidate == 0 { 1.0 } else { WORTH_IT } {
                (best, chosen[shaped.slot()]) = (seconds, candidate);
            }
            tracing::debug!(?shaped, candidate, us = seconds * 1e6, "kernel shape");
        }
        shaped.choose(gpu, chosen[shaped.slot()]);
    }
    Ok(chosen)
}

struct Bench<'a> {
    gpu: &'a Gpu,
    layers: &'a [Sample<'a>],
    x: Buffer,
    y: Buffer,
}

impl Bench<'_> {
    /// Of one dispatch: the best of some rounds that walk over the layers, so that no cache holds the weights.
    fn seconds(&self, shaped: Shaped) -> Result<f64> {
        const ROUNDS: usize = 5;
        const ENOUGH: Duration = Duration::from_millis(150);
        let mut best = f64::INFINITY;
        let started = Instant::now();
        // The first round compiles.
        for round in 0..=ROUNDS {
            let mut rec = self.gpu.record();
            let layers = if round == 0 { &self.layers[..1] } else { self.layers };
            for layer in layers {
                self.dispatch(&mut rec, shaped, layer)?;
            }
            self.gpu.wait()?;
            let clock = Instant::now();
            rec.submit()?;
            self.gpu.wait()?;
            if round > 0 {
                best = best.min(clock.elapsed().as_secs_f64() / layers.len() as f64);
            }
            if round > 1 && started.elapsed() > ENOUGH {
                break;
            }
        }
        Ok(best)
    }

    fn dispatch(&self, rec: &mut Recorder<'_>, shaped: Shaped, layer: &Sample<'_>) -> Result<()> {
        let (x, y, all) = ((&self.x).into(), (&self.y).into(), None::<Kept<'_>>);
        match shaped {
            Shaped::Rows => matmul_rows::record(rec, x, layer.qkv, all, y, 1),
            Shaped::GateUp => match layer.gate_up {
                Some(both) => gate_up::record(rec, x, both, all, y, 1),
                None => Ok(()),
            },
            Shaped::Columns => matmul_columns::record(rec, x, layer.down, None, Product::Parts(&self.y), 1),
        }
    }
}
