//! Naive encoders and decoders of the tensor types that tests write, after GGML's block layouts.

use half::{bf16, f16};
use secateur::model::TensorType;

const BLOCK: usize = 32;

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
        other => panic!("no test decoder for {other}"),
    }
}

/// The low halves of all bytes are the first elements of a block, the high halves the rest.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = u8> + '_ {
    bytes.iter().map(|byte| byte & 15).chain(bytes.iter().map(|byte| byte >> 4))
}

fn pack(quants: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let (low, high) = quants.split_at(BLOCK / 2);
    low.iter().zip(high).map(|(low, high)| low | high << 4)
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

fn encode_q8_0(values: &[f32]) -> Vec<u8> {
    let scale = values.iter().fold(0.0f32, |most, value| most.max(value.abs())) / 127.0;
    let quants = values.iter().map(|value| (value * inverse(scale)).round() as i8 as u8);
    f16::from_f32(scale).to_le_bytes().into_iter().chain(quants).collect()
}

fn encode_q4_0(values: &[f32]) -> Vec<u8> {
    let largest = values.iter().fold(0.0f32, |most, &value| if value.abs() > most.abs() { value } else { most });
    let scale = largest / -8.0;
    let quants: Vec<u8> =
        values.iter().map(|value| (value * inverse(scale) + 8.5).floor().clamp(0.0, 15.0) as u8).collect();
    f16::from_f32(scale).to_le_bytes().into_iter().chain(pack(&quants)).collect()
}

fn encode_q4_1(values: &[f32]) -> Vec<u8> {
    let least = values.iter().copied().fold(f32::INFINITY, f32::min);
    let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scale = (most - least) / 15.0;
    let quants: Vec<u8> =
        values.iter().map(|value| ((value - least) * inverse(scale) + 0.5).floor().clamp(0.0, 15.0) as u8).collect();
    let head = f16::from_f32(scale).to_le_bytes().into_iter().chain(f16::from_f32(least).to_le_bytes());
    head.chain(pack(&quants)).collect()
}
