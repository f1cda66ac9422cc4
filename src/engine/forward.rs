//! The forward pass of a LLaMA: one list of kernel calls, read from top to bottom. Methods plug in through the
//! [`Selector`] and change nothing here.

use super::workspace::Workspace;
use crate::error::Result;
use crate::gpu::{Buffer, Recorder};
use crate::kernels::attention::{Members, Queries};
use crate::kernels::{Cache, Kept, attention, embed, gate_up, kv_append, matmul_columns, matmul_rows, rms_norm, rope};
use crate::model::ModelWeights;
use crate::prune::{Block, Selector};

/// Tokens above which every layer is a submission of its own, so that none runs into a driver's watchdog.
const TOKENS_PER_SUBMISSION: usize = 64;

/// What one pass runs over.
pub(super) struct Pass<'a> {
    /// `[samples * length]` token ids.
    pub ids: &'a Buffer,
    /// `[samples * length]` position and slot of every token.
    pub places: &'a Buffer,
    /// `[samples]` real tokens of each sample.
    pub lengths: &'a Buffer,
    pub samples: usize,
    /// Tokens of a sample, padding included.
    pub length: usize,
    /// Keys and values by layer.
    pub caches: &'a [Cache<'a>],
    /// Whether later passes read the cache: then keys and values of every kv head are computed.
    pub keeps_cache: bool,
    pub turns: rope::Turns<'a>,
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
    let Pass { samples, length, places, turns, .. } = *pass;
    let tokens = samples * length;
    let shape = (tokens, config.hidden_size, config.rms_norm_eps);
    let x = &work.residual;

    embed::record(rec, pass.ids, &model.embedding, x, tokens)?;
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
            samples,
            length,
            cache,
            turns,
        };

        rms_norm::record(rec, x.into(), &weights.attention_norm, block.normed, &work.norms, shape)?;
        let mask = selector.heads(rec, &block)?;
        let heads = mask.as_ref().map_or(config.num_attention_heads, |mask| mask.kept().count);
        let members = mask.as_ref().map_or(Members::All, |mask| Members::Kept(mask.place_of()));
        let kept = mask.as_ref().map(|mask| mask.kept());
        let chosen = mask.as_ref().map(|mask| (mask.kept(), mask.place_of()));
        let kv = mask.as_ref().and_then(|mask| mask.kv()).filter(|_| !pass.keeps_cache);
        let kv_rows = kv.map(|(list, count)| Kept { list, count, unit: config.head_dim });
        let mixed = work.mixed(layer);
        matmul_rows::record(rec, block.normed, &weights.q, kept, (&work.q).into(), tokens)?;
        matmul_rows::record(rec, block.normed, &weights.k, kv_rows, (&work.k).into(), tokens)?;
        matmul_rows::record(rec, block.normed, &weights.v, kv_rows, (&work.v).into(), tokens)?;
        rope::record(rec, &work.q, places, turns, (tokens, heads))?;
        kv_append::record(rec, (&work.k, &work.v), places, turns, kv, cache, (samples, length))?;
        let model_heads = config.num_attention_heads;
        let queries = Queries { q: &work.q, places, samples, length, heads, model_heads, members };
        attention::record(rec, queries, cache, mixed)?;
        selector.attended(rec, &block, mixed)?;
        matmul_columns::record(rec, mixed, &weights.o, chosen, x.into(), tokens, true)?;

        block.normed = work.normed_mlp(layer);
        rms_norm::record(rec, x.into(), &weights.mlp_norm, block.normed, &work.norms, shape)?;
        let mask = selector.channels(rec, &block)?;
        let kept = mask.as_ref().map(|mask| mask.kept());
        let chosen = mask.as_ref().map(|mask| (mask.kept(), mask.place_of()));
        let active = work.active(layer);
        gate_up::record(rec, block.normed, (&weights.gate, &weights.up), kept, active, tokens)?;
        selector.activated(rec, &block, active)?;
        matmul_columns::record(rec, active, &weights.down, chosen, x.into(), tokens, true)?;

        if tokens > TOKENS_PER_SUBMISSION {
            rec.submit()?;
        }
    }
    Ok(())
}
