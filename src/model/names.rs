//! How the two file conventions name the tensors of a model.

use super::tensor::{LayerTensor, TensorRole};
use crate::config::ModelConfig;

/// Whose names a file uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Convention {
    Gguf,
    HuggingFace,
    /// Hugging Face's names of OPT's tensors.
    HuggingFaceOpt,
}

/// Tensors that old converters wrote and that follow from the configuration: ignored.
const REDUNDANT: [&str; 2] = ["rotary_emb.inv_freq", "attn_rot_embd.weight"];

impl Convention {
    /// Of a Hugging Face folder of this model.
    pub fn of_folder(config: &ModelConfig) -> Convention {
        match config.architecture.as_str() {
            "opt" => Convention::HuggingFaceOpt,
            _ => Convention::HuggingFace,
        }
    }

    /// The name of the tensor that holds `role`, whole or with what is `fused` with it; `None` where the convention has no such
    /// tensor.
    pub fn name(self, role: TensorRole, fused: bool) -> Option<String> {
        let layer = match self {
            Convention::Gguf => "blk",
            Convention::HuggingFace => "model.layers",
            Convention::HuggingFaceOpt => "model.decoder.layers",
        };
        match role {
            TensorRole::Layer(index, tensor) => Some(format!("{layer}.{index}.{}", self.layer_name(tensor, fused)?)),
            _ => self.end_name(role).map(str::to_owned),
        }
    }

    /// Of a tensor in front of the layers or behind them.
    fn end_name(self, role: TensorRole) -> Option<&'static str> {
        let names = match role {
            TensorRole::TokenEmbedding => {
                ["token_embd.weight", "model.embed_tokens.weight", "model.decoder.embed_tokens.weight"]
            }
            TensorRole::PositionEmbedding => ["position_embd.weight", "", "model.decoder.embed_positions.weight"],
            TensorRole::ProjectIn => ["project_in.weight", "", "model.decoder.project_in.weight"],
            TensorRole::OutputNorm => {
                ["output_norm.weight", "model.norm.weight", "model.decoder.final_layer_norm.weight"]
            }
            TensorRole::OutputNormBias => ["output_norm.bias", "", "model.decoder.final_layer_norm.bias"],
            TensorRole::ProjectOut => ["project_out.weight", "", "model.decoder.project_out.weight"],
            TensorRole::Output => ["output.weight", "lm_head.weight", "lm_head.weight"],
            TensorRole::RopeFactors => ["rope_freqs.weight", "", ""],
            TensorRole::Layer(..) => return None,
        };
        Some(names[self as usize]).filter(|name| !name.is_empty())
    }

    /// Whether a tensor of this name may be left unread without changing what the model computes.
    pub fn is_redundant(name: &str) -> bool {
        REDUNDANT.iter().any(|suffix| name.ends_with(suffix))
    }

    /// Of a layer's tensor, without the layer.
    fn layer_name(self, tensor: LayerTensor, fused: bool) -> Option<&'static str> {
        let names = match tensor {
            LayerTensor::Q | LayerTensor::K | LayerTensor::V if fused => {
                ["attn_qkv.weight", "self_attn.qkv_proj.weight", ""]
            }
            LayerTensor::Gate | LayerTensor::Up if fused => ["ffn_up.weight", "mlp.gate_up_proj.weight", ""],
            LayerTensor::AttentionNorm => ["attn_norm.weight", "input_layernorm.weight", "self_attn_layer_norm.weight"],
            LayerTensor::AttentionNormBias => ["attn_norm.bias", "", "self_attn_layer_norm.bias"],
            LayerTensor::Q => ["attn_q.weight", "self_attn.q_proj.weight", "self_attn.q_proj.weight"],
            LayerTensor::K => ["attn_k.weight", "self_attn.k_proj.weight", "self_attn.k_proj.weight"],
            LayerTensor::V => ["attn_v.weight", "self_attn.v_proj.weight", "self_attn.v_proj.weight"],
            LayerTensor::QBias => ["attn_q.bias", "self_attn.q_proj.bias", "self_attn.q_proj.bias"],
            LayerTensor::KBias => ["attn_k.bias", "self_attn.k_proj.bias", "self_attn.k_proj.bias"],
            LayerTensor::VBias => ["attn_v.bias", "self_attn.v_proj.bias", "self_attn.v_proj.bias"],
            LayerTensor::QNorm => ["attn_q_norm.weight", "self_attn.q_norm.weight", ""],
            LayerTensor::KNorm => ["attn_k_norm.weight", "self_attn.k_norm.weight", ""],
            LayerTensor::O => ["attn_output.weight", "self_attn.o_proj.weight", "self_attn.out_proj.weight"],
            LayerTensor::OBias => ["attn_output.bias", "", "self_attn.out_proj.bias"],
            LayerTensor::MlpNorm => ["ffn_norm.weight", "post_attention_layernorm.weight", "final_layer_norm.weight"],
            LayerTensor::MlpNormBias => ["ffn_norm.bias", "", "final_layer_norm.bias"],
            LayerTensor::Gate => ["ffn_gate.weight", "mlp.gate_proj.weight", ""],
            LayerTensor::Up => ["ffn_up.weight", "mlp.up_proj.weight", "fc1.weight"],
            LayerTensor::UpBias => ["ffn_up.bias", "", "fc1.bias"],
            LayerTensor::Down => ["ffn_down.weight", "mlp.down_proj.weight", "fc2.weight"],
            LayerTensor::DownBias => ["ffn_down.bias", "", "fc2.bias"],
        };
        Some(names[self as usize]).filter(|name| !name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_role_has_a_name_of_its_own() {
        let ends = [
            TensorRole::TokenEmbedding,
            TensorRole::PositionEmbedding,
            TensorRole::ProjectIn,
            TensorRole::OutputNorm,
            TensorRole::OutputNormBias,
            TensorRole::ProjectOut,
            TensorRole::Output,
            TensorRole::RopeFactors,
        ];
        let roles = || LayerTensor::ALL.map(|tensor| TensorRole::Layer(17, tensor)).into_iter().chain(ends);
        let named = |convention: Convention, fused: bool| -> Vec<String> {
            roles().filter_map(|role| convention.name(role, fused)).collect()
        };
        for (convention, count) in [
            (Convention::Gguf, LayerTensor::ALL.len() + ends.len()),
            // Without the biases of norms, of o and of the MLP, positions, projections and factors.
            (Convention::HuggingFace, LayerTensor::ALL.len() + ends.len() - 10),
            // Without norms of heads, gate and factors.
            (Convention::HuggingFaceOpt, LayerTensor::ALL.len() + ends.len() - 4),
        ] {
            let names = named(convention, false);
            assert_eq!((names.len(), BTreeSet::from_iter(&names).len()), (count, count), "{convention:?}");
        }
        for convention in [Convention::Gguf, Convention::HuggingFace] {
            // q, k and v share one name, gate and up another.
            let distinct = BTreeSet::from_iter(named(convention, true)).len();
            assert_eq!(distinct, named(convention, false).len() - 3, "{convention:?}");
        }
    }
}
