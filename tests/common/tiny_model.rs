//! Tiny models with random weights, of LLaMA and its relatives, written as GGUF and as a Hugging Face folder from the same
//! numbers.
//!
//! Both files hold the same values exactly: they are rounded through `kind` once, before either is written.

use super::gguf_writer::{GgufWriter, Meta, RawTensor};
use super::{quantise, tiny_vocabulary};
use secateur::config::{Blocks, Family, ModelConfig, Norms, RopeLayout, RopeScaling};
use secateur::model::{LayerTensor, TensorRole, TensorType};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// What to write.
#[derive(Debug, Clone)]
pub struct TinySpec {
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub channels: usize,
    /// At least [`tiny_vocabulary::MIN_VOCAB`].
    pub vocab: usize,
    pub tied: bool,
    /// A type with kernels; K-quants want every width a multiple of 256. A folder has no quantised types: it holds the decoded
    /// values as F32.
    pub kind: TensorType,
    pub rope_scaling: Option<RopeScaling>,
    /// `general.architecture` of the GGUF file.
    pub architecture: &'static str,
    /// Width of the embedding, where it is not `hidden`.
    pub embedded: Option<usize>,
    /// What the family's blocks have; [`TinySpec::of`] fills it in.
    pub blocks: Blocks,
    pub seed: u64,
    /// Whether the folder's weights are cut into two files.
    pub sharded: bool,
}

impl Default for TinySpec {
    fn default() -> TinySpec {
        TinySpec {
            hidden: 64,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            channels: 96,
            vocab: 288,
            tied: true,
            kind: TensorType::F32,
            rope_scaling: None,
            architecture: "llama",
            embedded: None,
            blocks: Blocks::default(),
            seed: 1,
            sharded: false,
        }
    }
}

/// The types that kernels read.
pub const KINDS: [TensorType; 14] = [
    TensorType::F32,
    TensorType::F16,
    TensorType::BF16,
    TensorType::Q8_0,
    TensorType::Q4_0,
    TensorType::Q4_1,
    TensorType::Q5_0,
    TensorType::Q5_1,
    TensorType::Iq4Nl,
    TensorType::Q2K,
    TensorType::Q3K,
    TensorType::Q4K,
    TensorType::Q5K,
    TensorType::Q6K,
];

pub const ROPE_THETA: f32 = 10_000.0;
pub const RMS_NORM_EPS: f32 = 1e-5;
pub const POSITIONS: usize = 512;

/// A tensor of the model; q and k have their rows in Hugging Face's order.
#[derive(Debug, Clone)]
pub struct TinyTensor {
    pub role: TensorRole,
    pub rows: usize,
    pub cols: usize,
    pub values: Vec<f32>,
    /// The values before they were rounded: rounding twice is not always rounding once.
    drawn: Vec<f32>,
    /// Whether it is stored with those behind it that go together with it.
    pub fused: bool,
    of_opt: bool,
}

impl TinySpec {
    /// A model with the blocks of a family.
    pub fn of(architecture: &'static str, base: TinySpec) -> TinySpec {
        let family = Family::by_gguf(architecture).expect("a family");
        TinySpec { architecture, blocks: family.blocks(base.layers), ..base }
    }

    /// The same with every width a multiple of what blocks of `kind` need.
    pub fn filled(self) -> TinySpec {
        let block = self.kind.block_elements();
        let [hidden, channels] = [self.hidden, self.channels].map(|width| width.next_multiple_of(block));
        let head_dim = self.head_dim.next_multiple_of(block.div_ceil(self.heads));
        TinySpec { hidden, channels, head_dim, ..self }
    }

    /// The configuration that [`ModelFiles`](secateur::model::ModelFiles) gives for the folder (`Halves`) or for the
    /// GGUF file (`Adjacent`); LLaMA-3's scaling is `Factors` there.
    pub fn config(&self, rope_layout: RopeLayout) -> ModelConfig {
        let mut config = ModelConfig {
            architecture: self.architecture.into(),
            name: Some("tiny".into()),
            hidden_size: self.hidden,
            intermediate_size: self.channels,
            num_hidden_layers: self.layers,
            num_attention_heads: self.heads,
            num_key_value_heads: self.kv_heads,
            head_dim: self.head_dim,
            vocab_size: self.vocab,
            rms_norm_eps: RMS_NORM_EPS,
            rope_theta: ROPE_THETA,
            rope_scaling: self.rope_scaling.clone(),
            rope_layout,
            max_position_embeddings: POSITIONS,
            tie_word_embeddings: self.tied,
            position_offset: self.positions_offset(),
            word_embed_proj_dim: self.embedded,
            blocks: self.blocks.clone(),
        };
        if rope_layout == RopeLayout::Adjacent
            && let Some(RopeScaling::Llama3 { .. }) = config.rope_scaling
        {
            let scaled = config.rope_frequencies();
            config.rope_scaling = None;
            let base = config.rope_frequencies();
            let factors = base.iter().zip(&scaled).map(|(base, scaled)| base / scaled).collect();
            config.rope_scaling = Some(RopeScaling::Factors(factors));
        }
        config
    }

    /// The weights, rounded to what `kind` can hold (norms: to a half type, if that is the kind).
    pub fn tensors(&self) -> Vec<TinyTensor> {
        let mut random = Random(self.seed);
        let (query, key) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let (mut tensors, of_opt) = (Vec::new(), self.architecture == "opt");
        let mut add = |role: TensorRole, rows: usize, cols: usize| {
            let bias = is_bias(role);
            let drawn: Vec<f32> = (0..rows * cols)
                .map(|_| match (bias, rows) {
                    (true, _) => 0.5 * random.symmetric(),
                    (false, 1) => 1.0 + 0.1 * random.symmetric(),
                    (false, _) => random.symmetric() * (3.0 / cols as f32).sqrt(),
                })
                .collect();
            let kind = if rows == 1 { self.norm_kind() } else { self.kind };
            let values = quantise::decode(kind, &quantise::encode(kind, &drawn));
            tensors.push(TinyTensor { role, rows, cols, values, drawn, fused: false, of_opt });
        };
        let embedded = self.embedded.unwrap_or(self.hidden);
        add(TensorRole::TokenEmbedding, self.vocab, embedded);
        if let Some(offset) = self.positions_offset() {
            add(TensorRole::PositionEmbedding, POSITIONS + offset, self.hidden);
        }
        if self.embedded.is_some() {
            add(TensorRole::ProjectIn, self.hidden, embedded);
        }
        for layer in 0..self.layers {
            for tensor in LayerTensor::ALL.into_iter().filter(|tensor| tensor.is_in(&self.blocks)) {
                let (rows, cols) = match tensor {
                    LayerTensor::AttentionNorm
                    | LayerTensor::AttentionNormBias
                    | LayerTensor::OBias
                    | LayerTensor::MlpNorm
                    | LayerTensor::MlpNormBias
                    | LayerTensor::DownBias => (1, self.hidden),
                    LayerTensor::Q => (query, self.hidden),
                    LayerTensor::K | LayerTensor::V => (key, self.hidden),
                    LayerTensor::QBias => (1, query),
                    LayerTensor::KBias | LayerTensor::VBias => (1, key),
                    LayerTensor::QNorm | LayerTensor::KNorm => (1, self.head_dim),
                    LayerTensor::O => (self.hidden, query),
                    LayerTensor::Gate | LayerTensor::Up => (self.channels, self.hidden),
                    LayerTensor::UpBias => (1, self.channels),
                    LayerTensor::Down => (self.hidden, self.channels),
                };
                add(TensorRole::Layer(layer, tensor), rows, cols);
            }
        }
        if self.blocks.norms != Norms::LayerBehind {
            add(TensorRole::OutputNorm, 1, self.hidden);
        }
        if self.blocks.norms == Norms::LayerBefore {
            add(TensorRole::OutputNormBias, 1, self.hidden);
        }
        if self.embedded.is_some() {
            add(TensorRole::ProjectOut, embedded, self.hidden);
        }
        if !self.tied {
            add(TensorRole::Output, self.vocab, embedded);
        }
        tensors
    }

    /// The weights as the files hold them: one behind the other in one tensor where the family has them so.
    fn stored(&self) -> Vec<TinyTensor> {
        let mut stored: Vec<TinyTensor> = Vec::new();
        for tensor in self.tensors() {
            use LayerTensor::{Gate, K, Q, Up, V};
            match (tensor.role, stored.last_mut()) {
                (TensorRole::Layer(_, K | V | Up), Some(first)) if self.blocks.fused => {
                    first.rows += tensor.rows;
                    first.values.extend(tensor.values);
                    first.drawn.extend(tensor.drawn);
                }
                (TensorRole::Layer(_, Q | Gate), _) => stored.push(TinyTensor { fused: self.blocks.fused, ..tensor }),
                _ => stored.push(tensor),
            }
        }
        stored
    }

    fn positions_offset(&self) -> Option<usize> {
        Family::by_gguf(self.architecture).expect("a family").position_offset
    }

    fn norm_kind(&self) -> TensorType {
        match self.kind {
            TensorType::F16 | TensorType::BF16 => self.kind,
            _ => TensorType::F32,
        }
    }

    /// The GGUF file as plain data, to be bent or written.
    pub fn gguf(&self) -> GgufWriter {
        let mut file = GgufWriter::default();
        let layout = Family::by_gguf(self.architecture).expect("a family").gguf_layout;
        let own = |name: &str| format!("{}.{name}", self.architecture);
        let number = |value: usize| Meta::U32(value as u32);
        let epsilon = match self.blocks.norms {
            Norms::Rms => "attention.layer_norm_rms_epsilon",
            Norms::LayerBefore | Norms::LayerBehind => "attention.layer_norm_epsilon",
        };
        file.set("general.architecture", Meta::Text(self.architecture.into()))
            .set("general.name", Meta::Text("tiny".into()))
            .set(&own("block_count"), number(self.layers))
            .set(&own("context_length"), number(POSITIONS))
            .set(&own("embedding_length"), number(self.hidden))
            .set(&own("feed_forward_length"), number(self.channels))
            .set(&own("attention.head_count"), number(self.heads))
            .set(&own("attention.head_count_kv"), number(self.kv_heads))
            .set(&own("attention.key_length"), number(self.head_dim))
            .set(&own("attention.value_length"), number(self.head_dim))
            .set(&own(epsilon), Meta::F32(RMS_NORM_EPS))
            .set(&own("rope.freq_base"), Meta::F32(ROPE_THETA))
            .set(&own("rope.dimension_count"), number(self.head_dim))
            .set(&own("vocab_size"), number(self.vocab))
            .set("tokenizer.ggml.model", Meta::Text("gpt2".into()))
            .set("tokenizer.ggml.pre", Meta::Text("gpt-2".into()))
            .set("tokenizer.ggml.tokens", Meta::Texts(tiny_vocabulary::tokens(self.vocab)))
            .set("tokenizer.ggml.token_type", Meta::I32s(tiny_vocabulary::token_types(self.vocab)))
            .set("tokenizer.ggml.merges", Meta::Texts(tiny_vocabulary::MERGES.map(String::from).to_vec()))
            .set("tokenizer.ggml.bos_token_id", Meta::U32(tiny_vocabulary::IM_START))
            .set("tokenizer.ggml.eos_token_id", Meta::U32(tiny_vocabulary::END_OF_TEXT))
            .set("tokenizer.ggml.add_bos_token", Meta::Bool(false))
            .set("tokenizer.chat_template", Meta::Text(tiny_vocabulary::CHAT_TEMPLATE.into()));
        if let Some(window) = self.blocks.sliding_window {
            file.set(&own("attention.sliding_window"), number(window));
        }
        for tensor in self.stored() {
            // llama.cpp's converter keeps norms in F32, whatever the type of the matrices.
            let kind = if tensor.rows == 1 { TensorType::F32 } else { self.kind };
            let values = match tensor.role {
                TensorRole::Layer(_, LayerTensor::Q | LayerTensor::K) if layout == RopeLayout::Adjacent => {
                    self.to_adjacent(&tensor)
                }
                _ if tensor.rows == 1 => tensor.values.clone(),
                _ => tensor.drawn.clone(),
            };
            let ne = match tensor.rows {
                1 => vec![tensor.cols as u64],
                rows => vec![tensor.cols as u64, rows as u64],
            };
            file.tensors.push(raw(&tensor.gguf_name(), kind, ne, &values));
        }
        match self.config(RopeLayout::Adjacent).rope_scaling {
            Some(RopeScaling::Linear { factor }) => {
                file.set(&own("rope.scaling.type"), Meta::Text("linear".into()));
                file.set(&own("rope.scaling.factor"), Meta::F32(factor));
            }
            Some(RopeScaling::Factors(factors)) => {
                let ne = vec![factors.len() as u64];
                file.tensors.push(raw("rope_freqs.weight", TensorType::F32, ne, &factors));
            }
            Some(RopeScaling::Llama3 { .. }) | None => {}
        }
        file
    }

    /// Rows of q or k in GGUF's order: what were elements `i` and `i + d / 2` of a head become neighbours.
    fn to_adjacent(&self, tensor: &TinyTensor) -> Vec<f32> {
        let (half, cols) = (self.head_dim / 2, tensor.cols);
        (0..tensor.rows)
            .flat_map(|row| {
                let (head, within) = (row / self.head_dim, row % self.head_dim);
                let source = head * self.head_dim + within / 2 + within % 2 * half;
                tensor.drawn[source * cols..(source + 1) * cols].to_vec()
            })
            .collect()
    }

    /// The folder's `config.json`.
    pub fn hf_config(&self) -> Value {
        let scaling = match &self.rope_scaling {
            None => Value::Null,
            Some(RopeScaling::Linear { factor }) => json!({"rope_type": "linear", "factor": factor}),
            Some(RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            }) => {
                json!({"rope_type": "llama3", "factor": factor, "low_freq_factor": low_freq_factor,
                       "high_freq_factor": high_freq_factor,
                       "original_max_position_embeddings": original_max_position_embeddings})
            }
            Some(RopeScaling::Factors(_)) => panic!("a Hugging Face folder has no rope factors"),
        };
        json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "_name_or_path": "tiny", "hidden_act": "silu",
            "hidden_size": self.hidden, "intermediate_size": self.channels, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads, "head_dim": self.head_dim,
            "vocab_size": self.vocab, "rms_norm_eps": RMS_NORM_EPS, "rope_theta": ROPE_THETA, "rope_scaling": scaling,
            "max_position_embeddings": POSITIONS, "tie_word_embeddings": self.tied, "attention_bias": false,
            "mlp_bias": false, "bos_token_id": tiny_vocabulary::IM_START, "eos_token_id": tiny_vocabulary::END_OF_TEXT,
            "torch_dtype": "float32",
        })
    }
}

/// Writes the model as a GGUF file.
pub fn write_gguf(path: &Path, spec: &TinySpec) {
    fs::write(path, spec.gguf().to_bytes()).expect("write a GGUF file");
}

/// Writes a LLaMA as a Hugging Face folder, which is created.
pub fn write_hf_folder(dir: &Path, spec: &TinySpec) {
    write_hf_folder_with(dir, spec, &spec.hf_config());
}

/// Writes the model as a Hugging Face folder with this `config.json`.
pub fn write_hf_folder_with(dir: &Path, spec: &TinySpec, config: &Value) {
    fs::create_dir_all(dir).expect("create a folder");
    let write_json = |name: &str, value: &Value| fs::write(dir.join(name), value.to_string()).expect("write JSON");
    write_json("config.json", config);
    write_json("tokenizer.json", &tiny_vocabulary::tokenizer_json(spec.vocab));
    write_json(
        "tokenizer_config.json",
        &json!({"chat_template": tiny_vocabulary::CHAT_TEMPLATE, "bos_token": {"content": "<|im_start|>"},
                "eos_token": "<|endoftext|>", "add_bos_token": false}),
    );
    write_json("generation_config.json", &json!({"eos_token_id": [tiny_vocabulary::END_OF_TEXT]}));
    let tensors = spec.stored();
    let kind = spec.norm_kind();
    if !spec.sharded {
        write_safetensors(&dir.join("model.safetensors"), kind, &tensors);
        return;
    }
    let (first, second) = tensors.split_at(tensors.len() / 2);
    let mut weight_map = serde_json::Map::new();
    for (number, part) in [first, second].into_iter().enumerate() {
        let name = format!("model-{:05}-of-00002.safetensors", number + 1);
        write_safetensors(&dir.join(&name), kind, part);
        weight_map.extend(part.iter().map(|tensor| (tensor.hf_name(), json!(name))));
    }
    write_json("model.safetensors.index.json", &json!({"metadata": {}, "weight_map": weight_map}));
}

/// Writes a safetensors file; a tensor of one row is a vector there.
pub fn write_safetensors(path: &Path, kind: TensorType, tensors: &[TinyTensor]) {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for tensor in tensors {
        let start = data.len();
        data.extend(quantise::encode(kind, &tensor.values));
        let shape = if tensor.rows == 1 { vec![tensor.cols] } else { vec![tensor.rows, tensor.cols] };
        let entry = json!({"dtype": kind.name(), "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(tensor.hf_name(), entry);
    }
    let header = Value::Object(header).to_string().into_bytes();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(data);
    fs::write(path, bytes).expect("write a safetensors file");
}

impl TinyTensor {
    /// Its name in GGUF.
    pub fn gguf_name(&self) -> String {
        let name = gguf_name(self.role);
        match self.fused {
            true => name.replace("attn_q.", "attn_qkv.").replace("ffn_gate.", "ffn_up."),
            false => name,
        }
    }

    /// Its name in a Hugging Face folder.
    pub fn hf_name(&self) -> String {
        let name = if self.of_opt { opt_name(self.role) } else { hf_name(self.role) };
        match self.fused {
            true => name.replace(".q_proj.", ".qkv_proj.").replace(".gate_proj.", ".gate_up_proj."),
            false => name,
        }
    }
}

fn raw(name: &str, kind: TensorType, ne: Vec<u64>, values: &[f32]) -> RawTensor {
    RawTensor { name: name.into(), ne, type_id: type_id(kind), data: quantise::encode(kind, values), offset: None }
}

/// GGML's number of a type that tests write.
pub fn type_id(kind: TensorType) -> u32 {
    (0..64).find(|&id| TensorType::from_ggml_id(id) == Some(kind)).expect("a type of GGML")
}

/// The tensor's name in GGUF.
pub fn gguf_name(role: TensorRole) -> String {
    match role {
        TensorRole::TokenEmbedding => "token_embd.weight".into(),
        TensorRole::PositionEmbedding => "position_embd.weight".into(),
        TensorRole::ProjectIn => "project_in.weight".into(),
        TensorRole::ProjectOut => "project_out.weight".into(),
        TensorRole::OutputNorm => "output_norm.weight".into(),
        TensorRole::OutputNormBias => "output_norm.bias".into(),
        TensorRole::Output => "output.weight".into(),
        TensorRole::RopeFactors => "rope_freqs.weight".into(),
        TensorRole::Layer(layer, tensor) => {
            let stem = match tensor {
                LayerTensor::AttentionNorm => "attn_norm.weight",
                LayerTensor::AttentionNormBias => "attn_norm.bias",
                LayerTensor::OBias => "attn_output.bias",
                LayerTensor::MlpNormBias => "ffn_norm.bias",
                LayerTensor::UpBias => "ffn_up.bias",
                LayerTensor::DownBias => "ffn_down.bias",
                LayerTensor::Q => "attn_q.weight",
                LayerTensor::K => "attn_k.weight",
                LayerTensor::V => "attn_v.weight",
                LayerTensor::QBias => "attn_q.bias",
                LayerTensor::KBias => "attn_k.bias",
                LayerTensor::VBias => "attn_v.bias",
                LayerTensor::QNorm => "attn_q_norm.weight",
                LayerTensor::KNorm => "attn_k_norm.weight",
                LayerTensor::O => "attn_output.weight",
                LayerTensor::MlpNorm => "ffn_norm.weight",
                LayerTensor::Gate => "ffn_gate.weight",
                LayerTensor::Up => "ffn_up.weight",
                LayerTensor::Down => "ffn_down.weight",
            };
            format!("blk.{layer}.{stem}")
        }
    }
}

/// The tensor's name in a Hugging Face folder.
pub fn hf_name(role: TensorRole) -> String {
    match role {
        TensorRole::TokenEmbedding => "model.embed_tokens.weight".into(),
        TensorRole::OutputNorm => "model.norm.weight".into(),
        TensorRole::Output => "lm_head.weight".into(),
        TensorRole::Layer(layer, tensor) => {
            let stem = match tensor {
                LayerTensor::AttentionNorm => "input_layernorm.weight",
                LayerTensor::Q => "self_attn.q_proj.weight",
                LayerTensor::K => "self_attn.k_proj.weight",
                LayerTensor::V => "self_attn.v_proj.weight",
                LayerTensor::QBias => "self_attn.q_proj.bias",
                LayerTensor::KBias => "self_attn.k_proj.bias",
                LayerTensor::VBias => "self_attn.v_proj.bias",
                LayerTensor::QNorm => "self_attn.q_norm.weight",
                LayerTensor::KNorm => "self_attn.k_norm.weight",
                LayerTensor::O => "self_attn.o_proj.weight",
                LayerTensor::MlpNorm => "post_attention_layernorm.weight",
                LayerTensor::Gate => "mlp.gate_proj.weight",
                LayerTensor::Up => "mlp.up_proj.weight",
                LayerTensor::Down => "mlp.down_proj.weight",
                other => panic!("a LLaMA in a Hugging Face folder has no {other:?}"),
            };
            format!("model.layers.{layer}.{stem}")
        }
        other => panic!("a LLaMA in a Hugging Face folder has no {other:?}"),
    }
}

/// The name of a tensor of OPT in a Hugging Face folder.
pub fn opt_name(role: TensorRole) -> String {
    let stem = match role {
        TensorRole::TokenEmbedding => "embed_tokens.weight".into(),
        TensorRole::PositionEmbedding => "embed_positions.weight".into(),
        TensorRole::ProjectIn => "project_in.weight".into(),
        TensorRole::ProjectOut => "project_out.weight".into(),
        TensorRole::OutputNorm => "final_layer_norm.weight".into(),
        TensorRole::OutputNormBias => "final_layer_norm.bias".into(),
        TensorRole::Output => return "lm_head.weight".into(),
        TensorRole::Layer(layer, tensor) => {
            let stem = match tensor {
                LayerTensor::AttentionNorm => "self_attn_layer_norm.weight",
                LayerTensor::AttentionNormBias => "self_attn_layer_norm.bias",
                LayerTensor::Q => "self_attn.q_proj.weight",
                LayerTensor::K => "self_attn.k_proj.weight",
                LayerTensor::V => "self_attn.v_proj.weight",
                LayerTensor::QBias => "self_attn.q_proj.bias",
                LayerTensor::KBias => "self_attn.k_proj.bias",
                LayerTensor::VBias => "self_attn.v_proj.bias",
                LayerTensor::O => "self_attn.out_proj.weight",
                LayerTensor::OBias => "self_attn.out_proj.bias",
                LayerTensor::MlpNorm => "final_layer_norm.weight",
                LayerTensor::MlpNormBias => "final_layer_norm.bias",
                LayerTensor::Up => "fc1.weight",
                LayerTensor::UpBias => "fc1.bias",
                LayerTensor::Down => "fc2.weight",
                LayerTensor::DownBias => "fc2.bias",
                other => panic!("an OPT has no {other:?}"),
            };
            format!("layers.{layer}.{stem}")
        }
        other => panic!("an OPT has no {other:?}"),
    };
    format!("model.decoder.{stem}")
}

/// Whether it is what is added, a shift of a norm too.
fn is_bias(role: TensorRole) -> bool {
    use LayerTensor::{AttentionNormBias, DownBias, KBias, MlpNormBias, OBias, QBias, UpBias, VBias};
    let of_layer =
        |tensor| matches!(tensor, QBias | KBias | VBias | OBias | UpBias | DownBias | AttentionNormBias | MlpNormBias);
    match role {
        TensorRole::Layer(_, tensor) => of_layer(tensor),
        other => other == TensorRole::OutputNormBias,
    }
}

/// A small generator (splitmix64), so that the same seed gives the same model for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in [-1, 1).
    fn symmetric(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}
