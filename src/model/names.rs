//! How the two file conventions name the tensors of a model.

use super::tensor::{LayerTensor, TensorRole};

/// Whose names a file uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Convention {
    Gguf,
    HuggingFace,
}

/// Tensors that old converters wrote and that follow from the configuration: ignored.
const REDUNDANT: [&str; 2] = ["rotary_emb.inv_freq", "attn_rot_embd.weight"];

impl Convention {
    /// The name of the tensor that holds `role`, whole or with what is `fused` with it; `None` where the convention has no such
    /// tensor.
    pub fn name(self, role: TensorRole, fused: bool) -> Option<String> {
        Some(match (self, role) {
            (Convention::Gguf, TensorRole::TokenEmbedding) => "token_embd.weight".into(),
            (Convention::Gguf, TensorRole::OutputNorm) => "output_norm.weight".into(),
            (Convention::Gguf, TensorRole::Output) => "output.weight".into(),
            (Convention::Gguf, TensorRole::RopeFactors) => "rope_freqs.weight".into(),
            (Convention::HuggingFace, TensorRole::TokenEmbedding) => "model.embed_tokens.weight".into(),
            (Convention::HuggingFace, TensorRole::OutputNorm) => "model.norm.weight".into(),
            (Convention::HuggingFace, TensorRole::Output) => "lm_head.weight".into(),
            (Convention::HuggingFace, TensorRole::RopeFactors) => return None,
            (Convention::Gguf, TensorRole::Layer(index, tensor)) => {
                format!("blk.{index}.{}", self.layer_name(tensor, fused))
            }
            (Convention::HuggingFace, TensorRole::Layer(index, tensor)) => {
                format!("model.layers.{index}.{}", self.layer_name(tensor, fused))
            }
        })
    }

    /// Whether a tensor of this name may be left unread without changing what the model computes.
    pub fn is_redundant(name: &str) -> bool {
        REDUNDANT.iter().any(|suffix| name.ends_with(suffix))
    }

    fn layer_name(self, tensor: LayerTensor, fused: bool) -> &'static str {
        let (gguf, hugging_face) = match tensor {
            LayerTensor::Q | LayerTensor::K | LayerTensor::V if fused => {
                ("attn_qkv.weight", "self_attn.qkv_proj.weight")
            }
            LayerTensor::Gate | LayerTensor::Up if fused => ("ffn_up.weight", "mlp.gate_up_proj.weight"),
            LayerTensor::AttentionNorm => ("attn_norm.weight", "input_layernorm.weight"),
            LayerTensor::Q => ("attn_q.weight", "self_attn.q_proj.weight"),
            LayerTensor::K => ("attn_k.weight", "self_attn.k_proj.weight"),
            LayerTensor::V => ("attn_v.weight", "self_attn.v_proj.weight"),
            LayerTensor::QBias => ("attn_q.bias", "self_attn.q_proj.bias"),
            LayerTensor::KBias => ("attn_k.bias", "self_attn.k_proj.bias"),
            LayerTensor::VBias => ("attn_v.bias", "self_attn.v_proj.bias"),
            LayerTensor::QNorm => ("attn_q_norm.weight", "self_attn.q_norm.weight"),
            LayerTensor::KNorm => ("attn_k_norm.weight", "self_attn.k_norm.weight"),
            LayerTensor::O => ("attn_output.weight", "self_attn.o_proj.weight"),
            LayerTensor::MlpNorm => ("ffn_norm.weight", "post_attention_layernorm.weight"),
            LayerTensor::Gate => ("ffn_gate.weight", "mlp.gate_proj.weight"),
            LayerTensor::Up => ("ffn_up.weight", "mlp.up_proj.weight"),
            LayerTensor::Down => ("ffn_down.weight", "mlp.down_proj.weight"),
        };
        match self {
            Convention::Gguf => gguf,
            Convention::HuggingFace => hugging_face,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_role_has_a_name_of_its_own() {
        for convention in [Convention::Gguf, Convention::HuggingFace] {
            let names = |fused: bool| -> BTreeSet<String> {
                let roles = LayerTensor::ALL.map(|tensor| TensorRole::Layer(17, tensor));
                let outside =
                    [TensorRole::TokenEmbedding, TensorRole::OutputNorm, TensorRole::Output, TensorRole::RopeFactors];
                roles.into_iter().chain(outside).filter_map(|role| convention.name(role, fused)).collect()
            };
            let outside = if convention == Convention::Gguf { 4 } else { 3 };
            assert_eq!(names(false).len(), LayerTensor::ALL.len() + outside);
            // q, k and v share one name, gate and up another.
            assert_eq!(names(true).len(), LayerTensor::ALL.len() + outside - 3);
        }
    }
}
