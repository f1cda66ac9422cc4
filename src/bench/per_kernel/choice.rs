//! The kernels that choose: a prompt's probe, from its tokens to its kept lists.

use super::bank::Bank;
use super::pass::weight_bytes;
use super::{Record, Stage, Work};
use crate::kernels::attention::{Members, Queries};
use crate::kernels::matmul_columns::stride;
use crate::kernels::rope_append::Heads;
use crate::kernels::score::{Reduce, Rule};
use crate::kernels::top_k::Choice;
use crate::kernels::{
    attention, fusion, gather_probe, matmul_rows, probe_statistic, qkv_list, rope_append, sample_importance, score,
    token_importance, top_k,
};
use crate::model::{LayerWeights, ModelWeights};
use crate::prune::{Half, LayerMasks, Mask};

/// What is chosen for.
#[derive(Clone, Copy)]
pub(super) struct Choosing<'a> {
    pub model: &'a ModelWeights,
    pub bank: &'a Bank,
    /// By layer; some drop units.
    pub masks: &'a [LayerMasks],
}

impl<'a> Choosing<'a> {
    pub fn mask(&self, layer: usize, half: Half) -> Option<&'a Mask> {
        half.mask(&self.masks[layer]).map(|mask| &**mask)
    }

    pub fn layers(&self, half: Half) -> Vec<usize> {
        (0..self.masks.len()).filter(|&layer| self.mask(layer, half).is_some()).collect()
    }

    fn role(half: Half) -> &'static str {
        match half {
            Half::Attention => "heads",
            Half::Mlp => "channels",
        }
    }

    /// Those of a prompt's probes, then those of a renewal.
    pub fn works(self) -> Vec<Work<'a>> {
        let mut works = Vec::new();
        for half in Half::BOTH {
            works.extend(self.gathering(half));
            match half {
                Half::Attention => works.extend(self.probe_attention()),
                Half::Mlp => works.push(self.probe_channels()),
            }
            works.extend(self.judging(half));
            works.extend((half == Half::Attention).then(|| self.qkv_list()));
        }
        for half in Half::BOTH {
            works.extend(self.renewing(half));
        }
        works.retain(|work| !work.layers.is_empty());
        works
    }

    pub fn work(
        &self,
        (stage, half): (Stage, Half),
        kernel: &'static str,
        shape: String,
        (bytes, flops): (f64, f64),
        record: Record<'a>,
    ) -> Work<'a> {
        let layers = self.layers(half);
        let calls = layers.len() as f64;
        Work { stage, kernel, role: Self::role(half), pruned: true, shape, calls, bytes, flops, layers, record }
    }

    /// Which tokens are probed, and their states.
    fn gathering(self, half: Half) -> Vec<Work<'a>> {
        let (bank, tokens, size) = (self.bank, self.bank.prompt, self.bank.sizes.of(half));
        let (hidden, t) = (self.model.config.hidden_size, self.bank.prompt as f64);
        let work = |kernel, shape, cost, record| self.work((Stage::Choice, half), kernel, shape, cost, record);
        let choice = Choice { kept: &bank.written, dropped: &bank.rest, place_of: &bank.place_of };
        let (rows, first_stays) = (size.rows() as f64, size.tokens <= 10);
        vec![
            work(
                "token_importance",
                format!("{tokens} tokens"),
                (8.0 * t, 2.0 * t),
                Box::new(move |rec, _| {
                    token_importance::record(rec, (&bank.norms, &bank.length), &bank.written, (1, tokens))
                }),
            ),
            work(
                "top_k",
                format!("{} of {tokens} tokens", size.tokens),
                (12.0 * t, 0.0),
                Box::new(move |rec, _| top_k::record(rec, &bank.scores, choice, (tokens, size.tokens), first_stays)),
            ),
            work(
                "sample_importance",
                format!("1 sample of {} tokens", size.tokens),
                (8.0 * size.tokens as f64, 2.0 * size.tokens as f64),
                Box::new(move |rec, _| {
                    let list = (&bank.counted, size.tokens);
                    sample_importance::record(rec, (&bank.norms, &bank.length), list, &bank.written, (1, tokens))
                }),
            ),
            work(
                "gather_probe",
                format!("{} of {tokens} x {hidden}", size.tokens),
                (8.0 * rows * hidden as f64, 0.0),
                Box::new(move |rec, _| {
                    let (x, y) = ((&bank.x, &bank.places), (&bank.normed, &bank.probed));
                    // The one sample is the first: its number is the first of those counted.
                    let lists = (&bank.counted, &bank.counted);
                    gather_probe::record(rec, x, lists, y, (size.samples, size.tokens), (tokens, hidden))
                }),
            ),
        ]
    }

    /// Queries, keys and values of the probe.
    fn probe_matmul(self) -> Work<'a> {
        let (model, bank, rows) = (self.model, self.bank, self.bank.sizes.heads.rows());
        let (hidden, width) = (model.config.hidden_size, model.layers[0].qkv.rows);
        let weights = weight_bytes(model, &self.layers(Half::Attention), |layer| layer.qkv.bytes() as f64);
        let bytes = weights + 4.0 * (rows * (hidden + width)) as f64;
        let flops = 2.0 * (rows * hidden * width) as f64;
        let record: Record<'a> = Box::new(move |rec, layer| {
            let y = (&bank.qkv).into();
            matmul_rows::record(rec, (&bank.normed).into(), &model.layers[layer].qkv, None, y, rows)
        });
        let shape = format!("{rows} x {width} x {hidden} (q, k, v)");
        self.work((Stage::Choice, Half::Attention), "matmul_rows", shape, (bytes, flops), record)
    }

    /// The first half of attention on the probe.
    fn probe_attention(self) -> Vec<Work<'a>> {
        let (model, bank, size) = (self.model, self.bank, self.bank.sizes.heads);
        let (heads, kv_heads, d) =
            (model.config.num_attention_heads, model.config.num_key_value_heads, model.config.head_dim);
        let (rows, width) = (size.rows(), heads * d);
        let values = (rows * width) as f64;
        let work =
            |kernel, shape, cost, record| self.work((Stage::Choice, Half::Attention), kernel, shape, cost, record);
        let keys = (rows * kv_heads * d) as f64;
        let turn = work(
            "rope_append",
            format!("{rows} x {} heads", heads + 2 * kv_heads),
            (8.0 * values + 16.0 * keys, 3.0 * (values + keys)),
            Box::new(move |rec, layer| {
                let (in_row, cache) =
                    (Heads { queries: heads, keys: kv_heads, list: None }, bank.cache(model, layer, 0));
                let shape = (size.samples, size.tokens);
                rope_append::record(rec, &bank.qkv, in_row, &bank.places, bank.turns(model, layer), cache, shape)
            }),
        );
        let attended = (size.samples * size.tokens * (size.tokens + 1) * width) as f64;
        let mix = work(
            "attention",
            format!("{rows} x {heads} heads over {} slots", size.tokens),
            (8.0 * values + 8.0 * (kv_heads * size.tokens * d) as f64, 2.0 * attended),
            Box::new(move |rec, layer| {
                let (samples, length, members) = (size.samples, size.tokens, Members::All);
                let (q, places, model_heads) = (&bank.qkv, &bank.places, heads);
                let stride = heads + 2 * kv_heads;
                let (window, gathered) = (model.layers[layer].sliding_window, true);
                let queries =
                    Queries { q, stride, places, samples, length, heads, model_heads, members, window, gathered };
                attention::record(rec, queries, bank.cache(model, layer, 0), (&bank.mixed).into())
            }),
        );
        vec![self.probe_matmul(), turn, mix]
    }

    /// The rows of q, k and v behind the kept heads.
    fn qkv_list(self) -> Work<'a> {
        let (bank, model) = (self.bank, (self.model.config.num_attention_heads, self.model.config.group_size()));
        let layers = self.layers(Half::Attention);
        let kept = layers.first().and_then(|&layer| self.mask(layer, Half::Attention)).map_or(1, |m| m.kept().count);
        let entries = qkv_list::entries(kept, self.model.config.num_key_value_heads);
        let record: Record<'a> =
            Box::new(move |rec, _| qkv_list::record(rec, (&bank.counted, kept), (&bank.written, entries), model));
        let cost = (4.0 * (kept + 3 * entries) as f64, 0.0);
        self.work((Stage::Choice, Half::Attention), "qkv_list", format!("{kept} heads"), cost, record)
    }

    fn probe_channels(self) -> Work<'a> {
        let (model, bank, rows) = (self.model, self.bank, self.bank.sizes.channels.rows());
        let (hidden, channels) = (model.config.hidden_size, model.config.intermediate_size);
        let (kernel, matrices) = (model.layers[0].mlp.kernel(), model.config.blocks.mlp.matrices());
        let weights = |layer: &LayerWeights| layer.mlp.bytes() as f64;
        let bytes = weight_bytes(model, &self.layers(Half::Mlp), weights) + 4.0 * (rows * (hidden + channels)) as f64;
        let flops = 2.0 * (rows * matrices * hidden * channels) as f64;
        let record: Record<'a> = Box::new(move |rec, layer| {
            let (x, y) = ((&bank.normed).into(), (&bank.active).into());
            model.layers[layer].mlp.record(rec, x, None, y, rows)
        });
        let shape = model.layers[0].mlp.shape(rows, channels);
        self.work((Stage::Choice, Half::Mlp), kernel, shape, (bytes, flops), record)
    }

    /// From a probe's activations to its kept list.
    fn judging(self, half: Half) -> Vec<Work<'a>> {
        let (model, bank, size) = (self.model, self.bank, self.bank.sizes.of(half));
        let (width, (units, unit)) = (half.width(&model.config), half.units(&model.config));
        let (rows, t, w) = (size.rows() as f64, size.tokens as f64, width as f64);
        let kept = self.layers(half).first().and_then(|&layer| self.mask(layer, half)).map_or(1, |m| m.kept().count);
        let work = |kernel, shape, cost, record| self.work((Stage::Choice, half), kernel, shape, cost, record);
        let ranked = if half == Half::Attention { &bank.mixed } else { &bank.active };
        let choice = Choice { kept: &bank.written, dropped: &bank.rest, place_of: &bank.place_of };
        let rule = Rule { root: false, reduce: Reduce::Norm, group: 1 };
        vec![
            work(
                "probe_statistic",
                format!("{} x {width}", size.rows()),
                (4.0 * (rows + t) * w, 2.0 * rows * w),
                Box::new(move |rec, _| {
                    let lists = (&bank.counted, &bank.counted, &bank.length);
                    let (size, columns) = ((size.samples, size.tokens), (width, stride(width)));
                    probe_statistic::record(rec, (ranked, None), lists, &bank.statistic, size, columns)
                }),
            ),
            work(
                "fusion",
                format!("{} x {width}", size.tokens),
                (4.0 * (t + 1.0) * w, t * w),
                Box::new(move |rec, _| {
                    let list = (&bank.counted, size.tokens);
                    fusion::record(rec, (&bank.statistic, 1.0), list, None, &bank.fused, width)
                }),
            ),
            work(
                "score",
                format!("{units} units of {unit}"),
                (8.0 * w + 4.0 * units as f64, 3.0 * w),
                Box::new(move |rec, layer| {
                    let power = half.power(&model.layers[layer]);
                    score::record(rec, (&bank.fused, power), &bank.written, (units, unit), rule)
                }),
            ),
            work(
                "top_k",
                format!("{kept} of {units}"),
                (12.0 * units as f64, 0.0),
                Box::new(move |rec, _| top_k::record(rec, &bank.scores, choice, (units, kept), false)),
            ),
        ]
    }
}
