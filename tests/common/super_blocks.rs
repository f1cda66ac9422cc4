//! Naive encoders and decoders of K-quants, whose blocks have 256 elements: plain rounding to the nearest.

use half::f16;
use secateur::model::TensorType;

const SUPER: usize = 256;

/// What a block is made of before its bits are packed: a scale and a minimum for every so many elements, as integers, and what
/// they are times.
struct Parts {
    quants: [u8; SUPER],
    scales: Vec<i32>,
    minima: Vec<i32>,
    d: f16,
    dmin: f16,
}

/// How a type rounds.
struct Kind {
    /// Elements that share a scale.
    group: usize,
    /// The largest integer.
    levels: i32,
    /// The largest scale (and minimum).
    most: i32,
    /// What is subtracted from integers where there are no minima.
    middle: i32,
}

fn kind_of(kind: TensorType) -> Kind {
    match kind {
        TensorType::Q2K => Kind { group: 16, levels: 3, most: 15, middle: 0 },
        TensorType::Q3K => Kind { group: 16, levels: 7, most: 31, middle: 4 },
        TensorType::Q4K => Kind { group: 32, levels: 15, most: 63, middle: 0 },
        TensorType::Q5K => Kind { group: 32, levels: 31, most: 63, middle: 0 },
        TensorType::Q6K => Kind { group: 16, levels: 63, most: 127, middle: 32 },
        other => panic!("{other} has no blocks of 256"),
    }
}

fn parts(kind: &Kind, values: &[f32]) -> Parts {
    let groups = values.chunks(kind.group);
    // The scale and the minimum that each group wishes; around a middle, the value that is largest either way sets the scale.
    let wishes: Vec<(f32, f32)> = groups
        .clone()
        .map(|values| {
            if kind.middle > 0 {
                let largest =
                    values.iter().fold(0.0f32, |most, &value| if value.abs() > most.abs() { value } else { most });
                return (largest / -kind.middle as f32, 0.0);
            }
            let least = values.iter().copied().fold(0.0, f32::min);
            let most = values.iter().copied().fold(0.0, f32::max);
            ((most - least) / kind.levels as f32, -least)
        })
        .collect();
    let most = |of: fn(&(f32, f32)) -> f32| wishes.iter().map(|wish| of(wish).abs()).fold(0.0, f32::max);
    let [d, dmin] = [most(|wish| wish.0), most(|wish| wish.1)].map(|largest| f16::from_f32(largest / kind.most as f32));
    let rounded = |value: f32, d: f16| if d == f16::ZERO { 0 } else { (value / d.to_f32()).round() as i32 };
    let scales: Vec<i32> = wishes.iter().map(|wish| rounded(wish.0, d).clamp(-kind.most, kind.most)).collect();
    let minima: Vec<i32> = wishes.iter().map(|wish| rounded(wish.1, dmin).clamp(0, kind.most)).collect();
    let mut quants = [0; SUPER];
    for (index, (quant, &value)) in quants.iter_mut().zip(values).enumerate() {
        let group = index / kind.group;
        let scale = d.to_f32() * scales[group] as f32;
        let value = value + dmin.to_f32() * minima[group] as f32;
        let whole = if scale == 0.0 { 0 } else { (value / scale).round() as i32 };
        *quant = (whole + kind.middle).clamp(0, kind.levels) as u8;
    }
    Parts { quants, scales, minima, d, dmin }
}

/// Bits `bits` from `from` on of the elements that `which` names for every byte, the first lowest.
fn bytes(count: usize, quants: &[u8], from: u32, bits: u32, which: impl Fn(usize, usize) -> usize) -> Vec<u8> {
    let mask = (1u8 << bits) - 1;
    let byte = |at: usize| {
        (0..8 / bits as usize)
            .fold(0, |byte, part| byte | (quants[which(at, part)] >> from & mask) << (bits as usize * part))
    };
    (0..count).map(byte).collect()
}

/// Six-bit scales and minima of Q4_K and Q5_K.
fn scales_and_minima(parts: &Parts) -> Vec<u8> {
    let [s, m] = [&parts.scales, &parts.minima].map(|values| values.iter().map(|&v| v as u8).collect::<Vec<u8>>());
    let mut out: Vec<u8> = (0..4).map(|i| s[i] | s[4 + i] >> 4 << 6).collect();
    out.extend((0..4).map(|i| m[i] | m[4 + i] >> 4 << 6));
    out.extend((0..4).map(|i| s[4 + i] & 15 | m[4 + i] << 4));
    out
}

/// A block of 256 values.
pub fn encode(kind: TensorType, values: &[f32]) -> Vec<u8> {
    let parts = parts(&kind_of(kind), values);
    let (q, d, dmin) = (&parts.quants, parts.d.to_le_bytes(), parts.dmin.to_le_bytes());
    let two = |at: usize, part: usize| at / 32 * 128 + part * 32 + at % 32;
    let four = |at: usize, part: usize| at / 32 * 64 + part * 32 + at % 32;
    let one = |at: usize, part: usize| part * 32 + at;
    match kind {
        TensorType::Q2K => {
            let subs: Vec<u8> = parts.scales.iter().zip(&parts.minima).map(|(&s, &m)| (s | m << 4) as u8).collect();
            [subs, bytes(64, q, 0, 2, two), d.to_vec(), dmin.to_vec()].concat()
        }
        TensorType::Q3K => {
            let s: Vec<u8> = parts.scales.iter().map(|&s| (s + 32) as u8).collect();
            let low = bytes(8, &s, 0, 4, |at, part| part * 8 + at);
            let high = bytes(4, &s, 4, 2, |at, part| part * 4 + at);
            [bytes(32, q, 2, 1, one), bytes(64, q, 0, 2, two), low, high, d.to_vec()].concat()
        }
        TensorType::Q4K => [d.to_vec(), dmin.to_vec(), scales_and_minima(&parts), bytes(128, q, 0, 4, four)].concat(),
        TensorType::Q5K => {
            let subs = scales_and_minima(&parts);
            [d.to_vec(), dmin.to_vec(), subs, bytes(32, q, 4, 1, one), bytes(128, q, 0, 4, four)].concat()
        }
        _ => {
            let low = bytes(128, q, 0, 4, |at, part| at / 64 * 128 + part * 64 + at % 64);
            let subs: Vec<u8> = parts.scales.iter().map(|&s| s as i8 as u8).collect();
            [low, bytes(64, q, 4, 2, two), subs, d.to_vec()].concat()
        }
    }
}

/// The values of a block, after GGML's `dequantize_row` of the type, element by element.
pub fn decode(kind: TensorType, b: &[u8]) -> Vec<f32> {
    let half = |at: usize| f16::from_le_bytes([b[at], b[at + 1]]).to_f32();
    let two = |from: usize, i: usize| b[from + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
    let four = |from: usize, i: usize| b[from + i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15;
    let one = |from: usize, i: usize| b[from + i % 32] >> (i / 32) & 1;
    // get_scale_min_k4
    let scale_and_minimum = |j: usize| {
        let q = &b[4..16];
        match j < 4 {
            true => (q[j] & 63, q[j + 4] & 63),
            false => (q[j + 4] & 15 | q[j - 4] >> 6 << 4, q[j + 4] >> 4 | q[j] >> 6 << 4),
        }
    };
    let value = |i: usize| -> f32 {
        match kind {
            TensorType::Q2K => {
                let sub = b[i / 16];
                half(80) * f32::from(sub & 15) * f32::from(two(16, i)) - half(82) * f32::from(sub >> 4)
            }
            TensorType::Q3K => {
                let sub = i / 16;
                let low = b[96 + sub % 8] >> (sub / 8 * 4) & 15;
                let scale = i32::from(low | (b[104 + sub % 4] >> (sub / 4 * 2) & 3) << 4) - 32;
                let quant = i32::from(two(32, i)) - if one(0, i) == 1 { 0 } else { 4 };
                half(108) * scale as f32 * quant as f32
            }
            TensorType::Q4K => {
                let (s, m) = scale_and_minimum(i / 32);
                half(0) * f32::from(s) * f32::from(four(16, i)) - half(2) * f32::from(m)
            }
            TensorType::Q5K => {
                let (s, m) = scale_and_minimum(i / 32);
                let quant = four(48, i) | one(16, i) << 4;
                half(0) * f32::from(s) * f32::from(quant) - half(2) * f32::from(m)
            }
            _ => {
                let low = b[i / 128 * 64 + i % 64] >> (i % 128 / 64 * 4) & 15;
                let quant = i32::from(low | two(128, i) << 4) - 32;
                half(208) * f32::from(b[192 + i / 16] as i8) * quant as f32
            }
        }
    };
    (0..SUPER).map(value).collect()
}
