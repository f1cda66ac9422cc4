//! The families of models that run, as data: what the files of each are called and what its blocks have that LLaMA's lack.
//! Adding a family that differs in these ways only is adding a row to [`FAMILIES`].

use super::RopeLayout;
use serde::{Deserialize, Serialize};

/// Which layers of a family a sliding window is for, where its configuration has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlidingLayers {
    /// No layer: the family has no windows.
    None,
    /// Every layer.
    All,
    /// With `use_sliding_window`, those that `layer_types` names, by default those from `max_window_layers` on, or from
    /// this one.
    From(usize),
    /// With `use_sliding_window`, those that `layer_types` names, by default those without rope.
    WithoutRope,
}

/// The norms of a model, and where they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Norms {
    /// RMS norms in front of attention and MLP.
    #[default]
    Rms,
    /// Layer norms, with a shift, in front of attention and MLP.
    LayerBefore,
    /// Layer norms behind attention and MLP, of the residual stream itself (OPT-350M).
    LayerBehind,
}

/// The first half of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MlpKind {
    /// `silu(gate x) * up x`.
    #[default]
    SwiGlu,
    /// `relu(up x + bias)`.
    Relu,
}

impl MlpKind {
    /// Matrices that it reads.
    pub fn matrices(self) -> usize {
        match self {
            MlpKind::SwiGlu => 2,
            MlpKind::Relu => 1,
        }
    }
}

/// What a family's configuration class in transformers takes for a field that a `config.json` leaves out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    /// `rms_norm_eps`, or that of layer norms.
    pub rms_norm_eps: f32,
    /// `rope_theta`.
    pub rope_theta: f32,
    /// `max_position_embeddings`.
    pub max_position_embeddings: usize,
    /// `tie_word_embeddings`.
    pub tie_word_embeddings: bool,
    /// `num_key_value_heads`; `None` = as many as query heads.
    pub num_key_value_heads: Option<usize>,
    /// `head_dim`; `None` = `hidden_size / num_attention_heads`.
    pub head_dim: Option<usize>,
    /// `sliding_window`.
    pub sliding_window: Option<usize>,
}

/// A family of models with one forward pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Family {
    /// Its name, for people.
    pub name: &'static str,
    /// `general.architecture` of its GGUF files; `None` = they go by another family's.
    pub gguf: Option<&'static str>,
    /// The class in `architectures` of a `config.json`.
    pub class: &'static str,
    /// `model_type` of a `config.json`.
    pub model_type: &'static str,
    /// How rope pairs elements in its GGUF files.
    pub gguf_layout: RopeLayout,
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether o and both halves of the MLP have biases.
    pub output_bias: bool,
    /// Whether every head of q and k goes through an RMS norm before rope.
    pub qk_norm: bool,
    /// Whether q, k and v are one tensor in its files, and gate and up another.
    pub fused: bool,
    /// Its norms, where its files do not say otherwise.
    pub norms: Norms,
    /// The first half of its MLPs.
    pub mlp: MlpKind,
    /// Rows of its table of learned positions before that of position 0; `None` = it learns none.
    pub position_offset: Option<usize>,
    /// Which layers a sliding window is for.
    pub sliding_layers: SlidingLayers,
    /// Whether its GGUF files may hold a window, for all layers.
    pub gguf_sliding_window: bool,
    /// Whether special tokens of its SentencePiece vocabularies take the white space behind them, which GGUF files do not say.
    pub special_rstrip: bool,
    /// Each layer whose number, counted from 1, is a multiple of this has no rope, unless a `config.json` says otherwise.
    pub no_rope_layer_interval: Option<usize>,
    /// What its `config.json` leaves out.
    pub defaults: Defaults,
}

/// LLaMA, which the others are told apart from.
const LLAMA: Family = Family {
    name: "LLaMA",
    gguf: Some("llama"),
    class: "LlamaForCausalLM",
    model_type: "llama",
    gguf_layout: RopeLayout::Adjacent,
    qkv_bias: false,
    output_bias: false,
    qk_norm: false,
    fused: false,
    norms: Norms::Rms,
    mlp: MlpKind::SwiGlu,
    position_offset: None,
    sliding_layers: SlidingLayers::None,
    // Of Mistral, whose files call themselves LLaMA's.
    gguf_sliding_window: true,
    special_rstrip: false,
    no_rope_layer_interval: None,
    defaults: Defaults {
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        max_position_embeddings: 2048,
        tie_word_embeddings: false,
        num_key_value_heads: None,
        head_dim: None,
        sliding_window: None,
    },
};

/// Every family that runs.
pub const FAMILIES: &[Family] = &[
    LLAMA,
    Family {
        name: "Mistral",
        gguf: None,
        class: "MistralForCausalLM",
        model_type: "mistral",
        sliding_layers: SlidingLayers::All,
        defaults: Defaults {
            max_position_embeddings: 131_072,
            num_key_value_heads: Some(8),
            sliding_window: Some(4096),
            ..LLAMA.defaults
        },
        ..LLAMA
    },
    Family {
        name: "Qwen2",
        gguf: Some("qwen2"),
        class: "Qwen2ForCausalLM",
        model_type: "qwen2",
        gguf_layout: RopeLayout::Halves,
        qkv_bias: true,
        sliding_layers: SlidingLayers::From(28),
        gguf_sliding_window: false,
        defaults: Defaults {
            max_position_embeddings: 32_768,
            num_key_value_heads: Some(32),
            sliding_window: Some(4096),
            ..LLAMA.defaults
        },
        ..LLAMA
    },
    Family {
        name: "Qwen3",
        gguf: Some("qwen3"),
        class: "Qwen3ForCausalLM",
        model_type: "qwen3",
        gguf_layout: RopeLayout::Halves,
        qk_norm: true,
        sliding_layers: SlidingLayers::From(28),
        gguf_sliding_window: false,
        defaults: Defaults {
            max_position_embeddings: 32_768,
            num_key_value_heads: Some(32),
            head_dim: Some(128),
            sliding_window: Some(4096),
            ..LLAMA.defaults
        },
        ..LLAMA
    },
    Family {
        name: "SmolLM3",
        gguf: Some("smollm3"),
        class: "SmolLM3ForCausalLM",
        model_type: "smollm3",
        sliding_layers: SlidingLayers::WithoutRope,
        gguf_sliding_window: false,
        no_rope_layer_interval: Some(4),
        defaults: Defaults {
            rope_theta: 2_000_000.0,
            max_position_embeddings: 32_768,
            tie_word_embeddings: true,
            num_key_value_heads: Some(4),
            ..LLAMA.defaults
        },
        ..LLAMA
    },
    Family {
        name: "Phi-3",
        gguf: Some("phi3"),
        class: "Phi3ForCausalLM",
        model_type: "phi3",
        gguf_layout: RopeLayout::Halves,
        fused: true,
        sliding_layers: SlidingLayers::All,
        special_rstrip: true,
        defaults: Defaults { rms_norm_eps: 1e-5, max_position_embeddings: 4096, ..LLAMA.defaults },
        ..LLAMA
    },
    Family {
        name: "OPT",
        // llama.cpp has no OPT: these are files of this program's own, in GGUF's names.
        gguf: Some("opt"),
        class: "OPTForCausalLM",
        model_type: "opt",
        gguf_layout: RopeLayout::Halves,
        qkv_bias: true,
        output_bias: true,
        norms: Norms::LayerBefore,
        mlp: MlpKind::Relu,
        position_offset: Some(2),
        gguf_sliding_window: false,
        no_rope_layer_interval: Some(1),
        // The epsilon is that of PyTorch's layer norms: a `config.json` has none.
        defaults: Defaults { rms_norm_eps: 1e-5, tie_word_embeddings: true, ..LLAMA.defaults },
        ..LLAMA
    },
];

impl Family {
    /// The family whose GGUF files are of this architecture.
    pub fn by_gguf(architecture: &str) -> Option<&'static Family> {
        FAMILIES.iter().find(|family| family.gguf == Some(architecture))
    }

    /// The family of a `config.json`, by its class, or its `model_type` where it names no class.
    pub fn by_class(class: Option<&str>, model_type: Option<&str>) -> Option<&'static Family> {
        FAMILIES.iter().find(|family| match class {
            Some(class) => family.class == class,
            None => model_type == Some(family.model_type),
        })
    }

    /// Architectures of GGUF files that run, for people.
    pub fn gguf_names() -> String {
        FAMILIES.iter().filter_map(|family| family.gguf).collect::<Vec<&str>>().join(", ")
    }

    /// Classes of Hugging Face models that run, for people.
    pub fn class_names() -> String {
        FAMILIES.iter().map(|family| family.class).collect::<Vec<&str>>().join(", ")
    }

    /// What its blocks have without windows, and with rope in every layer that has it by default.
    pub fn blocks(&self, layers: usize) -> Blocks {
        let interval = self.no_rope_layer_interval.unwrap_or(usize::MAX);
        Blocks {
            qkv_bias: self.qkv_bias,
            output_bias: self.output_bias,
            qk_norm: self.qk_norm,
            fused: self.fused,
            norms: self.norms,
            mlp: self.mlp,
            sliding_window: None,
            full_attention_layers: Vec::new(),
            no_rope_layers: (0..layers).filter(|layer| (layer + 1).is_multiple_of(interval)).collect(),
        }
    }
}

/// What the blocks of a model have that LLaMA's lack. The default is LLaMA's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Blocks {
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether o and both halves of the MLP have biases.
    pub output_bias: bool,
    /// Whether every head of q and k goes through an RMS norm before rope.
    pub qk_norm: bool,
    /// Whether q, k and v are one tensor in the files, and gate and up another.
    pub fused: bool,
    /// The norms.
    pub norms: Norms,
    /// The first half of the MLPs.
    pub mlp: MlpKind,
    /// Tokens that a query sees in a layer with a sliding window, its own among them; `None` = no layer has one.
    pub sliding_window: Option<usize>,
    /// Layers that the window is not for, ascending: `full_attention` in the `layer_types` of a `config.json`.
    pub full_attention_layers: Vec<usize>,
    /// Layers without rope, ascending. (A `config.json` has flags under this name, of which 0 means without.)
    pub no_rope_layers: Vec<usize>,
}

impl Blocks {
    /// Tokens that a query of `layer` sees, its own among them; `None` = all before it.
    pub fn sliding_window_of(&self, layer: usize) -> Option<usize> {
        self.sliding_window.filter(|_| !self.full_attention_layers.contains(&layer))
    }

    /// Whether `layer` has rope.
    pub fn has_rope(&self, layer: usize) -> bool {
        !self.no_rope_layers.contains(&layer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_found_by_every_name() {
        for family in FAMILIES {
            assert_eq!(Family::by_class(Some(family.class), None), Some(family));
            assert_eq!(Family::by_class(Some(family.class), Some("another")), Some(family), "the class decides");
            assert_eq!(Family::by_class(None, Some(family.model_type)), Some(family));
            if let Some(architecture) = family.gguf {
                assert_eq!(Family::by_gguf(architecture), Some(family));
                assert!(Family::gguf_names().contains(architecture));
            }
            assert!(Family::class_names().contains(family.class));
        }
        assert_eq!(Family::by_class(Some("GPT2LMHeadModel"), Some("llama")), None);
        assert_eq!(Family::by_gguf("mamba"), None);
    }

    #[test]
    fn every_fourth_layer_of_smollm3_has_no_rope() {
        let family = Family::by_gguf("smollm3").unwrap();
        assert_eq!(family.blocks(9).no_rope_layers, [3, 7]);
        assert_eq!(LLAMA.blocks(9), Blocks::default());
        let blocks = Blocks { sliding_window: Some(8), full_attention_layers: vec![0, 2], ..family.blocks(4) };
        assert_eq!([0, 1, 2, 3].map(|layer| blocks.sliding_window_of(layer)), [None, Some(8), None, Some(8)]);
        assert_eq!([0, 1, 2, 3].map(|layer| blocks.has_rope(layer)), [true, true, true, false]);
    }
}
