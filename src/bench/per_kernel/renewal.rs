//! The kernels of a renewal: the tokens since the last choice are added to the sums of a conversation, what they ran as it
//! was computed and what was dropped by running it after all.

use super::choice::Choosing;
use super::pass::weight_bytes;
use super::{Stage, Work};
use crate::kernels::attention::{Members, Queries};
use crate::kernels::history_update::{Update, Value};
use crate::kernels::matmul_columns::stride;
use crate::kernels::rope_append::Heads;
use crate::kernels::{HistoryRows, Kept, attention, history_update, matmul_rows, rope_append};
use crate::prune::{Half, Mask};

/// What is added to the sums.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Kept,
    Dropped,
}

impl<'a> Choosing<'a> {
    /// Those of one half, up to its sums; the choice from them is that of a prompt with one row.
    pub fn renewing(self, half: Half) -> Vec<Work<'a>> {
        let Some(mask) = self.layers(half).first().and_then(|&layer| self.mask(layer, half)) else { return Vec::new() };
        let Some(dropped) = mask.dropped() else { return Vec::new() };
        let (kept, dropped) = (mask.kept().count * mask.kept().unit, dropped.count * dropped.unit);
        let mut works = vec![self.sums(half, Part::Kept, kept), self.first_half(half, dropped)];
        if half == Half::Attention {
            works.extend(self.queries(dropped));
        }
        works.push(self.sums(half, Part::Dropped, dropped));
        works
    }

    fn list(&self, layer: usize, half: Half, part: Part) -> Option<Kept<'a>> {
        let mask = self.mask(layer, half)?;
        if part == Part::Kept { Some(mask.kept()) } else { mask.dropped() }
    }

    fn sums(self, half: Half, part: Part, columns: usize) -> Work<'a> {
        let (bank, rows, width) = (self.bank, self.bank.window, half.width(&self.model.config));
        let x = if half == Half::Attention { &bank.mixed } else { &bank.active };
        let what = if part == Part::Kept { "kept" } else { "dropped" };
        let cost = (4.0 * ((rows + 2) * columns) as f64, 2.0 * (rows * columns) as f64);
        let stride = stride(columns);
        self.work(
            (Stage::Renewal, half),
            "history_update",
            format!("{rows} x {columns} {what}"),
            cost,
            Box::new(move |rec, layer| {
                let rows_of = HistoryRows::One;
                let (average, keep, gain) = (false, 1.0, 1.0);
                let update = Update { samples: rows, length: 1, width, stride, average, rows: rows_of, keep, gain };
                let list = self.list(layer, half, part);
                history_update::record(rec, (x.into(), Value::Energy), list, None, &bank.sums, update)
            }),
        )
    }

    /// Queries, or gate and up, of what was dropped.
    fn first_half(self, half: Half, dropped: usize) -> Work<'a> {
        let (model, bank, rows) = (self.model, self.bank, self.bank.window);
        let (hidden, width) = (model.config.hidden_size, half.width(&model.config));
        let weights = weight_bytes(model, &self.layers(half), |layer| match half {
            Half::Attention => layer.qkv.bytes_of(0..width),
            Half::Mlp => layer.mlp.bytes() as f64,
        });
        let (kernel, matrices) = match half {
            Half::Attention => ("matmul_rows", 1),
            Half::Mlp => (model.layers[0].mlp.kernel(), model.config.blocks.mlp.matrices()),
        };
        let bytes = weights * dropped as f64 / width as f64 + 4.0 * (rows * (hidden + dropped)) as f64;
        let flops = 2.0 * (rows * matrices * dropped * hidden) as f64;
        self.work(
            (Stage::Renewal, half),
            kernel,
            match half {
                Half::Attention => format!("{rows} x {dropped} x {hidden} dropped"),
                Half::Mlp => format!("{} dropped", model.layers[0].mlp.shape(rows, dropped)),
            },
            (bytes, flops),
            Box::new(move |rec, layer| {
                let (list, weights) = (self.list(layer, half, Part::Dropped), &model.layers[layer]);
                let normed = (&bank.normed).into();
                match half {
                    Half::Attention => matmul_rows::record(rec, normed, &weights.qkv, list, (&bank.qkv).into(), rows),
                    Half::Mlp => weights.mlp.record(rec, normed, list, (&bank.active).into(), rows),
                }
            }),
        )
    }

    /// The dropped heads of the window's tokens, which are taken to be the prompt's last.
    fn queries(self, dropped: usize) -> [Work<'a>; 2] {
        let (model, bank, rows) = (self.model, self.bank, self.bank.window);
        let config = &model.config;
        let (d, model_heads) = (config.head_dim, config.num_attention_heads);
        let heads = dropped / d;
        let values = (rows * dropped) as f64;
        let turn = self.work(
            (Stage::Renewal, Half::Attention),
            "rope_append",
            format!("{rows} x {heads} heads dropped"),
            (8.0 * values, 3.0 * values),
            Box::new(move |rec, layer| {
                let dropped = self.mask(layer, Half::Attention).and_then(Mask::dropped);
                let list = dropped.map(|dropped| (dropped.list, model_heads));
                let (in_row, cache) = (Heads { queries: heads, keys: 0, list }, bank.cache(model, layer, bank.prompt));
                rope_append::record(rec, &bank.qkv, in_row, &bank.last, bank.turns(model, layer), cache, (1, rows))
            }),
        );
        let attended = (rows * (2 * bank.prompt - rows + 1)) as f64 / 2.0;
        let kv = 8.0 * (config.num_key_value_heads * bank.prompt * d) as f64;
        let mix = self.work(
            (Stage::Renewal, Half::Attention),
            "attention",
            format!("{rows} x {heads} heads over {} slots", bank.prompt),
            (8.0 * values + kv, 4.0 * attended * dropped as f64),
            Box::new(move |rec, layer| {
                let members = match self.mask(layer, Half::Attention).map(Mask::place_of) {
                    Some(place_of) => Members::Dropped(place_of),
                    None => Members::All,
                };
                let (samples, length) = (1, rows);
                let (q, places, stride) = (&bank.qkv, &bank.last, heads);
                let (window, gathered) = (model.layers[layer].sliding_window, false);
                let queries =
                    Queries { q, stride, places, samples, length, heads, model_heads, members, window, gathered };
                attention::record(rec, queries, bank.cache(model, layer, bank.prompt), (&bank.mixed).into())
            }),
        );
        [turn, mix]
    }
}
