//! Writing a GGUF header, version 3.
//!
//! Invariant: offsets follow from the sizes of the tensors in their order, so that whoever appends their bytes in that order, each
//! padded to [`ALIGNMENT`], has a whole file.

use crate::model::tensor::TensorType;

/// Of every tensor's bytes, and of the data as a whole: the format's default.
pub const ALIGNMENT: u64 = 32;

/// Metadata in the order in which it is written: a key, and the number of a type with the bytes of the value.
#[derive(Debug, Default)]
pub struct Metadata(Vec<(String, Vec<u8>)>);

impl Metadata {
    /// Sets a value as a file has it: the number of its type and its bytes. An older one keeps its place.
    pub fn set(&mut self, key: &str, value: Vec<u8>) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.into(), value)),
        }
    }

    /// Leaves a key out.
    pub fn unset(&mut self, key: &str) {
        self.0.retain(|(name, _)| name != key);
    }

    /// A whole number.
    pub fn number(&mut self, key: &str, value: u32) {
        self.set(key, [4u32.to_le_bytes(), value.to_le_bytes()].concat());
    }

    /// A floating-point number.
    pub fn float(&mut self, key: &str, value: f32) {
        self.set(key, [6u32.to_le_bytes(), value.to_le_bytes()].concat());
    }

    /// A truth value.
    pub fn truth(&mut self, key: &str, value: bool) {
        self.set(key, [&7u32.to_le_bytes()[..], &[u8::from(value)]].concat());
    }

    /// A text.
    pub fn text(&mut self, key: &str, value: &str) {
        let mut bytes = 8u32.to_le_bytes().to_vec();
        put_text(&mut bytes, value);
        self.set(key, bytes);
    }

    /// An array of texts.
    pub fn texts(&mut self, key: &str, values: &[String]) {
        let mut bytes = array(8, values.len());
        values.iter().for_each(|value| put_text(&mut bytes, value));
        self.set(key, bytes);
    }

    /// An array of floating-point numbers.
    pub fn floats(&mut self, key: &str, values: &[f32]) {
        let mut bytes = array(6, values.len());
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self.set(key, bytes);
    }

    /// An array of whole numbers.
    pub fn integers(&mut self, key: &str, values: &[i32]) {
        let mut bytes = array(5, values.len());
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self.set(key, bytes);
    }
}

fn array(item: u32, len: usize) -> Vec<u8> {
    let mut bytes = [9u32.to_le_bytes(), item.to_le_bytes()].concat();
    bytes.extend((len as u64).to_le_bytes());
    bytes
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// A tensor as the header describes it.
pub struct TensorHead<'a> {
    /// Its name.
    pub name: &'a str,
    /// Outermost first.
    pub shape: Vec<usize>,
    /// How its elements are stored.
    pub kind: TensorType,
    /// Bytes of its data.
    pub bytes: u64,
}

/// Everything before the first tensor's bytes.
pub fn header(metadata: &Metadata, tensors: &[TensorHead<'_>]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.0.len() as u64).to_le_bytes());
    for (key, value) in &metadata.0 {
        put_text(&mut out, key);
        out.extend(value);
    }
    let mut offset = 0u64;
    for tensor in tensors {
        put_text(&mut out, tensor.name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        // The file has the innermost dimension first.
        out.extend(tensor.shape.iter().rev().flat_map(|&size| (size as u64).to_le_bytes()));
        out.extend(tensor.kind.ggml_id().to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset += tensor.bytes.next_multiple_of(ALIGNMENT);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT as usize), 0);
    out
}
