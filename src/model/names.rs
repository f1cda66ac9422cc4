//! How the two file conventions name the tensors of a LLaMA, in both directions.
//!
//! Invariant: a name that stands for a role in a convention is the name that the role has there.

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
    /// The name of `role`; `None` where the convention has no such tensor.
    pub fn name(self, role: TensorRole) -> Option<String> {
        Some(match (self, role) {
            (Convention::Gguf, TensorRole::TokenEmbedding) => "token_embd.weight".into(),
            (Convention::Gguf, TensorRole::OutputNorm) => "output_norm.weight".into(),
            (Convention::Gguf, TensorRole::Output) => "output.weight".into(),
            (Convention::Gguf, TensorRole::RopeFactors) => "rope_freqs.weight".into(),
            (Convention::HuggingFace, TensorRole::TokenEmbedding) => "model.embed_tokens.weight".into(),
            (Convention::HuggingFace, TensorRole::OutputNorm) => "model.norm.weight".into(),
            (Convention::HuggingFace, TensorRole::Output) => "lm_head.weight".into(),
            (Convention::HuggingFace, TensorRole::RopeFactors) => return None,
            (_, TensorRole::Layer(index, tensor)) => {
                format!("{}{index}.{}.weight", self.layer_prefix(), self.layer_stem(tensor))
            }
        })
    }

    /// The role that `name` stands for, whatever the layer's index.
    pub fn role(self, name: &str) -> Option<TensorRole> {
        const OUTSIDE: [TensorRole; 4] =
            [TensorRole::TokenEmbedding, TensorRole::OutputNorm, TensorRole::Output, TensorRole::RopeFactors];
        if let Some(role) = OUTSIDE.into_iter().find(|&role| self.name(role).as_deref() == Some(name)) {
            return Some(role);
        }
        let (index, rest) = name.strip_prefix(self.layer_prefix())?.split_once('.')?;
        let stem = rest.strip_suffix(".weight")?;
        let tensor = LayerTensor::ALL.into_iter().find(|&tensor| self.layer_stem(tensor) == stem)?;
        // `parse` takes "+1" and "01" too, which are no names.
        let number: usize = index.parse().ok()?;
        (number.to_string() == index).then_some(TensorRole::Layer(number, tensor))
    }

    /// Whether a tensor of this name may be left unread without changing what the model computes.
    pub fn is_redundant(name: &str) -> bool {
        REDUNDANT.iter().any(|suffix| name.ends_with(suffix))
    }

    fn layer_prefix(self) -> &'static str {
        match self {
            Convention::Gguf => "blk.",
            Convention::HuggingFace => "model.layers.",
        }
    }

    fn layer_stem(self, tensor: LayerTensor) -> &'static str {
        let (gguf, hugging_face) = match tensor {
            LayerTensor::AttentionNorm => ("attn_norm", "input_layernorm"),
            LayerTensor::Q => ("attn_q", "self_attn.q_proj"),
            LayerTensor::K => ("attn_k", "self_attn.k_proj"),
            LayerTensor::V => ("attn_v", "self_attn.v_proj"),
            LayerTensor::O => ("attn_output", "self_attn.o_proj"),
            LayerTensor::MlpNorm => ("ffn_norm", "post_attention_layernorm"),
            LayerTensor::Gate => ("ffn_gate", "mlp.gate_proj"),
            LayerTensor::Up => ("ffn_up", "mlp.up_proj"),
            LayerTensor::Down => ("ffn_down", "mlp.down_proj"),
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

    #[test]
    fn every_name_leads_back_to_its_role() {
        for convention in [Convention::Gguf, Convention::HuggingFace] {
            let layer = LayerTensor::ALL.map(|tensor| TensorRole::Layer(17, tensor));
            let outside =
                [TensorRole::TokenEmbedding, TensorRole::OutputNorm, TensorRole::Output, TensorRole::RopeFactors];
            for role in layer.into_iter().chain(outside) {
                if let Some(name) = convention.name(role) {
                    assert_eq!(convention.role(&name), Some(role), "{name}");
                }
            }
        }
    }

    #[test]
    fn lookalikes_have_no_role() {
        for name in ["blk.01.attn_q.weight", "blk.+1.attn_q.weight", "blk.1.attn_q.bias", "blk..attn_q.weight", ""] {
            assert_eq!(Convention::Gguf.role(name), None, "{name}");
        }
    }
}
