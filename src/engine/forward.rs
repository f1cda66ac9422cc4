//! The forward pass of a LLaMA or one of its relatives: one list of kernel calls, read from top to bottom. Methods plug in
//! through the [`Selector`] and change nothing here.

use super::workspace::Workspace;
use crate::error::Result;
use crate::gpu::{Buffer, Recorder};
use crate::kernels::attention::{Members, Queries};
use crate::kernels::matmul_columns::{Product, parts};
use crate::kernels::rope_append::{Heads, Turns};
use crate::kernels::{Cache, add_bias, add_positions, attention, embed, matmul_columns, matmul_rows, rope_append};
use crate::model::{Added, ModelWeights};
use crate::prune::{Block, Selector};

/// Tokens above which every layer is a submission of its own, so that none runs into a driver's watchdog. In a browser whoever
/// submits a long pass paces it: [`Recorder::submit_paced`].
const TOKENS_PER_SUBMISSION: usize = if cfg!(target_arch = "wasm32") { usize::MAX } else { 64 };

/// What one pass runs over.
pub(super) struct Pass<'a> {
    /// `[samples * length]` token ids.
    pub ids: &'a Buffer,
    /// `[samples * length]` position and slot of every token.
    pub places: &'a Buffer,
    /// `[samples]` real tokens of each sample.
    pub lengths: &'a Buffer,
    /// Whether any sample is shorter than `length`.
    pub is_padded: bool,
    pub samples: usize,
    /// Tokens of a sample, padding included.
    pub length: usize,
    /// Keys and values by layer.
    pub caches: &'a [Cache<'a>],
    /// Whether later passes read the cache: then keys and values of every kv head are computed.
    pub keeps_cache: bool,
    pub turns: Turns<'a>,
}

/// Records the layers: from ids to the residual stream after the last layer, in `work.residual`.
pub(super) fn forward(
    rec: &mut Recorder<'_>,
    model: &ModelWeights,
    work: &Workspace,
    pass: &Pass<'_>,
    selector: &mut dyn Selector,
) -> Result<()> {
    let config = &model.config;
    let Pass { samples, length, places, .. } = *pass;
    let tokens = samples * length;
    let shape = (tokens, config.hidden_size, config.rms_norm_eps);
    let (x, added) = (&work.residual, &work.added);
    let parts = parts(rec.gpu().tier(), tokens);
    let (model_heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);

    match (&model.project_in, &work.embedded) {
        (Some(widen), Some(embedded)) => {
            embed::record(rec, pass.ids, &model.embedding, embedded, tokens)?;
            matmul_rows::record(rec, embedded.into(), widen, None, x.into(), tokens)?;
        }
        _ => embed::record(rec, pass.ids, &model.embedding, x, tokens)?,
    }
    if let Some((table, offset)) = model.positions.as_ref().zip(config.position_offset) {
        add_positions::record(rec, x, places, (table, offset), (tokens, config.hidden_size))?;
    }
    let mut from_mlp = Added::default();
    for (layer, weights) in model.layers.iter().enumerate() {
        let cache = pass.caches[layer];
        let mut block = Block {
            layer,
            weights,
            residual: x,
            normed: work.normed_attention(layer),
            norms: &work.norms,
            places,
            lengths: pass.lengths,
            is_padded: pass.is_padded,
            samples,
            length,
            cache,
            turns: weights.turns(pass.turns),
        };

        weights.attention_norm.record(rec, x.into(), from_mlp, block.normed, &work.norms, shape)?;
        let mask = selector.heads(rec, &block)?;
        let members = mask.as_ref().map_or(Members::All, |mask| Members::Kept(mask.place_of()));
        let chosen = mask.as_ref().map(|mask| (mask.kept(), mask.place_of()));
        let heads = chosen.map_or(model_heads, |(kept, _)| kept.count);
        let listed = mask.as_ref().map(|mask| mask.qkv(pass.keeps_cache));
        let keys = listed.map_or(kv_heads, |(_, keys)| keys);
        let list = listed.map(|(kept, _)| (kept.list, model_heads));
        let mixed = work.mixed(layer);
        matmul_rows::record(rec, block.normed, &weights.qkv, listed.map(|(kept, _)| kept), (&work.qkv).into(), tokens)?;
        let in_row = Heads { queries: heads, keys, list };
        rope_append::record(rec, &work.qkv, in_row, places, block.turns, cache, (samples, length))?;
        let stride = heads + 2 * keys;
        let (window, gathered) = (weights.sliding_window, false);
        let queries =
            Queries { q: &work.qkv, stride, places, samples, length, heads, model_heads, members, window, gathered };
        attention::record(rec, queries, cache, mixed)?;
        selector.attended(rec, &block, mixed)?;
        matmul_columns::record(rec, mixed, &weights.o, chosen, Product::Parts(added), tokens)?;

        block.normed = work.normed_mlp(layer);
        let from_attention = Added { parts: Some((added, parts)), bias: weights.o_bias.as_ref() };
        weights.mlp_norm.record(rec, x.into(), from_attention, block.normed, &work.norms, shape)?;
        let mask = selector.channels(rec, &block)?;
        let kept = mask.as_ref().map(|mask| mask.kept());
        let chosen = mask.as_ref().map(|mask| (mask.kept(), mask.place_of()));
        let active = work.active(layer);
        weights.mlp.record(rec, block.normed, kept, active, tokens)?;
        selector.activated(rec, &block, active)?;
        // Nothing follows the last layer that could add its parts up for every token.
        let last = layer + 1 == model.layers.len();
        let into = if last { Product::Add(x.into()) } else { Product::Parts(added) };
        matmul_columns::record(rec, active, &weights.down, chosen, into, tokens)?;
        from_mlp = Added { parts: Some((added, parts)), bias: weights.down_bias.as_ref() };
        if let Some(bias) = weights.down_bias.as_ref().filter(|_| last) {
            add_bias::record(rec, x, bias, (tokens, config.hidden_size))?;
        }

        if tokens > TOKENS_PER_SUBMISSION {
            rec.submit()?;
        }
    }
    Ok(())
}
