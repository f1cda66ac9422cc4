//! The probe's rows of the normed state, with their positions and their slots in the probe's own cache.

use super::lanes_variant;
use crate::error::Result;
use crate::gpu::{Buffer, Recorder};

super::kernel! {
    /// The op.
    gather_probe [Read, Read, Read, Read, Write, Write] { width: u32, length: u32, probe_tokens: u32 }
}

/// Records the gathering of `probe.0` samples by `probe.1` tokens out of samples of `length` rows of `width` columns.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    (x, places): (&Buffer, &Buffer),
    (samples, tokens): (&Buffer, &Buffer),
    (y, probe_places): (&Buffer, &Buffer),
    probe: (usize, usize),
    (length, width): (usize, usize),
) -> Result<()> {
    let params = Params { width: (width / 4) as u32, length: length as u32, probe_tokens: probe.1 as u32 };
    let variant = lanes_variant(rec.gpu().tier());
    let buffers = [x, samples, tokens, places, y, probe_places];
    rec.dispatch(&KERNEL, &variant, &params, &buffers, [(probe.0 * probe.1) as u32, 1, 1])
}

/// The naive CPU twin: `x [samples, length, width]`, `places` `[position, slot]` of each of its rows.
pub fn twin(
    (x, places): (&[f32], &[[u32; 2]]),
    (samples, tokens): (&[u32], &[u32]),
    (length, width): (usize, usize),
) -> (Vec<f32>, Vec<[u32; 2]>) {
    let mut y = Vec::new();
    let mut probe_places = Vec::new();
    for &sample in samples {
        for (slot, &token) in tokens.iter().enumerate() {
            let row = sample as usize * length + token as usize;
            y.extend_from_slice(&x[row * width..][..width]);
            probe_places.push([places[row][0], slot as u32]);
        }
    }
    (y, probe_places)
}
