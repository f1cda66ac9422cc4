//! Naive encoders and decoders of the tensor types that tests write, after GGML's block layouts.

#[path = "super_blocks.rs"]
mod super_blocks;

use half::{bf16, f16};
use secateur::model::TensorType;

const BLOCK: usize = 32;
const LEVELS: [f32; 16] =
    [-127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0];

/// Encodes whole rows; the length is a multiple of the type's block.
pub fn encode(kind: TensorType, values: &[f32]) -> Vec<u8> {
    assert!(values.len().is_multiple_of(kind.block_elements()), "{} elements of {kind}", values.len());
    match kind {
        TensorType::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        TensorType::F16 => values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
        TensorType::BF16 => values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
        TensorType::Q8_0 => values.chunks(BLOCK).flat_map(encode_q8_0).collect(),
        TensorType::Q4_0 => values.chunks(BLOCK).flat_map(encode_q4_0).collect(),
        TensorType::Q4_1 => values.chunks(BLOCK).flat_map(encode_q4_1).collect(),
        TensorType::Q5_0 => values.chunks(BLOCK).flat_map(encode_q5_0).collect(),
        TensorType::Q5_1 => values.chunks(BLOCK).flat_map(encode_q5_1).collect(),
        TensorType::Iq4Nl => values.chunks(BLOCK).flat_map(encode_iq4_nl).collect(),
        TensorType::Q2K | TensorType::Q3K | TensorType::Q4K | TensorType::Q5K | TensorType::Q6K => {
            values.chunks(256).flat_map(|values| super_blocks::encode(kind, values)).collect()
        }
        other => panic!("no test encoder for {other}"),
    }
}

/// Decodes what [`encode`] wrote.
pub fn decode(kind: TensorType, bytes: &[u8]) -> Vec<f32> {
    let half = |bytes: &[u8], at: usize| f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32();
    let blocks = bytes.chunks(kind.block_bytes());
    match kind {
        TensorType::F32 => blocks.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        TensorType::F16 => blocks.map(|b| half(b, 0)).collect(),
        TensorType::BF16 => blocks.map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        TensorType::Q8_0 => {
            blocks.flat_map(|b| b[2..].iter().map(|&q| half(b, 0) * f32::from(q as i8)).collect::<Vec<_>>()).collect()
        }
        TensorType::Q4_0 => blocks
            .flat_map(|b| nibbles(&b[2..]).map(|q| half(b, 0) * (f32::from(q) - 8.0)).collect::<Vec<_>>())
            .collect(),
        TensorType::Q4_1 => blocks
            .flat_map(|b| nibbles(&b[4..]).map(|q| half(b, 0) * f32::from(q) + half(b, 2)).collect::<Vec<_>>())
            .collect(),
        TensorType::Q5_0 => blocks
            .flat_map(|b| fives(&b[2..]).map(|q| half(b, 0) * (f32::from(q) - 16.0)).collect::<Vec<_>>())
            .collect(),
        TensorType::Q5_1 => blocks
            .flat_map(|b| fives(&b[4..]).map(|q| half(b, 0) * f32::from(q) + half(b, 2)).collect::<Vec<_>>())
            .collect(),
        TensorType::Iq4Nl => blocks
            .flat_map(|b| nibbles(&b[2..]).map(|q| half(b, 0) * LEVELS[usize::from(q)]).collect::<Vec<_>>())
            .collect(),
        TensorType::Q2K | TensorType::Q3K | TensorType::Q4K | TensorType::Q5K | TensorType::Q6K => {
            blocks.flat_map(|block| super_blocks::decode(kind, block)).collect()
        }
        other => panic!("no test decoder for {other}"),
    }
}

/// The low halves of all bytes are the first elements of a block, the high halves the rest.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = u8> + '_ {
    bytes.iter().map(|byte| byte & 15).chain(bytes.iter().map(|byte| byte >> 4))
}

/// A word of fifth bits, then nibbles.
fn fives(bytes: &[u8]) -> impl Iterator<Item = u8> + '_ {
    nibbles(&bytes[4..]).enumerate().map(|(i, low)| low | (bytes[i / 8] >> (i % 8) & 1) << 4)
}

fn fifths(quants: &[u8]) -> impl Iterator<Item = u8> + '_ {
    quants.chunks(8).map(|eight| eight.iter().enumerate().fold(0, |byte, (i, quant)| byte | (quant >> 4) << i))
}

fn pack(quants: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let (low, high) = quants.split_at(BLOCK / 2);
    low.iter().zip(high).map(|(low, high)| low & 15 | high << 4)
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

fn encode_q8_0(values: &[f32]) -> Vec<u8> {
    let scale = values.iter().fold(0.0f32, |most, value| most.max(value.abs())) / 127.0;
    let quants = values.iter().map(|value| (value * inverse(scale)).round() as i8 as u8);
    f16::from_f32(scale).to_le_bytes().into_iter().chain(quants).collect()
}

/// The scale by which the value that is largest either way becomes `-half`, and integers around `half`.
fn around(values: &[f32], half: f32) -> (f32, Vec<u8>) {
    let largest = values.iter().fold(0.0f32, |most, &value| if value.abs() > most.abs() { value } else { most });
    let scale = largest / -half;
    let quant = |value: &f32| (value * inverse(scale) + half + 0.5).floor().clamp(0.0, 2.0 * half - 1.0) as u8;
    (scale, values.iter().map(quant).collect())
}

/// A scale by which values above the least are integers from 0 to `levels`, the least, the integers.
fn above(values: &[f32], levels: f32) -> (f32, f32, Vec<u8>) {
    let least = values.iter().copied().fold(f32::INFINITY, f32::min);
    let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scale = (most - least) / levels;
    let quant = |value: &f32| ((value - least) * inverse(scale) + 0.5).floor().clamp(0.0, levels) as u8;
    (scale, least, values.iter().map(quant).collect())
}

fn halves(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect()
}

fn encode_q4_0(values: &[f32]) -> Vec<u8> {
    let (scale, quants) = around(values, 8.0);
    halves(&[scale]).into_iter().chain(pack(&quants)).collect()
}

fn encode_q4_1(values: &[f32]) -> Vec<u8> {
    let (scale, least, quants) = above(values, 15.0);
    halves(&[scale, least]).into_iter().chain(pack(&quants)).collect()
}

fn encode_q5_0(values: &[f32]) -> Vec<u8> {
    let (scale, quants) = around(values, 16.0);
    halves(&[scale]).into_iter().chain(fifths(&quants)).chain(pack(&quants)).collect()
}

fn encode_q5_1(values: &[f32]) -> Vec<u8> {
    let (scale, least, quants) = above(values, 31.0);
    halves(&[scale, least]).into_iter().chain(fifths(&quants)).chain(pack(&quants)).collect()
}

fn encode_iq4_nl(values: &[f32]) -> Vec<u8> {
    let largest = values.iter().fold(0.0f32, |most, &value| if value.abs() > most.abs() { value } else { most });
    let scale = largest / -127.0;
    let off = |value: f32, level: usize| (value * inverse(scale) - LEVELS[level]).abs();
    let nearest = |&value: &f32| (0..16).min_by(|&a, &b| off(value, a).total_cmp(&off(value, b))).unwrap_or(0) as u8;
    let quants: Vec<u8> = values.iter().map(nearest).collect();
    halves(&[scale]).into_iter().chain(pack(&quants)).collect()
}
