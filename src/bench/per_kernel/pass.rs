//! The kernels of a pass over a prompt and of a decoded token, at a model's shapes, in the order in which they run.

use super::bank::Bank;
use super::{Stage, Work};
use crate::format::Weight;
use crate::gpu::Tier;
use crate::kernels::attention::{Members, Queries};
use crate::kernels::matmul_columns::{Product, parts};
use crate::kernels::rope_append::Heads;
use crate::kernels::{Rows, attention, embed, matmul_columns, matmul_rows, rope_append};
use crate::model::{Added, LayerWeights, ModelWeights};
use crate::prune::{LayerMasks, Mask};

/// What a pass runs on.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub model: &'a ModelWeights,
    pub bank: &'a Bank,
    pub stage: Stage,
    pub tier: Tier,
    /// By layer, where units are dropped.
    pub masks: Option<&'a [LayerMasks]>,
}

/// Mean bytes of weights over layers, of which a share is read.
pub(super) fn weight_bytes(model: &ModelWeights, layers: &[usize], of: impl Fn(&LayerWeights) -> f64) -> f64 {
    layers.iter().map(|&layer| of(&model.layers[layer])).sum::<f64>() / layers.len().max(1) as f64
}

/// Bytes of a [`crate::format::Layout::Columns`] weight of which `share` of the channels are kept, one by one or by heads: a
/// group of 32 shares its scales.
fn column_bytes(weight: &Weight, share: f64, unit: usize) -> f64 {
    let sum = |of: fn(&crate::format::Shard) -> u64| weight.shards.iter().map(of).sum::<u64>() as f64;
    sum(|shard| shard.quants.bytes()) * share + sum(|shard| shard.scales.bytes()) * if unit >= 32 { share } else { 1.0 }
}

impl<'a> Pass<'a> {
    fn tokens(&self) -> usize {
        if self.stage == Stage::Decode { 1 } else { self.bank.prompt }
    }

    /// Slots that all queries see together.
    fn attended(&self) -> usize {
        match self.stage {
            Stage::Decode => self.bank.prompt + 1,
            _ => self.bank.prompt * (self.bank.prompt + 1) / 2,
        }
    }

    fn places(&self) -> &'a crate::gpu::Buffer {
        if self.stage == Stage::Decode { &self.bank.behind } else { &self.bank.places }
    }

    fn heads_of(&self, layer: usize) -> Option<&'a Mask> {
        self.masks.and_then(|masks| masks[layer].heads.as_deref())
    }

    fn channels_of(&self, layer: usize) -> Option<&'a Mask> {
        self.masks.and_then(|masks| masks[layer].channels.as_deref())
    }

    /// Layers that a kernel walks over: all, or those with a mask.
    fn layers(&self, mask: impl Fn(&Self, usize) -> Option<&'a Mask>) -> Vec<usize> {
        let all = 0..self.model.layers.len();
        all.filter(|&layer| self.masks.is_none() || mask(self, layer).is_some()).collect()
    }

    /// The list, kernels that no mask changes left out where there are masks.
    pub fn works(self) -> Vec<Work<'a>> {
        let mut works = self.attention();
        works.extend(self.mlp());
        if self.masks.is_none() {
            works.extend(self.ends());
        }
        works.retain(|work| !work.layers.is_empty());
        works
    }

    fn work(&self, kernel: &'static str, role: &'static str, layers: Vec<usize>, shape: String) -> Work<'a> {
        let pruned = self.masks.is_some();
        let calls = layers.len() as f64;
        let record = Box::new(|_: &mut crate::gpu::Recorder<'_>, _: usize| Ok(()));
        Work { stage: self.stage, kernel, role, pruned, shape, calls, bytes: 0.0, flops: 0.0, layers, record }
    }

    fn attention(self) -> Vec<Work<'a>> {
        let (model, bank, tokens, places) = (self.model, self.bank, self.tokens(), self.places());
        let config = &model.config;
        let (hidden, d, heads) = (config.hidden_size, config.head_dim, config.num_attention_heads);
        let kv_heads = config.num_key_value_heads;
        let layers = self.layers(Self::heads_of);
        let kept = layers.first().and_then(|&layer| self.heads_of(layer)).map_or(heads, |mask| mask.kept().count);
        let share = kept as f64 / heads as f64;
        let (width, t) = (kept * d, tokens as f64);
        // Keys and values are those of all kv heads, whatever is kept.
        let rows = width + 2 * kv_heads * d;
        let queries = heads * d;
        let read = move |layer: &LayerWeights| {
            layer.qkv.bytes_of(0..queries) * share + layer.qkv.bytes_of(queries..layer.qkv.rows)
        };
        let qkv = Work {
            bytes: weight_bytes(model, &layers, read) + 4.0 * t * (hidden + rows) as f64,
            flops: 2.0 * t * (hidden * rows) as f64,
            record: Box::new(move |rec, layer| {
                let list = self.heads_of(layer).map(|mask| mask.qkv(true).0);
                let y = (&bank.qkv).into();
                matmul_rows::record(rec, (&bank.normed).into(), &model.layers[layer].qkv, list, y, tokens)
            }),
            ..self.work("matmul_rows", "q, k, v", layers.clone(), format!("{tokens} x {rows} x {hidden}"))
        };
        let slots = bank.prompt + usize::from(self.stage == Stage::Decode);
        let fresh = slots - tokens;
        let turn = Work {
            bytes: 4.0 * t * (2 * width + 4 * kv_heads * d) as f64,
            flops: 3.0 * t * (width + kv_heads * d) as f64,
            record: Box::new(move |rec, layer| {
                let list = self.heads_of(layer).map(|mask| (mask.qkv(true).0.list, heads));
                let (in_row, cache) = (Heads { queries: kept, keys: kv_heads, list }, bank.cache(model, layer, fresh));
                rope_append::record(rec, &bank.qkv, in_row, places, bank.turns(model, layer), cache, (1, tokens))
            }),
            ..self.work("rope_append", "", layers.clone(), format!("{tokens} x {} heads", kept + 2 * kv_heads))
        };
        let mix = Work {
            bytes: 8.0 * t * width as f64 + 8.0 * (kv_heads * slots * d) as f64,
            flops: 4.0 * (self.attended() * width) as f64,
            record: Box::new(move |rec, layer| {
                let members = self.heads_of(layer).map_or(Members::All, |mask| Members::Kept(mask.place_of()));
                let (samples, length, heads, model_heads) = (1, tokens, kept, heads);
                let (q, stride) = (&bank.qkv, kept + 2 * kv_heads);
                let (window, gathered) = (model.layers[layer].sliding_window, false);
                let queries =
                    Queries { q, stride, places, samples, length, heads, model_heads, members, window, gathered };
                attention::record(rec, queries, bank.cache(model, layer, fresh), (&bank.mixed).into())
            }),
            ..self.work("attention", "", layers.clone(), format!("{tokens} x {kept} heads over {slots} slots"))
        };
        let o = Work {
            bytes: weight_bytes(model, &layers, |layer| column_bytes(&layer.o, share, d))
                + 4.0 * t * (width + 2 * hidden) as f64,
            flops: 2.0 * t * (hidden * width) as f64,
            record: Box::new(move |rec, layer| {
                let list = self.heads_of(layer).map(|mask| (mask.kept(), mask.place_of()));
                let into = Product::Parts(&bank.added);
                matmul_columns::record(rec, (&bank.mixed).into(), &model.layers[layer].o, list, into, tokens)
            }),
            ..self.work("matmul_columns", "o", layers.clone(), format!("{tokens} x {hidden} x {width}"))
        };
        vec![qkv, turn, mix, o]
    }

    fn mlp(self) -> Vec<Work<'a>> {
        let (model, bank, tokens) = (self.model, self.bank, self.tokens());
        let (hidden, channels) = (model.config.hidden_size, model.config.intermediate_size);
        let layers = self.layers(Self::channels_of);
        let kept = layers.first().and_then(|&layer| self.channels_of(layer)).map_or(channels, |mask| mask.kept().count);
        let (share, t) = (kept as f64 / channels as f64, tokens as f64);
        let (kernel, matrices) = (model.layers[0].mlp.kernel(), model.config.blocks.mlp.matrices());
        let first = Work {
            bytes: weight_bytes(model, &layers, |layer| layer.mlp.bytes() as f64 * share)
                + 4.0 * t * (hidden + kept) as f64,
            flops: 2.0 * t * (matrices * hidden * kept) as f64,
            record: Box::new(move |rec, layer| {
                let (list, weights) = (self.channels_of(layer).map(Mask::kept), &model.layers[layer]);
                weights.mlp.record(rec, (&bank.normed).into(), list, (&bank.active).into(), tokens)
            }),
            ..self.work(kernel, "", layers.clone(), model.layers[0].mlp.shape(tokens, kept))
        };
        let down = Work {
            bytes: weight_bytes(model, &layers, |layer| column_bytes(&layer.down, share, 1))
                + 4.0 * t * (kept + 2 * hidden) as f64,
            flops: 2.0 * t * (hidden * kept) as f64,
            record: Box::new(move |rec, layer| {
                let list = self.channels_of(layer).map(|mask| (mask.kept(), mask.place_of()));
                let into = Product::Parts(&bank.added);
                matmul_columns::record(rec, (&bank.active).into(), &model.layers[layer].down, list, into, tokens)
            }),
            ..self.work("matmul_columns", "down", layers, format!("{tokens} x {hidden} x {kept}"))
        };
        vec![first, down]
    }

    /// What stands around the blocks, and the norms before their halves.
    fn ends(self) -> Vec<Work<'a>> {
        let (model, bank, tokens) = (self.model, self.bank, self.tokens());
        let config = &model.config;
        let (hidden, vocab, t) = (config.hidden_size, config.vocab_size, tokens as f64);
        let layers = self.layers(Self::heads_of);
        let norms = 2 * layers.len();
        let parts = parts(self.tier, tokens);
        let head = model.head().bytes() as f64;
        let row = model.embedding.bytes() as f64 / vocab as f64;
        let norm = Work {
            bytes: 4.0 * (((3 + parts) * tokens + 1) * hidden) as f64,
            flops: (4.0 + parts as f64) * t * hidden as f64,
            record: Box::new(move |rec, layer| {
                let (x, y) = ((&bank.x).into(), (&bank.normed).into());
                let shape = (tokens, hidden, config.rms_norm_eps);
                let added = Added { parts: Some((&bank.added, parts)), bias: model.layers[layer].o_bias.as_ref() };
                model.layers[layer].mlp_norm.record(rec, x, added, y, &bank.norms, shape)
            }),
            ..self.work(model.layers[0].mlp_norm.kernel(), "", layers, format!("{tokens} x {hidden}"))
        };
        let first = Work {
            bytes: t * (row + 4.0 * hidden as f64),
            flops: t * hidden as f64,
            record: Box::new(move |rec, _| embed::record(rec, &bank.ids, &model.embedding, &bank.x, tokens)),
            ..self.work("embed", "", vec![0], format!("{tokens} x {hidden}"))
        };
        let width = config.embedding_width();
        let last = Work {
            bytes: head + 4.0 * (width + vocab) as f64,
            flops: 2.0 * (width * vocab) as f64,
            record: Box::new(move |rec, _| {
                let x: Rows<'_> = (&bank.normed).into();
                matmul_rows::record(rec, x, model.head(), None, (&bank.logits).into(), 1)
            }),
            ..self.work("matmul_rows", "head", vec![0], format!("1 x {vocab} x {width}"))
        };
        vec![Work { calls: norms as f64, ..norm }, first, last]
    }
}
