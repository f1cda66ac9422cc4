//! Matmuls of prompts on matrix units: their variants, and where they are used: nowhere until [`measure`] found, on a model's own
//! weights, that they agree with the plain tiles and are faster.

use super::matmul_columns::{self, Product};
use super::shapes::{Sample, Shaped};
use super::{Kept, gate_up, matmul_rows};
use crate::error::Result;
use crate::format::{Layout, Weight, WeightFormat};
use crate::gpu::{Buffer, Gpu, MATRIX_SUBGROUPS, MatrixUnits, Recorder, Substitution, Tier};
use std::time::Instant;

/// The kinds of units that shaders are checked for: software and Apple's (8), NVIDIA's and AMD's (16).
pub const KINDS: [MatrixUnits; 4] = [
    MatrixUnits { side: 8, subgroup: 8 },
    MatrixUnits { side: 8, subgroup: 32 },
    MatrixUnits { side: 16, subgroup: 32 },
    MatrixUnits { side: 16, subgroup: 64 },
];

/// Tokens of the prompt that is measured.
const TOKENS: usize = 128;
/// Tokens with which a format is checked that no layer has.
const FEW_TOKENS: usize = 16;
/// How much faster than tiles matrix units must be: less is noise.
const WORTH_IT: f64 = 0.97;
/// How far, relative to its norm, an output over all tokens may lie from that of the tiles. Either factor of a product loses 2^-10 at
/// most where its cast goes to either neighbour, independently from product to product, so that about 2^-11 is to be expected;
/// a single wrong token of 128 is 2^-3.5.
const AGREES: f64 = 1.0 / 256.0;

/// The shader's variant for these units and formats.
pub(super) fn variant(units: MatrixUnits, layout: Layout, formats: &[WeightFormat]) -> Substitution {
    let sums = MATRIX_SUBGROUPS * units.side * units.side;
    Substitution {
        weights: formats.iter().map(|format| format.decoder(layout)).collect(),
        numbers: vec![
            ("SIDE", units.side),
            ("LANES", units.lanes()),
            // Matrices of a subgroup's 32 by 32 sums, along each side.
            ("SPAN", 32 / units.side),
            ("HALF", 16 / units.side),
            ("SUMS", sums),
            ("EACH", sums / units.lanes()),
        ],
    }
}

/// Every variant of a kernel that reads `weights` weights at once.
pub(super) fn variants(layout: Layout, weights: usize) -> Vec<Substitution> {
    let of = |units| WeightFormat::ALL.map(|format| variant(units, layout, &vec![format; weights]));
    KINDS.into_iter().flat_map(of).collect()
}

/// Where a choice of formats is kept: behind those of shapes.
fn slot(op: Shaped) -> usize {
    Shaped::ALL.len() + op as usize
}

fn bit(format: WeightFormat) -> usize {
    1 << format as usize
}

/// The units on which an op runs many tokens of weights in these formats, if it does.
pub(super) fn units(gpu: &Gpu, op: Shaped, formats: &[WeightFormat]) -> Option<MatrixUnits> {
    let chosen = gpu.choice(slot(op));
    gpu.matrix_units().filter(|_| formats.iter().all(|&format| chosen & bit(format) != 0))
}

/// Runs many tokens of an op on matrix units from now on, for weights in these formats; with none of them, on tiles. Without
/// matrix units it is tiles whatever is chosen.
pub fn choose(gpu: &Gpu, op: Shaped, formats: &[WeightFormat]) {
    gpu.choose(slot(op), formats.iter().fold(0, |bits, &format| bits | bit(format)));
}

/// For which formats an op runs many tokens on matrix units: names, by [`Shaped::ALL`]'s order.
pub type Choice = [Vec<String>; 3];

/// What is in force.
pub fn choice(gpu: &Gpu) -> Choice {
    Shaped::ALL.map(|op| {
        let formats = WeightFormat::ALL.into_iter().filter(|&format| units(gpu, op, &[format]).is_some());
        formats.map(|format| format.name().to_string()).collect()
    })
}

/// Puts a choice into force that was measured before; names of no format say nothing.
pub fn apply(gpu: &Gpu, choice: &Choice) {
    for (op, names) in Shaped::ALL.into_iter().zip(choice) {
        let formats: Vec<WeightFormat> = names.iter().filter_map(|name| WeightFormat::by_name(name)).collect();
        choose(gpu, op, &formats);
    }
}

/// Looks, for every op and every format of the model, whether matrix units agree with tiles, and whether they are faster; puts into
/// force what is true of both. `head` is a weight by rows that may have a format of its own.
///
/// # Errors
/// Those of the kernels on tiles, and of the device. Where one on matrix units does not compile, it is not used.
pub fn measure(gpu: &Gpu, layers: &[Sample<'_>], head: &Weight) -> Result<()> {
    Shaped::ALL.iter().for_each(|&op| choose(gpu, op, &[]));
    let (Some(units), Some(first), Tier::Gpu) = (gpu.matrix_units(), layers.first(), gpu.tier()) else {
        return Ok(());
    };
    let widest = [first.qkv.cols, first.down.cols].into_iter().max().unwrap_or(0);
    let x: Vec<f32> = (0..(TOKENS * widest) as u32).map(spread).collect();
    let trial = Trial { gpu, x: gpu.upload("matrix x", &x)? };
    for op in Shaped::ALL {
        if op == Shaped::GateUp && first.gate_up.is_none() {
            continue;
        }
        let mut agreed = Vec::new();
        for format in WeightFormat::ALL {
            let layer = layers.iter().find(|layer| op_formats(op, layer).iter().all(|&found| found == format));
            let outcome = match (layer, op) {
                (Some(layer), _) => trial.run(op, layer, format, TOKENS),
                (None, Shaped::Rows) if head.shards.iter().all(|shard| shard.format == format) => {
                    // Speed is that of the layers: the head has no prompt of its own but where a text is scored.
                    trial.run(op, &Sample { qkv: head, ..*first }, format, FEW_TOKENS)
                }
                _ => continue,
            };
            match outcome? {
                Some((tiled, matrix)) => {
                    tracing::debug!(?op, ?format, tiled_us = tiled * 1e6, matrix_us = matrix * 1e6, "matrix units");
                    agreed.push((format, layer.is_none() || matrix < tiled * WORTH_IT));
                }
                None => tracing::warn!(
                    "the matrix units of {} ({units}) do not compute what they should ({op:?}, {}): they are not used for it",
                    gpu.info().name,
                    format.name()
                ),
            }
        }
        let faster = agreed.iter().any(|(_, faster)| *faster);
        let formats: Vec<WeightFormat> =
            agreed.iter().filter(|(_, ok)| *ok && faster).map(|(format, _)| *format).collect();
        choose(gpu, op, &formats);
    }
    Ok(())
}

/// Formats of the weights that an op reads in a layer.
fn op_formats(op: Shaped, layer: &Sample<'_>) -> Vec<WeightFormat> {
    let weights = match op {
        Shaped::Rows => vec![layer.qkv],
        Shaped::GateUp => layer.gate_up.map_or(Vec::new(), |(gate, up)| vec![gate, up]),
        Shaped::Columns => vec![layer.down],
    };
    weights.iter().flat_map(|weight| weight.shards.iter().map(|shard| shard.format)).collect()
}

/// Numbers between -1 and 1 that look random.
fn spread(i: u32) -> f32 {
    let mixed = (i ^ i >> 15).wrapping_mul(0x2c1b_3c6d);
    let mixed = (mixed ^ mixed >> 12).wrapping_mul(0x297a_2d39);
    ((mixed ^ mixed >> 15) >> 8) as f32 / (1 << 23) as f32 - 1.0
}

struct Trial<'a> {
    gpu: &'a Gpu,
    x: Buffer,
}

impl Trial<'_> {
    /// Seconds on tiles and on matrix units; `None` where the two disagree, or the latter do not compile.
    fn run(&self, op: Shaped, layer: &Sample<'_>, format: WeightFormat, tokens: usize) -> Result<Option<(f64, f64)>> {
        let (width, outputs) = match op {
            Shaped::Rows => (layer.qkv.rows, layer.qkv.rows),
            // As many channels as down takes.
            Shaped::GateUp => (matmul_columns::stride(layer.down.cols), layer.down.cols),
            Shaped::Columns => (layer.down.rows, layer.down.rows),
        };
        let [plain, fast] = [self.gpu.zeros("tiled y", tokens * width)?, self.gpu.zeros("matrix y", tokens * width)?];
        choose(self.gpu, op, &[]);
        let tiled = self.seconds(op, layer, &plain, tokens)?;
        choose(self.gpu, op, &[format]);
        let matrix = self.seconds(op, layer, &fast, tokens);
        choose(self.gpu, op, &[]);
        self.gpu.check()?;
        let Ok(matrix) = matrix.inspect_err(|error| tracing::warn!("{error}")) else { return Ok(None) };
        let plain: Vec<f32> = self.gpu.read(&plain, tokens * width)?;
        let fast: Vec<f32> = self.gpu.read(&fast, tokens * width)?;
        Ok(agree(&plain, &fast, width, outputs).then_some((tiled, matrix)))
    }

    /// The best of some calls, the first of which compiles.
    fn seconds(&self, op: Shaped, layer: &Sample<'_>, y: &Buffer, tokens: usize) -> Result<f64> {
        const ROUNDS: usize = 5;
        let mut best = f64::INFINITY;
        for round in 0..=ROUNDS {
            let mut rec = self.gpu.record();
            self.dispatch(&mut rec, op, layer, y, tokens)?;
            self.gpu.wait()?;
            let clock = Instant::now();
            rec.submit()?;
            self.gpu.wait()?;
            if round > 0 {
                best = best.min(clock.elapsed().as_secs_f64());
            }
        }
        Ok(best)
    }

    fn dispatch(
        &self,
        rec: &mut Recorder<'_>,
        op: Shaped,
        layer: &Sample<'_>,
        y: &Buffer,
        tokens: usize,
    ) -> Result<()> {
        let (x, all) = ((&self.x).into(), None::<Kept<'_>>);
        match op {
            Shaped::Rows => matmul_rows::record(rec, x, layer.qkv, all, y.into(), tokens),
            Shaped::GateUp => match layer.gate_up {
                Some(both) => gate_up::record(rec, x, both, all, y.into(), tokens),
                None => Ok(()),
            },
            Shaped::Columns => matmul_columns::record(rec, x, layer.down, None, Product::Set(y.into()), tokens),
        }
    }
}

/// Whether every output, over all tokens, is near enough.
fn agree(plain: &[f32], fast: &[f32], width: usize, outputs: usize) -> bool {
    (0..outputs).all(|output| {
        let (mut apart, mut size) = (0.0, 0.0);
        for (a, b) in plain.iter().zip(fast).skip(output).step_by(width) {
            apart += f64::from(a - b).powi(2);
            size += f64::from(*a).powi(2);
        }
        // Written so that what is no number disagrees.
        apart <= AGREES * AGREES * size
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_wrong_value_is_a_disagreement() {
        let plain: Vec<f32> = (0..128 * 8).map(spread).collect();
        let rounded: Vec<f32> = plain.iter().map(|value| half::f16::from_f32(*value).to_f32()).collect();
        assert!(agree(&plain, &rounded, 8, 8));
        for (at, wrong) in [(0, 2.0), (77, 0.0), (1023, f32::NAN), (500, f32::INFINITY)] {
            let mut spoilt = rounded.clone();
            spoilt[at] += if wrong == 0.0 { 0.5 } else { wrong };
            assert!(!agree(&plain, &spoilt, 8, 8), "{at}");
        }
        assert!(agree(&[1.0, 5.0, 1.0, 6.0], &[1.0, 7.0, 1.0, 8.0], 2, 1), "a row's rest does not count");
        assert!(agree(&[0.0; 4], &[0.0; 4], 2, 2));
    }
}
