//! Writes GGUF files from plain data, malformed ones too.

/// A metadata value.
#[derive(Debug, Clone)]
pub enum Meta {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    F32s(Vec<f32>),
    I32s(Vec<i32>),
    /// A type's number and the bytes after it, whatever they are.
    Raw(u32, Vec<u8>),
}

/// A tensor as the header describes it, with its bytes.
#[derive(Debug, Clone)]
pub struct RawTensor {
    pub name: Vec<u8>,
    /// Innermost first, as in the file.
    pub ne: Vec<u64>,
    pub type_id: u32,
    pub data: Vec<u8>,
    /// Replaces the offset that follows from the tensors before.
    pub offset: Option<u64>,
}

/// The content of a file; every field may be bent before it is written.
#[derive(Debug, Clone)]
pub struct GgufWriter {
    pub magic: [u8; 4],
    pub version: u32,
    pub metadata: Vec<(Vec<u8>, Meta)>,
    pub tensors: Vec<RawTensor>,
    /// Of the data, as written; the key `general.alignment` is the caller's.
    pub alignment: u64,
    /// Replace the counts in the header.
    pub tensor_count: Option<u64>,
    pub metadata_count: Option<u64>,
}

impl Default for GgufWriter {
    fn default() -> GgufWriter {
        GgufWriter {
            magic: *b"GGUF",
            version: 3,
            metadata: Vec::new(),
            tensors: Vec::new(),
            alignment: 32,
            tensor_count: None,
            metadata_count: None,
        }
    }
}

impl GgufWriter {
    /// Sets `key`, replacing an older value.
    pub fn set(&mut self, key: &str, value: Meta) -> &mut GgufWriter {
        self.unset(key);
        self.metadata.push((key.into(), value));
        self
    }

    pub fn unset(&mut self, key: &str) -> &mut GgufWriter {
        self.metadata.retain(|(name, _)| name != key.as_bytes());
        self
    }

    pub fn tensor(&mut self, name: &str) -> &mut RawTensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name.as_bytes()).expect("a tensor of the tiny model")
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.metadata_count.unwrap_or(self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_text(&mut out, key);
            put_value(&mut out, value);
        }
        let mut offset = 0u64;
        for tensor in &self.tensors {
            put_text(&mut out, &tensor.name);
            out.extend((tensor.ne.len() as u32).to_le_bytes());
            out.extend(tensor.ne.iter().flat_map(|size| size.to_le_bytes()));
            out.extend(tensor.type_id.to_le_bytes());
            out.extend(tensor.offset.unwrap_or(offset).to_le_bytes());
            offset = (offset + tensor.data.len() as u64).next_multiple_of(self.alignment);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(self.alignment as usize), 0);
            out.extend(&tensor.data);
        }
        out
    }
}

pub fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text);
}

fn put_value(out: &mut Vec<u8>, value: &Meta) {
    let put_id = |out: &mut Vec<u8>, id: u32| out.extend(id.to_le_bytes());
    let put_array = |out: &mut Vec<u8>, item: u32, len: usize| {
        out.extend(9u32.to_le_bytes());
        out.extend(item.to_le_bytes());
        out.extend((len as u64).to_le_bytes());
    };
    match value {
        Meta::U32(value) => {
            put_id(out, 4);
            out.extend(value.to_le_bytes());
        }
        Meta::F32(value) => {
            put_id(out, 6);
            out.extend(value.to_le_bytes());
        }
        Meta::Bool(value) => {
            put_id(out, 7);
            out.push(u8::from(*value));
        }
        Meta::Text(text) => {
            put_id(out, 8);
            put_text(out, text.as_bytes());
        }
        Meta::Texts(texts) => {
            put_array(out, 8, texts.len());
            texts.iter().for_each(|text| put_text(out, text.as_bytes()));
        }
        Meta::F32s(values) => {
            put_array(out, 6, values.len());
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Meta::I32s(values) => {
            put_array(out, 5, values.len());
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Meta::Raw(id, bytes) => {
            put_id(out, *id);
            out.extend(bytes);
        }
    }
}
