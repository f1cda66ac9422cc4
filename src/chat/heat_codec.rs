//! A [`Heat`] as bytes: what the store keeps of every probe.
//!
//! A probe of a model with 16 layers of 8192 channels is some 400 KB here. Little-endian; one block of units is its flags,
//! its kept units as a bit each, scores as f16 behind a shared power of two, shares of history as bytes, probed positions
//! as differences. Invariant: decoding takes any bytes without a panic, and allocates in proportion to their number.

use crate::config::Method;
use crate::error::{Error, Result};
use crate::protocol::{Cause, Heat, LayerHeat, UnitHeat};
use half::f16;

const VERSION: u8 = 1;
/// More than any model has: a damaged count is told from a real one before memory is taken for it.
const MOST_LAYERS: usize = 4096;

const PRUNED: u8 = 1;
const SCORES: u8 = 2;
const HISTORY: u8 = 4;

/// The bytes of `heat`. Scores lose precision (11 bits stay), shares of history too (1/255).
///
/// # Errors
/// [`Error::Internal`] where the heat contradicts itself: a unit that the layer does not have, a list of another length.
pub(super) fn encode(heat: &Heat) -> Result<Vec<u8>> {
    let mut bytes = vec![VERSION];
    bytes.extend(heat.id.to_le_bytes());
    for number in [heat.index, heat.at, heat.heads, heat.channels, heat.layers.len()] {
        bytes.extend(u32_of(number)?.to_le_bytes());
    }
    bytes.push(match heat.cause {
        Cause::Prompt => 0,
        Cause::Renewal => 1,
    });
    bytes.push(match heat.method {
        Method::Dense => 0,
        Method::FullBatch => 1,
        Method::Pp => 2,
        Method::WandaSp => 3,
        Method::Flap => 4,
        Method::Masks => 5,
    });
    bytes.extend(heat.ratio.to_le_bytes());
    for layer in &heat.layers {
        encode_units(&mut bytes, layer.heads.as_ref(), heat.heads)?;
        encode_units(&mut bytes, layer.channels.as_ref(), heat.channels)?;
    }
    Ok(bytes)
}

/// The heat of `bytes`.
///
/// # Errors
/// A sentence without a name of the file, where the bytes are no heat of this version.
pub(super) fn decode(bytes: &[u8]) -> Result<Heat, String> {
    let mut reader = Reader(bytes);
    let version = reader.u8()?;
    if version != VERSION {
        return Err(format!("a probe has the format {version}, this Secateur reads {VERSION}"));
    }
    let id = u64::from_le_bytes(reader.array()?);
    let [index, at, heads, channels, layers] = [(); 5].map(|()| reader.u32());
    let (index, at, heads, channels, layers) = (index?, at?, heads?, channels?, layers?);
    let cause = match reader.u8()? {
        0 => Cause::Prompt,
        1 => Cause::Renewal,
        other => return Err(format!("a probe has the cause {other}, which is not known")),
    };
    let method = match reader.u8()? {
        0 => Method::Dense,
        1 => Method::FullBatch,
        2 => Method::Pp,
        3 => Method::WandaSp,
        4 => Method::Flap,
        5 => Method::Masks,
        other => return Err(format!("a probe has the method {other}, which is not known")),
    };
    let ratio = f64::from_le_bytes(reader.array()?);
    if layers > MOST_LAYERS {
        return Err(format!("a probe has {layers} layers, more than {MOST_LAYERS}"));
    }
    let layer = |_| {
        let (heads, channels) = (reader.units(heads)?, reader.units(channels)?);
        Ok(LayerHeat { heads, channels })
    };
    let layers = (0..layers).map(layer).collect::<Result<_, String>>()?;
    match reader.0.len() {
        0 => Ok(Heat { id, index, cause, at, method, ratio, heads, channels, layers }),
        rest => Err(format!("a probe is followed by {rest} bytes that do not belong to it")),
    }
}

fn u32_of(number: usize) -> Result<u32> {
    u32::try_from(number).map_err(|_| Error::Internal(format!("a probe holds {number}, which does not fit 32 bits")))
}

fn encode_units(bytes: &mut Vec<u8>, units: Option<&UnitHeat>, total: usize) -> Result<()> {
    let Some(units) = units else {
        bytes.push(0);
        return Ok(());
    };
    for (name, len) in [("scores", units.scores.len()), ("shares of history", units.from_history.len())] {
        if len != 0 && len != total {
            return Err(Error::Internal(format!("a probe of {total} units has {len} {name}")));
        }
    }
    let flag = |empty: bool, flag: u8| if empty { 0 } else { flag };
    bytes.push(PRUNED | flag(units.scores.is_empty(), SCORES) | flag(units.from_history.is_empty(), HISTORY));

    let mut kept = vec![0u8; total.div_ceil(8)];
    for &unit in &units.kept {
        if unit as usize >= total {
            return Err(Error::Internal(format!("a probe keeps unit {unit} of {total}")));
        }
        kept[unit as usize / 8] |= 1 << (unit % 8);
    }
    bytes.extend(kept);
    if !units.scores.is_empty() {
        let exponent = exponent_of(&units.scores);
        bytes.push(exponent as u8);
        let scale = 2f64.powi(-i32::from(exponent));
        bytes.extend(units.scores.iter().flat_map(|&score| f16::from_f64(f64::from(score) * scale).to_le_bytes()));
    }
    bytes.extend(units.from_history.iter().map(|share| (share.clamp(0.0, 1.0) * 255.0).round() as u8));
    bytes.extend(u32_of(units.probed.len())?.to_le_bytes());
    let mut last = 0;
    for &position in &units.probed {
        let step = position.checked_sub(last);
        put_varint(bytes, step.ok_or_else(|| Error::Internal("probed positions do not ascend".into()))?);
        last = position;
    }
    Ok(())
}

/// The power of two that brings the largest score into [1, 2): scores are sums of squares of any size, and f16 ends at
/// 65504 and fades below 6e-5.
fn exponent_of(scores: &[f32]) -> i8 {
    let largest = scores.iter().filter(|score| score.is_finite()).fold(0f32, |most, score| most.max(score.abs()));
    if largest > 0.0 { largest.log2().floor().clamp(-127.0, 127.0) as i8 } else { 0 }
}

fn put_varint(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// The bytes that are left.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let missing = || format!("a probe ends early: {count} bytes were expected, {} are left", self.0.len());
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(missing)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<usize, String> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn varint(&mut self) -> Result<u32, String> {
        let mut number = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.u8()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(number).map_err(|_| format!("a probed position is {number} further"));
            }
        }
        Err("a probed position has more than 32 bits".into())
    }

    fn units(&mut self, total: usize) -> Result<Option<UnitHeat>, String> {
        let flags = self.u8()?;
        if flags == 0 {
            return Ok(None);
        }
        if flags & PRUNED == 0 || flags & !(PRUNED | SCORES | HISTORY) != 0 {
            return Err(format!("a probe has the flags {flags:#x}, which are not known"));
        }
        let bits = self.take(total.div_ceil(8))?;
        let set = |unit: &u32| bits[*unit as usize / 8] >> (unit % 8) & 1 == 1;
        // Bits behind the last unit only fill its byte.
        if bits.last().is_some_and(|last| !total.is_multiple_of(8) && last >> (total % 8) != 0) {
            return Err(format!("a probe keeps a unit beyond its {total}"));
        }
        let kept = (0..total as u32).filter(set).collect();
        let scores = match flags & SCORES {
            0 => Vec::new(),
            _ => {
                let scale = 2f64.powi(i32::from(self.u8()? as i8));
                let score = |pair: &[u8]| (f16::from_le_bytes([pair[0], pair[1]]).to_f64() * scale) as f32;
                self.take(total.saturating_mul(2))?.chunks_exact(2).map(score).collect()
            }
        };
        let from_history = match flags & HISTORY {
            0 => Vec::new(),
            _ => self.take(total)?.iter().map(|&share| f32::from(share) / 255.0).collect(),
        };
        let probed = self.u32()?;
        if probed > self.0.len() {
            return Err(format!("a probe has {probed} positions in {} bytes", self.0.len()));
        }
        let mut last = 0u32;
        let position = |_| {
            last = last.checked_add(self.varint()?).ok_or("a probed position has more than 32 bits")?;
            Ok(last)
        };
        let probed = (0..probed).map(position).collect::<Result<_, String>>()?;
        Ok(Some(UnitHeat { kept, scores, from_history, probed }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn units(total: usize) -> impl Strategy<Value = UnitHeat> {
        let maybe = |values: proptest::collection::VecStrategy<std::ops::Range<f32>>| {
            proptest::option::of(values).prop_map(Option::unwrap_or_default)
        };
        let kept = proptest::collection::vec(any::<bool>(), total);
        let kept = kept.prop_map(|kept| (0u32..).zip(kept).filter(|(_, kept)| *kept).map(|(unit, _)| unit).collect());
        let scores = (maybe(proptest::collection::vec(0f32..1.0, total)), -30..30i32);
        let scores = scores.prop_map(|(scores, by)| scores.iter().map(|score| score * 2f32.powi(by)).collect());
        let probed = proptest::collection::btree_set(any::<u32>(), 0..9).prop_map(|set| set.into_iter().collect());
        (kept, scores, maybe(proptest::collection::vec(0f32..1.0, total)), probed)
            .prop_map(|(kept, scores, from_history, probed)| UnitHeat { kept, scores, from_history, probed })
    }

    fn heats() -> impl Strategy<Value = Heat> {
        (1..20usize, 0..70usize).prop_flat_map(|(heads, channels)| {
            let layer = (proptest::option::of(units(heads)), proptest::option::of(units(channels)));
            let layer = layer.prop_map(|(heads, channels)| LayerHeat { heads, channels });
            let cause = prop_oneof![Just(Cause::Prompt), Just(Cause::Renewal)];
            let method = proptest::sample::select(Method::ALL.to_vec());
            let fixed = (any::<u64>(), 0..99usize, cause, 0..9999usize, method, 0.0..1.0);
            (fixed, proptest::collection::vec(layer, 0..5)).prop_map(
                move |((id, index, cause, at, method, ratio), layers)| Heat {
                    id,
                    index,
                    cause,
                    at,
                    method,
                    ratio,
                    heads,
                    channels,
                    layers,
                },
            )
        })
    }

    /// `heat` without the values that lose precision, and those values.
    fn apart(mut heat: Heat) -> (Heat, Vec<Vec<f32>>, Vec<f32>) {
        let (mut scores, mut shares) = (Vec::new(), Vec::new());
        for layer in &mut heat.layers {
            for units in [&mut layer.heads, &mut layer.channels].into_iter().flatten() {
                scores.push(std::mem::take(&mut units.scores));
                shares.append(&mut units.from_history);
            }
        }
        (heat, scores, shares)
    }

    proptest! {
        #[test]
        fn a_heat_comes_back_as_exact_as_it_is_kept(heat in heats()) {
            let (found, found_scores, found_shares) = apart(decode(&encode(&heat).unwrap()).unwrap());
            let (heat, scores, shares) = apart(heat);
            prop_assert_eq!(found, heat);
            prop_assert_eq!(shares.len(), found_shares.len());
            prop_assert!(shares.iter().zip(&found_shares).all(|(a, b)| (a - b).abs() <= 0.5 / 255.0 + 1e-6));
            for (scores, found) in scores.iter().zip(&found_scores) {
                prop_assert_eq!(scores.len(), found.len());
                // Half an ulp of f16, and half its smallest step where it fades.
                let largest = scores.iter().fold(0f32, |most, score| most.max(*score));
                let near = |(a, b): (&f32, &f32)| (a - b).abs() <= a * 2f32.powi(-11) + largest * 2f32.powi(-25);
                prop_assert!(scores.iter().zip(found).all(near), "{scores:?} {found:?}");
            }
        }

        #[test]
        fn damaged_bytes_never_panic_and_a_cut_is_told(heat in heats(), cut in any::<prop::sample::Index>(), bit in 0..8u8) {
            let mut bytes = encode(&heat).unwrap();
            let at = cut.index(bytes.len());
            prop_assert!(decode(&bytes[..at]).is_err());
            bytes[at] ^= 1 << bit;
            // Whatever still decodes is a heat that can be kept again.
            if let Ok(heat) = decode(&bytes) {
                prop_assert!(encode(&heat).is_ok());
            }
        }

        #[test]
        fn noise_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            bytes.insert(0, VERSION);
            let _ = decode(&bytes);
        }
    }

    fn one_block(units: UnitHeat, channels: usize) -> Heat {
        let layers = vec![LayerHeat { heads: None, channels: Some(units) }];
        let (cause, method) = (Cause::Prompt, Method::Pp);
        Heat { id: 1, index: 0, cause, at: 5, method, ratio: 0.4, heads: 2, channels, layers }
    }

    #[test]
    fn scores_that_half_precision_cannot_hold_keep_their_order() {
        for scores in [vec![3e9, 1e9, 2e9], vec![3e-30, 1e-30, 2e-30], vec![0.0, f32::MAX / 2.0, f32::MAX / 3.0]] {
            let heat = one_block(UnitHeat { scores, ..UnitHeat::default() }, 3);
            let found = decode(&encode(&heat).unwrap()).unwrap();
            let ranks = |heat: &Heat| {
                let units = heat.layers[0].channels.clone().unwrap();
                [0, 1, 2].map(|unit| units.rank(unit))
            };
            assert_eq!(ranks(&found), ranks(&heat));
            assert!(found.layers[0].channels.as_ref().unwrap().scores.iter().all(|score| score.is_finite()));
        }
    }

    #[test]
    fn counts_that_the_bytes_cannot_hold_are_refused_before_memory_is_taken() {
        let bytes = encode(&one_block(UnitHeat::default(), 3)).unwrap();
        // Heads, channels and layers stand behind the version, the id, the index and the position.
        for (at, name) in [(21, "expected"), (25, "layers")] {
            let mut hostile = bytes.clone();
            hostile[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
            let error = decode(&hostile).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn a_heat_that_contradicts_itself_is_not_kept() {
        for units in [
            UnitHeat { kept: vec![3], ..UnitHeat::default() },
            UnitHeat { scores: vec![1.0], ..UnitHeat::default() },
            UnitHeat { from_history: vec![1.0; 4], ..UnitHeat::default() },
            UnitHeat { probed: vec![2, 1], ..UnitHeat::default() },
        ] {
            assert!(encode(&one_block(units, 3)).is_err());
        }
    }

    #[test]
    fn a_probe_of_a_real_model_is_small() {
        let channels = UnitHeat {
            kept: (0..4096).collect(),
            scores: vec![1.0; 8192],
            from_history: vec![0.5; 8192],
            probed: (0..1000).collect(),
        };
        let mut heat = one_block(channels, 8192);
        heat.layers = vec![heat.layers[0].clone(); 16];
        assert!(encode(&heat).unwrap().len() < 450_000);
    }
}
