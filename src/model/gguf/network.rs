//! What the metadata of a model in GGUF says about the network and about text.

use super::Gguf;
use crate::config::{Family, GgufVocabulary, ModelConfig, Norms, RopeScaling, TextSource, TokenizerSource};
use crate::error::{Error, Result};
use crate::model::tensor::{TensorEntry, TensorType};

/// GGUF's way to write "no such token".
const NO_TOKEN: u64 = u32::MAX as u64;
/// Control tokens that end a turn, which some converters forget to name in the metadata.
const END_OF_TURN: [&str; 3] = ["<|im_end|>", "<|eot_id|>", "<|end|>"];
const CONTROL: i64 = 3;
/// Divisors of the rotary frequencies by length of the context.
const LONG_ROPE: [&str; 2] = ["rope_factors_long.weight", "rope_factors_short.weight"];
const ROPE_SCALINGS: &str = "none, linear, rope_freqs.weight";

/// The full key of a name that the architecture stands before.
type Own<'a> = &'a dyn Fn(&str) -> String;

impl Gguf {
    /// The configuration; only its own consistency is checked here, not the tensors.
    ///
    /// # Errors
    /// [`Error::BadFile`] for what is missing or malformed, [`Error::Unsupported`] for another architecture.
    pub(in crate::model) fn model_config(&self) -> Result<ModelConfig> {
        let architecture =
            self.text("general.architecture")?.ok_or_else(|| self.missing("general.architecture"))?.to_owned();
        let Some(family) = Family::by_gguf(&architecture) else {
            return Err(unsupported("architecture", architecture, &Family::gguf_names()));
        };
        let own = |name: &str| format!("{architecture}.{name}");
        self.refuse_variants(&own)?;
        let hidden_size = self.size(&own("embedding_length"))?;
        let num_attention_heads = self.per_layer(&own("attention.head_count"))?;
        let num_key_value_heads = match self.has(&own("attention.head_count_kv")) {
            true => self.per_layer(&own("attention.head_count_kv"))?,
            false => num_attention_heads,
        };
        let head_dim = self.head_dim(&own, hidden_size, num_attention_heads)?;
        let embedding = self.tensors().get("token_embd.weight").ok_or_else(|| Error::TensorMissing {
            name: "token_embd.weight".into(),
            path: self.path().to_path_buf(),
        })?;
        let vocab_size = match self.has(&own("vocab_size")) {
            true => self.size(&own("vocab_size"))?,
            false => embedding.rows(),
        };
        let layers = self.size(&own("block_count"))?;
        // A layer has more than one tensor, so this bounds what is made by what the file holds.
        let mut blocks = family.blocks(layers.min(self.tensors().len()));
        if family.gguf_sliding_window {
            // Files write "no window" as 0.
            let window = self.unsigned(&own("attention.sliding_window"))?.filter(|&window| window > 0);
            blocks.sliding_window = window.map(|window| usize::try_from(window).unwrap_or(usize::MAX));
        }
        // What a file has not, its tensors tell: no last norm where norms follow their blocks, embeddings of another width.
        if blocks.norms == Norms::LayerBefore && !self.tensors().contains_key("output_norm.weight") {
            blocks.norms = Norms::LayerBehind;
        }
        let epsilon = own(match blocks.norms {
            Norms::Rms => "attention.layer_norm_rms_epsilon",
            Norms::LayerBefore | Norms::LayerBehind => "attention.layer_norm_epsilon",
        });
        let projects = family.position_offset.is_some() && embedding.cols() != hidden_size;
        Ok(ModelConfig {
            position_offset: family.position_offset,
            word_embed_proj_dim: projects.then_some(embedding.cols()),
            name: self.text("general.name")?.map(str::to_owned),
            hidden_size,
            intermediate_size: self.per_layer(&own("feed_forward_length"))?,
            num_hidden_layers: layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            vocab_size,
            rms_norm_eps: self.float(&epsilon)?.ok_or_else(|| self.missing(&epsilon))?,
            rope_theta: self.float(&own("rope.freq_base"))?.unwrap_or(10_000.0),
            rope_scaling: self.rope_scaling(&own, head_dim)?,
            rope_layout: family.gguf_layout,
            max_position_embeddings: self.size(&own("context_length"))?,
            tie_word_embeddings: !self.tensors().contains_key("output.weight"),
            blocks,
            architecture,
        })
    }

    /// Refuses what shares the architecture's name but computes something else.
    fn refuse_variants(&self, own: Own<'_>) -> Result<()> {
        let experts = self.unsigned(&own("expert_count"))?.unwrap_or(0);
        if experts > 0 {
            return Err(unsupported("mixture of experts", format!("{experts} experts"), "dense models"));
        }
        let parts = self.unsigned("split.count")?.unwrap_or(1);
        if parts > 1 {
            return Err(unsupported(
                "split file",
                format!("1 of {parts} parts"),
                "one whole GGUF file (join the parts with `llama-gguf-split --merge`)",
            ));
        }
        Ok(())
    }

    fn head_dim(&self, own: Own<'_>, hidden_size: usize, heads: usize) -> Result<usize> {
        let head_dim = match self.has(&own("attention.key_length")) {
            true => self.size(&own("attention.key_length"))?,
            false if heads == 0 || !hidden_size.is_multiple_of(heads) => {
                return Err(self.bad(format!("a hidden size of {hidden_size} cannot be shared by {heads} heads")));
            }
            false => hidden_size / heads,
        };
        for key in ["rope.dimension_count", "attention.value_length"].map(own) {
            if self.has(&key) && self.size(&key)? != head_dim {
                return Err(unsupported("head layout", format!("{key} {}", self.size(&key)?), &head_dim.to_string()));
            }
        }
        Ok(head_dim)
    }

    /// The scaling by metadata, or by the tensor of factors that LLaMA-3.1 files carry, or both combined.
    fn rope_scaling(&self, own: Own<'_>, head_dim: usize) -> Result<Option<RopeScaling>> {
        if let Some(name) = LONG_ROPE.into_iter().find(|&name| self.tensors().contains_key(name)) {
            return Err(unsupported("rope scaling", format!("longrope (`{name}`)"), ROPE_SCALINGS));
        }
        let kind = self.text(&own("rope.scaling.type"))?.unwrap_or("linear");
        let factor = match kind {
            "none" => 1.0,
            // Files from before the key `factor` have `scale_linear`; both may be there as 0, which means none.
            "linear" => match self.float(&own("rope.scaling.factor"))? {
                Some(factor) => factor,
                None => self.float(&own("rope.scale_linear"))?.unwrap_or(1.0),
            },
            other => return Err(unsupported("rope scaling", other.to_owned(), ROPE_SCALINGS)),
        };
        let factor = if factor == 0.0 { 1.0 } else { factor };
        if !(factor > 0.0 && factor.is_finite()) {
            return Err(self.bad(format!("{} is {factor}; it must be positive and finite", own("rope.scaling.factor"))));
        }
        Ok(match self.tensors().get("rope_freqs.weight") {
            Some(entry) => {
                let factors = self.rope_factors(entry, head_dim)?;
                Some(RopeScaling::Factors(factors.into_iter().map(|value| value * factor).collect()))
            }
            None if factor == 1.0 => None,
            None => Some(RopeScaling::Linear { factor }),
        })
    }

    fn rope_factors(&self, entry: &TensorEntry, head_dim: usize) -> Result<Vec<f32>> {
        if entry.kind != TensorType::F32 {
            return Err(unsupported("tensor type", format!("{} of `rope_freqs.weight`", entry.kind), "F32"));
        }
        if entry.rows() != 1 || entry.cols() != head_dim / 2 {
            return Err(Error::TensorShape {
                name: "rope_freqs.weight".into(),
                expected: vec![head_dim / 2],
                found: entry.shape.clone(),
            });
        }
        let (values, _) = self.tensor_bytes(entry).as_chunks::<4>();
        let factors: Vec<f32> = values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        if factors.len() != head_dim / 2 {
            return Err(self.bad("`rope_freqs.weight` lies behind what was read of the file".into()));
        }
        match factors.iter().position(|value| !(*value > 0.0 && value.is_finite())) {
            None => Ok(factors),
            Some(index) => Err(self.bad(format!(
                "`rope_freqs.weight` holds {} at element {index}; divisors of frequencies are positive and finite",
                factors.get(index).copied().unwrap_or_default()
            ))),
        }
    }

    /// The vocabulary, the template and the special tokens; `vocab_size` is the embedding's number of rows.
    ///
    /// # Errors
    /// [`Error::BadFile`] for what is missing or malformed.
    pub(in crate::model) fn text_source(&self, vocab_size: usize) -> Result<TextSource> {
        let tokens_key = "tokenizer.ggml.tokens";
        let count = self.array_len(tokens_key)?.ok_or_else(|| self.missing(tokens_key))?;
        // Compared before anything is decoded: the embedding's bytes are in the file, so its rows are a sound bound.
        if count == 0 || count > vocab_size {
            return Err(self.bad(format!("the vocabulary has {count} tokens, but the embedding has {vocab_size} rows")));
        }
        for key in ["tokenizer.ggml.scores", "tokenizer.ggml.token_type"] {
            match self.array_len(key)? {
                Some(len) if len != count => {
                    return Err(self.bad(format!("metadata `{key}` has {len} items for {count} tokens")));
                }
                _ => {}
            }
        }
        let tokens = self.texts(tokens_key)?.unwrap_or_default();
        let kinds = self.integers("tokenizer.ggml.token_type")?.unwrap_or_default();
        let text_or = |key: &str| self.text(key).map(|text| text.map(str::to_owned));
        let bos_token_id = self.token_id("tokenizer.ggml.bos_token_id", count)?;
        let eos_token_ids = self.eos_token_ids(&tokens, &kinds)?;
        let family = self.text("general.architecture")?.and_then(Family::by_gguf);
        let unknown_token_id = self.token_id("tokenizer.ggml.unknown_token_id", count)?;
        Ok(TextSource {
            chat_template: text_or("tokenizer.chat_template")?,
            chat_template_file: Some(format!("tokenizer.chat_template of {}", self.path().display())),
            bos_token_id,
            eos_token_ids,
            add_bos_token: self.bool("tokenizer.ggml.add_bos_token")?,
            tokenizer: TokenizerSource::Gguf(GgufVocabulary {
                model: text_or("tokenizer.ggml.model")?.ok_or_else(|| self.missing("tokenizer.ggml.model"))?,
                pre: text_or("tokenizer.ggml.pre")?.unwrap_or_else(|| "default".into()),
                scores: self.floats("tokenizer.ggml.scores")?.unwrap_or_default(),
                // A kind outside i32 is none that anyone defines; it is kept apart from the real ones.
                token_types: kinds.into_iter().map(|kind| i32::try_from(kind).unwrap_or(i32::MAX)).collect(),
                merges: self.texts("tokenizer.ggml.merges")?.unwrap_or_default(),
                tokens,
                unknown_token_id,
                add_space_prefix: self.bool("tokenizer.ggml.add_space_prefix")?,
                special_rstrip: family.is_some_and(|family| family.special_rstrip),
            }),
        })
    }

    fn eos_token_ids(&self, tokens: &[String], kinds: &[i64]) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"] {
            ids.extend(self.token_id(key, tokens.len())?);
        }
        let by_name = tokens.iter().enumerate().filter(|(id, token)| {
            END_OF_TURN.contains(&token.as_str()) && kinds.get(*id).is_none_or(|&kind| kind == CONTROL)
        });
        ids.extend(by_name.filter_map(|(id, _)| u32::try_from(id).ok()));
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// A token's id; `None` where the key is absent or names no token of the vocabulary.
    fn token_id(&self, key: &str, count: usize) -> Result<Option<u32>> {
        let id = self.unsigned(key)?.filter(|&id| id != NO_TOKEN && id < count as u64);
        Ok(id.and_then(|id| u32::try_from(id).ok()))
    }

    fn size(&self, key: &str) -> Result<usize> {
        let value = self.unsigned(key)?.ok_or_else(|| self.missing(key))?;
        usize::try_from(value).map_err(|_| self.bad(format!("metadata `{key}` is {value}, too large")))
    }

    /// A size that may be written once for each layer, as long as all layers agree.
    fn per_layer(&self, key: &str) -> Result<usize> {
        let Ok(Some(len)) = self.array_len(key) else {
            return self.size(key);
        };
        // A layer has more than one tensor, so this bounds what is decoded by what the file holds.
        if len == 0 || len > self.tensors().len() {
            return Err(self.bad(format!("metadata `{key}` has {len} items for {} tensors", self.tensors().len())));
        }
        let values = self.integers(key)?.unwrap_or_default();
        match values.split_first() {
            Some((first, rest)) if rest.iter().all(|value| value == first) => {
                usize::try_from(*first).map_err(|_| self.bad(format!("metadata `{key}` is {first}")))
            }
            _ => Err(unsupported("layer layout", format!("{key} that differs between layers"), "one value for all")),
        }
    }

    fn missing(&self, key: &str) -> Error {
        self.bad(format!("metadata `{key}` is missing"))
    }
}

fn unsupported(what: &'static str, name: String, supported: &str) -> Error {
    Error::Unsupported { what, name, supported: supported.into() }
}
