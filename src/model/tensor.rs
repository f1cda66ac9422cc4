//! What a tensor is, whatever file holds it: its element type, its role in the network, and a view of its bytes.
//!
//! Invariant: the `bytes` of a [`TensorView`] are exactly `rows * kind.row_bytes(cols)` long.

use crate::config::{Blocks, MlpKind, ModelConfig, Norms};
use crate::format::WeightFormat;
use std::fmt;

macro_rules! tensor_types {
    ($($id:literal $variant:ident $name:literal $block:literal $bytes:literal,)*) => {
        /// Element types that GGML defines, by its numbers; safetensors' F32, F16 and BF16 map to the same ones.
        ///
        /// All of them are known, so that a file with one that the GPU kernels lack is refused by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum TensorType {
            $(#[doc = concat!("`", $name, "`: ", $bytes, " bytes for ", $block, " element(s).")] $variant,)*
        }

        impl TensorType {
            /// The type with GGML's number `id`; `None` where GGML defines none, or has dropped it.
            pub fn from_ggml_id(id: u32) -> Option<TensorType> {
                match id {
                    $($id => Some(TensorType::$variant),)*
                    _ => None,
                }
            }

            /// GGML's number.
            pub fn ggml_id(self) -> u32 {
                match self {
                    $(TensorType::$variant => $id,)*
                }
            }

            /// GGML's name, such as `Q4_1`.
            pub fn name(self) -> &'static str {
                match self {
                    $(TensorType::$variant => $name,)*
                }
            }

            /// Elements of a block: the smallest run along a row that is stored together.
            pub fn block_elements(self) -> usize {
                match self {
                    $(TensorType::$variant => $block,)*
                }
            }

            /// Bytes of a block.
            pub fn block_bytes(self) -> usize {
                match self {
                    $(TensorType::$variant => $bytes,)*
                }
            }
        }
    };
}

tensor_types! {
    0 F32 "F32" 1 4,
    1 F16 "F16" 1 2,
    2 Q4_0 "Q4_0" 32 18,
    3 Q4_1 "Q4_1" 32 20,
    6 Q5_0 "Q5_0" 32 22,
    7 Q5_1 "Q5_1" 32 24,
    8 Q8_0 "Q8_0" 32 34,
    9 Q8_1 "Q8_1" 32 36,
    10 Q2K "Q2_K" 256 84,
    11 Q3K "Q3_K" 256 110,
    12 Q4K "Q4_K" 256 144,
    13 Q5K "Q5_K" 256 176,
    14 Q6K "Q6_K" 256 210,
    15 Q8K "Q8_K" 256 292,
    16 Iq2Xxs "IQ2_XXS" 256 66,
    17 Iq2Xs "IQ2_XS" 256 74,
    18 Iq3Xxs "IQ3_XXS" 256 98,
    19 Iq1S "IQ1_S" 256 50,
    20 Iq4Nl "IQ4_NL" 32 18,
    21 Iq3S "IQ3_S" 256 110,
    22 Iq2S "IQ2_S" 256 82,
    23 Iq4Xs "IQ4_XS" 256 136,
    24 I8 "I8" 1 1,
    25 I16 "I16" 1 2,
    26 I32 "I32" 1 4,
    27 I64 "I64" 1 8,
    28 F64 "F64" 1 8,
    29 Iq1M "IQ1_M" 256 56,
    30 BF16 "BF16" 1 2,
    34 Tq1_0 "TQ1_0" 256 54,
    35 Tq2_0 "TQ2_0" 256 66,
    39 Mxfp4 "MXFP4" 32 17,
    40 Nvfp4 "NVFP4" 64 36,
}

impl TensorType {
    /// The type of a format that kernels read.
    pub fn of(format: WeightFormat) -> TensorType {
        match format {
            WeightFormat::F32 => TensorType::F32,
            WeightFormat::F16 => TensorType::F16,
            WeightFormat::Bf16 => TensorType::BF16,
            WeightFormat::Q8_0 => TensorType::Q8_0,
            WeightFormat::Q4_0 => TensorType::Q4_0,
            WeightFormat::Q4_1 => TensorType::Q4_1,
            WeightFormat::Q5_0 => TensorType::Q5_0,
            WeightFormat::Q5_1 => TensorType::Q5_1,
            WeightFormat::Iq4Nl => TensorType::Iq4Nl,
            WeightFormat::Q2K => TensorType::Q2K,
            WeightFormat::Q3K => TensorType::Q3K,
            WeightFormat::Q4K => TensorType::Q4K,
            WeightFormat::Q5K => TensorType::Q5K,
            WeightFormat::Q6K => TensorType::Q6K,
        }
    }

    /// Bytes of a row of `cols` elements; `None` where `cols` is no whole number of blocks, or the product overflows.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_elements()) {
            return None;
        }
        (cols / self.block_elements()).checked_mul(self.block_bytes())
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A tensor inside a transformer layer. Sizes are those of [`ModelConfig`](crate::config::ModelConfig): `H` hidden,
/// `A` heads, `K` key/value heads, `d` elements of a head, `C` channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayerTensor {
    /// Scale of the norm of attention, `[H]`.
    AttentionNorm,
    /// Shift of the norm of attention, `[H]`.
    AttentionNormBias,
    /// Query projection, `[A*d, H]`.
    Q,
    /// Key projection, `[K*d, H]`.
    K,
    /// Value projection, `[K*d, H]`.
    V,
    /// Bias of the queries, `[A*d]`.
    QBias,
    /// Bias of the keys, `[K*d]`.
    KBias,
    /// Bias of the values, `[K*d]`.
    VBias,
    /// Scale of the norm of a query head, `[d]`.
    QNorm,
    /// Scale of the norm of a key head, `[d]`.
    KNorm,
    /// Output projection of attention, `[H, A*d]`.
    O,
    /// Bias of that projection, `[H]`.
    OBias,
    /// Scale of the norm of the MLP, `[H]`.
    MlpNorm,
    /// Shift of the norm of the MLP, `[H]`.
    MlpNormBias,
    /// Gate projection, `[C, H]`.
    Gate,
    /// Up projection, `[C, H]`; fc1 of OPT.
    Up,
    /// Bias of that projection, `[C]`.
    UpBias,
    /// Down projection, `[H, C]`; fc2 of OPT.
    Down,
    /// Bias of that projection, `[H]`.
    DownBias,
}

impl LayerTensor {
    /// Every one, in the order of the forward pass.
    pub const ALL: [LayerTensor; 19] = [
        LayerTensor::AttentionNorm,
        LayerTensor::AttentionNormBias,
        LayerTensor::Q,
        LayerTensor::K,
        LayerTensor::V,
        LayerTensor::QBias,
        LayerTensor::KBias,
        LayerTensor::VBias,
        LayerTensor::QNorm,
        LayerTensor::KNorm,
        LayerTensor::O,
        LayerTensor::OBias,
        LayerTensor::MlpNorm,
        LayerTensor::MlpNormBias,
        LayerTensor::Gate,
        LayerTensor::Up,
        LayerTensor::UpBias,
        LayerTensor::Down,
        LayerTensor::DownBias,
    ];

    /// Those that are matrices of attention and MLP.
    pub const MATRICES: [LayerTensor; 7] = [
        LayerTensor::Q,
        LayerTensor::K,
        LayerTensor::V,
        LayerTensor::O,
        LayerTensor::Gate,
        LayerTensor::Up,
        LayerTensor::Down,
    ];

    /// Whether blocks of this kind have it.
    pub fn is_in(self, blocks: &Blocks) -> bool {
        match self {
            LayerTensor::QBias | LayerTensor::KBias | LayerTensor::VBias => blocks.qkv_bias,
            LayerTensor::QNorm | LayerTensor::KNorm => blocks.qk_norm,
            LayerTensor::OBias | LayerTensor::UpBias | LayerTensor::DownBias => blocks.output_bias,
            LayerTensor::AttentionNormBias | LayerTensor::MlpNormBias => blocks.norms != Norms::Rms,
            LayerTensor::Gate => blocks.mlp == MlpKind::SwiGlu,
            _ => true,
        }
    }
}

/// What a tensor is for, independent of the file's naming.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TensorRole {
    /// Token embedding, `[vocab, E]`, where `E` is `H` but for models that project it.
    TokenEmbedding,
    /// Learned positions, `[offset + positions, H]`.
    PositionEmbedding,
    /// What widens an embedding, `[H, E]`.
    ProjectIn,
    /// Scale of the last norm, `[H]`.
    OutputNorm,
    /// Shift of the last norm, `[H]`.
    OutputNormBias,
    /// What narrows the last state, `[E, H]`.
    ProjectOut,
    /// Output head, `[vocab, E]`; absent where it is tied to the embedding.
    Output,
    /// Divisors of the rotary frequencies, `[d / 2]`; only some GGUF files have them.
    RopeFactors,
    /// A tensor of the layer with this index.
    Layer(usize, LayerTensor),
}

impl TensorRole {
    /// Rows and columns that a configuration implies; a vector is one row.
    pub(crate) fn shape(self, config: &ModelConfig) -> [usize; 2] {
        let hidden = config.hidden_size;
        // `validate` bounds heads and head_dim each, but in a browser's 32 bits their product may still not fit.
        let (query, key) = (
            config.num_attention_heads.saturating_mul(config.head_dim),
            config.num_key_value_heads.saturating_mul(config.head_dim),
        );
        match self {
            TensorRole::TokenEmbedding | TensorRole::Output => [config.vocab_size, config.embedding_width()],
            TensorRole::PositionEmbedding => {
                [config.max_position_embeddings.saturating_add(config.position_offset.unwrap_or(0)), hidden]
            }
            TensorRole::ProjectIn => [hidden, config.embedding_width()],
            TensorRole::ProjectOut => [config.embedding_width(), hidden],
            TensorRole::OutputNorm | TensorRole::OutputNormBias => [1, hidden],
            TensorRole::RopeFactors => [1, config.head_dim / 2],
            TensorRole::Layer(_, tensor) => match tensor {
                LayerTensor::AttentionNorm
                | LayerTensor::AttentionNormBias
                | LayerTensor::OBias
                | LayerTensor::MlpNorm
                | LayerTensor::MlpNormBias
                | LayerTensor::DownBias => [1, hidden],
                LayerTensor::Q => [query, hidden],
                LayerTensor::K | LayerTensor::V => [key, hidden],
                LayerTensor::QBias => [1, query],
                LayerTensor::KBias | LayerTensor::VBias => [1, key],
                LayerTensor::QNorm | LayerTensor::KNorm => [1, config.head_dim],
                LayerTensor::O => [hidden, query],
                LayerTensor::Gate | LayerTensor::Up => [config.intermediate_size, hidden],
                LayerTensor::UpBias => [1, config.intermediate_size],
                LayerTensor::Down => [hidden, config.intermediate_size],
            },
        }
    }
}

/// A tensor's bytes inside its mapped file. Nothing is copied.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    /// The tensor's name in the file's own convention.
    pub name: &'a str,
    /// How the elements are stored.
    pub kind: TensorType,
    /// Rows, outermost; 1 for a norm and for the rope factors.
    pub rows: usize,
    /// Elements of a row, contiguous in the file (GGUF's `ne[0]`).
    pub cols: usize,
    /// Row after row, little endian; `rows * kind.row_bytes(cols)` bytes.
    pub bytes: &'a [u8],
}

/// Where a tensor lies in the files of a model.
#[derive(Debug, Clone)]
pub(super) struct TensorEntry {
    pub kind: TensorType,
    /// Outermost first; never empty, no zero.
    pub shape: Vec<usize>,
    /// Index of the file among the model's weight files.
    pub file: usize,
    /// Bytes within that file; checked against its length.
    pub range: std::ops::Range<usize>,
}

impl TensorEntry {
    /// Elements of the innermost dimension.
    pub fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Product of all other dimensions; it cannot overflow, since the bytes of the whole tensor lie in a file.
    pub fn rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_bytes_needs_whole_blocks_and_does_not_overflow() {
        assert_eq!(TensorType::Q4_1.row_bytes(576), Some(360));
        assert_eq!(TensorType::Q8_0.row_bytes(33), None);
        assert_eq!(TensorType::F32.row_bytes(172), Some(688));
        assert_eq!(TensorType::F64.row_bytes(usize::MAX), None);
    }

    #[test]
    fn dropped_ids_are_unknown() {
        for id in [4, 5, 31, 36, 99, u32::MAX] {
            assert_eq!(TensorType::from_ggml_id(id), None);
        }
        assert_eq!(TensorType::from_ggml_id(3), Some(TensorType::Q4_1));
    }
}
