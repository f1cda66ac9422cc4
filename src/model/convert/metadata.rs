//! The metadata of a GGUF file that is made: a GGUF source's own, or what follows from a Hugging Face folder.

use super::Recipe;
use crate::config::{FAMILIES, GgufVocabulary, ModelConfig, Norms, RopeLayout, RopeScaling, TextSource};
use crate::error::{Error, Result};
use crate::model::ModelFiles;
use crate::model::gguf::Gguf;
use crate::model::gguf::writer::Metadata;
use std::path::Path;

/// Tokens that end a turn, which readers of GGUF files find by their names.
const END_OF_TURN: [&str; 3] = ["<|im_end|>", "<|eot_id|>", "<|end|>"];

/// What a file has beside its tensors.
pub struct Words<'a> {
    /// The vocabulary as GGUF has it.
    pub vocabulary: &'a GgufVocabulary,
    /// Template and special tokens.
    pub text: &'a TextSource,
    /// Whether the model wants its first token before every text.
    pub adds_bos: bool,
}

/// `general.architecture` of a model's GGUF files, and how q and k lie there.
pub(super) fn target(config: &ModelConfig) -> (&'static str, RopeLayout) {
    let family = config.family().unwrap_or(&FAMILIES[0]);
    // A family whose files go by another's name goes by LLaMA's.
    (family.gguf.or(FAMILIES[0].gguf).unwrap_or_default(), family.gguf_layout)
}

/// Refuses what the keys of the family's GGUF files cannot say.
fn check(config: &ModelConfig) -> Result<()> {
    let refuse = |name: String, supported: &str| {
        Err(Error::Unsupported { what: "in a GGUF file", name, supported: supported.into() })
    };
    let blocks = &config.blocks;
    let Some(family) = config.family() else { return Ok(()) };
    match blocks.sliding_window {
        Some(window) if !family.gguf_sliding_window || !blocks.full_attention_layers.is_empty() => {
            let supported = "a window of all layers, in files of families that have such; use the folder as it is";
            refuse(format!("a sliding window of {window} tokens in some layers of a {}", family.name), supported)
        }
        _ if blocks.no_rope_layers != family.blocks(config.num_hidden_layers).no_rope_layers => {
            refuse("a choice of layers without rope".into(), "the family's own choice; use the folder as it is")
        }
        _ => Ok(()),
    }
}

/// All of it.
pub(super) fn of(files: &ModelFiles, recipe: &Recipe, words: &Words<'_>) -> Result<Metadata> {
    let mut metadata = Metadata::default();
    match files.gguf_file() {
        Some(file) => {
            Gguf::raw_metadata(file)?.into_iter().for_each(|(key, value)| metadata.set(&key, value));
            // The file is written with the default.
            metadata.unset("general.alignment");
        }
        None => {
            check(&files.config)?;
            network(&mut metadata, &files.config, &files.path);
            text(&mut metadata, words);
        }
    }
    metadata.number("general.file_type", recipe.file_type());
    metadata.number("general.quantization_version", 2);
    Ok(metadata)
}

fn network(metadata: &mut Metadata, config: &ModelConfig, path: &Path) {
    let (architecture, _) = target(config);
    metadata.text("general.architecture", architecture);
    metadata.text("general.type", "model");
    // A folder's own name may be a path of the machine that wrote it.
    let named = config.name.as_deref().and_then(|name| name.rsplit(['/', '\\']).find(|part| !part.is_empty()));
    let folder = path.canonicalize().ok();
    let folder = folder.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    if let Some(name) = named.or(folder) {
        metadata.text("general.name", name);
    }
    let sizes = [
        ("block_count", config.num_hidden_layers),
        ("context_length", config.max_position_embeddings),
        ("embedding_length", config.hidden_size),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.num_attention_heads),
        ("attention.head_count_kv", config.num_key_value_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        ("vocab_size", config.vocab_size),
    ];
    let has_rope = config.blocks.no_rope_layers.len() < config.num_hidden_layers;
    let turned = has_rope.then_some(("rope.dimension_count", config.head_dim));
    let window = config.blocks.sliding_window.map(|window| ("attention.sliding_window", window));
    for (name, size) in sizes.into_iter().chain(turned).chain(window) {
        // A configuration that was validated has no larger ones.
        metadata.number(&format!("{architecture}.{name}"), u32::try_from(size).unwrap_or(u32::MAX));
    }
    let epsilon = match config.blocks.norms {
        Norms::Rms => "attention.layer_norm_rms_epsilon",
        Norms::LayerBefore | Norms::LayerBehind => "attention.layer_norm_epsilon",
    };
    metadata.float(&format!("{architecture}.{epsilon}"), config.rms_norm_eps);
    if has_rope {
        metadata.float(&format!("{architecture}.rope.freq_base"), config.rope_theta);
    }
    if let Some(RopeScaling::Linear { factor }) = config.rope_scaling {
        metadata.text(&format!("{architecture}.rope.scaling.type"), "linear");
        metadata.float(&format!("{architecture}.rope.scaling.factor"), factor);
    }
}

fn text(metadata: &mut Metadata, words: &Words<'_>) {
    let Words { vocabulary, text, adds_bos } = words;
    metadata.text("tokenizer.ggml.model", &vocabulary.model);
    metadata.text("tokenizer.ggml.pre", &vocabulary.pre);
    metadata.texts("tokenizer.ggml.tokens", &vocabulary.tokens);
    if !vocabulary.scores.is_empty() {
        metadata.floats("tokenizer.ggml.scores", &vocabulary.scores);
    }
    metadata.integers("tokenizer.ggml.token_type", &vocabulary.token_types);
    if !vocabulary.merges.is_empty() {
        metadata.texts("tokenizer.ggml.merges", &vocabulary.merges);
    }
    let [end, turn] = ends(vocabulary, &text.eos_token_ids);
    let ids = [
        ("bos_token_id", text.bos_token_id),
        ("eos_token_id", end),
        ("eot_token_id", turn),
        ("unknown_token_id", vocabulary.unknown_token_id),
    ];
    for (name, id) in ids {
        if let Some(id) = id {
            metadata.number(&format!("tokenizer.ggml.{name}"), id);
        }
    }
    metadata.truth("tokenizer.ggml.add_bos_token", *adds_bos);
    metadata.truth("tokenizer.ggml.add_eos_token", false);
    if let Some(prefix) = vocabulary.add_space_prefix {
        metadata.truth("tokenizer.ggml.add_space_prefix", prefix);
    }
    if let Some(template) = &text.chat_template {
        metadata.text("tokenizer.chat_template", template);
    }
}

/// The token that ends a document and the one that ends a turn. GGUF has a key for one of each.
fn ends(vocabulary: &GgufVocabulary, ids: &[u32]) -> [Option<u32>; 2] {
    let by_name =
        |id: &&u32| vocabulary.tokens.get(**id as usize).is_some_and(|token| END_OF_TURN.contains(&token.as_str()));
    let turn = ids.iter().find(by_name).copied();
    let mut others = ids.iter().filter(|id| !by_name(id)).copied();
    match (others.next(), turn) {
        (Some(end), None) => [Some(end), others.next()],
        (None, turn) => [turn, None],
        both => [both.0, both.1],
    }
}
