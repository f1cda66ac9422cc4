//! The units that one block of one layer keeps, as lists on the GPU.

use crate::error::Result;
use crate::gpu::{Buffer, Contents, Gpu, Recorder};
use crate::kernels::top_k::{self, Choice};
use crate::kernels::{Kept, qkv_list};
use std::sync::Arc;

/// Kept and dropped units of one block.
pub struct Mask {
    kept: Buffer,
    dropped: Buffer,
    place_of: Buffer,
    kv: Option<KvRows>,
    count: usize,
    total: usize,
    unit: usize,
}

/// What a mask of heads knows of the keys and values that they read.
struct KvRows {
    /// `[count + 2 * entries]`: as [`qkv_list`] writes it.
    read: Buffer,
    entries: usize,
    kv_heads: usize,
}

impl Mask {
    /// An empty mask that keeps `count` of `total` channels.
    ///
    /// # Errors
    /// Those of [`Gpu::buffer`].
    pub fn channels(gpu: &Gpu, count: usize, total: usize) -> Result<Mask> {
        Mask::new(gpu, count, total, 1, None)
    }

    /// An empty mask that keeps `count` of `total` query heads of `head_dim` elements over `kv_heads` kv heads.
    ///
    /// # Errors
    /// Those of [`Gpu::buffer`].
    pub fn heads(gpu: &Gpu, count: usize, total: usize, head_dim: usize, kv_heads: usize) -> Result<Mask> {
        let entries = qkv_list::entries(count, kv_heads);
        let read = gpu.mirrored("qkv list", Contents::Zeroed(4 * (count + 2 * entries) as u64))?;
        Mask::new(gpu, count, total, head_dim, Some(KvRows { read, entries, kv_heads }))
    }

    fn new(gpu: &Gpu, count: usize, total: usize, unit: usize, kv: Option<KvRows>) -> Result<Mask> {
        // Behind kept heads stand all keys and values, which decoding computes whatever is kept.
        let behind = kv.as_ref().map_or(0, |kv| 2 * kv.kv_heads);
        let kept: Vec<u32> = (0..count).map(|_| 0).chain((total..total + behind).map(|head| head as u32)).collect();
        Ok(Mask {
            kept: gpu.mirrored("kept", Contents::Bytes(bytemuck::cast_slice(&kept)))?,
            dropped: gpu.zeros("dropped", total - count)?,
            place_of: gpu.mirrored("place_of", Contents::Zeroed(4 * total as u64))?,
            kv,
            count,
            total,
            unit,
        })
    }

    /// Records the choice of the best units by `scores [total]`. `group` is the query heads of a kv head.
    ///
    /// # Errors
    /// Those of [`Recorder::dispatch`].
    pub fn choose(&self, rec: &mut Recorder<'_>, scores: &Buffer, group: usize) -> Result<()> {
        let choice = Choice { kept: &self.kept, dropped: &self.dropped, place_of: &self.place_of };
        top_k::record(rec, scores, choice, (self.total, self.count), false)?;
        if let Some(kv) = &self.kv {
            let list = (&kv.read, kv.entries);
            qkv_list::record(rec, (&self.kept, self.count), list, (self.total, group))?;
            rec.mirror_all(&kv.read)?;
        }
        rec.mirror_all(&self.kept)?;
        rec.mirror_all(&self.place_of)
    }

    /// Sets the kept units: a mask from outside.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] for another count than the mask was made for, or a unit that does not exist.
    pub fn set(&self, gpu: &Gpu, units: &[u32], group: usize) -> Result<()> {
        let ascending = units.windows(2).all(|pair| pair[0] < pair[1]);
        if units.len() != self.count || !ascending || units.last().is_some_and(|&last| last as usize >= self.total) {
            let what = format!("a mask of {} units for {} of {}", units.len(), self.count, self.total);
            return Err(crate::Error::Internal(what));
        }
        let mut scores = vec![0.0f32; self.total];
        for &unit in units {
            scores[unit as usize] = 1.0;
        }
        let scores = gpu.upload("given mask", &scores)?;
        let mut rec = gpu.record();
        self.choose(&mut rec, &scores, group)?;
        rec.submit()
    }

    /// The kept units, for kernels.
    pub fn kept(&self) -> Kept<'_> {
        Kept { list: &self.kept, count: self.count, unit: self.unit }
    }

    /// All units, kept or not.
    pub fn total(&self) -> usize {
        self.total
    }

    /// `[kept]` u32: the kept units, ascending. More may stand behind them.
    pub fn list(&self) -> &Buffer {
        &self.kept
    }

    /// The dropped units, for kernels; `None` when nothing is dropped.
    pub fn dropped(&self) -> Option<Kept<'_>> {
        let count = self.total - self.count;
        (count > 0).then_some(Kept { list: &self.dropped, count, unit: self.unit })
    }

    /// Where every unit went, as [`top_k::Choice::place_of`] says.
    pub fn place_of(&self) -> &Buffer {
        &self.place_of
    }

    /// The kept heads with the keys and values that they read, or `all` of those, as heads of q, k and v stacked, and how many
    /// keys there are. Of channels: the kept ones, and no keys.
    pub fn qkv(&self, all: bool) -> (Kept<'_>, usize) {
        let (list, keys) = match &self.kv {
            None => (&self.kept, 0),
            Some(kv) if all => (&self.kept, kv.kv_heads),
            Some(kv) => (&kv.read, kv.entries),
        };
        (Kept { list, count: self.count + 2 * keys, unit: self.unit }, keys)
    }

    /// Reads the kept units back, ascending. Waits for the device: for reports, never between layers.
    ///
    /// # Errors
    /// Those of [`Gpu::read`].
    pub fn read(&self, gpu: &Gpu) -> Result<Vec<u32>> {
        gpu.read(&self.kept, self.count)
    }
}

/// The masks of one layer; `None` = every unit.
#[derive(Clone, Default)]
pub struct LayerMasks {
    /// Query heads.
    pub heads: Option<Arc<Mask>>,
    /// MLP channels.
    pub channels: Option<Arc<Mask>>,
}

impl LayerMasks {
    /// Empty masks for every layer of a plan.
    ///
    /// # Errors
    /// Those of [`Gpu::buffer`].
    pub fn for_plan(gpu: &Gpu, model: &crate::config::ModelConfig, plan: &super::Plan) -> Result<Vec<LayerMasks>> {
        let of = |layer: usize| -> Result<LayerMasks> {
            let counts = plan.layers[layer];
            let (heads, kv_heads) = (model.num_attention_heads, model.num_key_value_heads);
            let mut masks = LayerMasks::default();
            if plan.prunes_heads(layer) {
                masks.heads = Some(Arc::new(Mask::heads(gpu, counts.heads, heads, model.head_dim, kv_heads)?));
            }
            if plan.prunes_channels(layer) {
                masks.channels = Some(Arc::new(Mask::channels(gpu, counts.channels, model.intermediate_size)?));
            }
            Ok(masks)
        };
        (0..plan.layers.len()).map(of).collect()
    }
}
