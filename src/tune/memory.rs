//! What a backward pass needs of memory, known before it starts.

use super::factors;
use super::options::TrainOptions;
use super::processor::Processor;
use super::score::HEAD_ROWS;
use super::taylor::Taylor;
use crate::config::ModelConfig;
use crate::error::{Error, Result};

/// Bytes that [`importance`](super::importance) takes at its peak, over `samples` samples of `length` tokens, down to layer
/// `first`: from the sizes of what is there at once, with the number of copies that burn makes.
pub fn needed_bytes(config: &ModelConfig, (samples, length): (usize, usize), first: usize, taylor: Taylor) -> u64 {
    let (hidden, channels, vocab) = (config.hidden_size, config.intermediate_size, config.vocab_size);
    let (queries, keys) = (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
    let matrix = vocab * hidden;
    // The embedding, the head, and one of them in the making: decoded, then transposed. A tied one is transposed as well.
    let embedding = 3 * matrix;
    let kept = samples * (config.num_hidden_layers.saturating_sub(first) + 3) * length * hidden;
    let weights = hidden * (2 * queries + 2 * keys + 3 * channels);
    let moments = usize::from(taylor.uses_mean()) + usize::from(taylor.uses_squares());
    // Weights, their gradients, moments old and new, and two products of the three.
    let layer = weights * (3 + 2 * moments);
    // Of attention the scores and what softmax and its gradient make of them; of the rest every step of a layer and its gradient.
    let scores = 8 * config.num_attention_heads * length * length;
    let activations = scores + length * (16 * hidden + 12 * (queries + keys) + 12 * channels);
    let head = 6 * HEAD_ROWS.min(length) * vocab;
    4 * (embedding + kept + (layer + activations).max(head)) as u64
}

/// Bytes that a [`Training`](super::Training) takes at its peak, with samples of at most `length` tokens and factors of so many
/// values: from the sizes of what is there at once, with the number of copies that burn makes.
pub fn training_bytes(config: &ModelConfig, options: &TrainOptions, length: usize, gradual: bool) -> Result<u64> {
    let (hidden, channels, vocab) = (config.hidden_size, config.intermediate_size, config.vocab_size);
    let (queries, keys) = (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
    let layer = hidden * (2 * queries + 2 * keys + 3 * channels);
    let embedding = vocab * hidden * if config.tie_word_embeddings { 2 } else { 3 };
    let weights = config.num_hidden_layers * layer + embedding;
    let shapes = options.tensors()?.into_iter().map(|tensor| factors::shape(config, tensor));
    let factors: usize = shapes.map(|[inputs, outputs]| options.rank * (inputs + outputs)).sum();
    // Values, two means, the gradients of a sample and their sum, and one of them in the making.
    let factors = 6 * factors * config.num_hidden_layers;
    let kept = (config.num_hidden_layers + 3) * length * hidden;
    let scores = 8 * config.num_attention_heads * length * length;
    let activations = scores + length * (16 * hidden + 12 * (queries + keys) + 14 * channels);
    let head = 6 * HEAD_ROWS.min(length) * vocab;
    // The largest projection: the gradient that stands for its own, what it is made of, and the product.
    let judged = if gradual { 5 * hidden * channels.max(queries) } else { 0 };
    Ok(4 * (weights + factors + kept + activations.max(head).max(judged)) as u64)
}

/// Refuses a run that the memory cannot hold; `limit` says what the memory is counted in, and what to do.
///
/// # Errors
/// [`Error::DeviceLimit`] with both numbers and what to do.
pub fn check_memory(processor: &Processor, needed: u64, limit: &'static str) -> Result<()> {
    match processor.memory_available() {
        Some(available) if needed > available => Err(Error::DeviceLimit {
            what: "the run".into(),
            needed,
            available,
            limit,
            adapter: processor.name().into(),
        }),
        _ => Ok(()),
    }
}
