//! Buffers that kernels are timed on: the activations of a pass, the keys and values of every layer, a probe's state.

use crate::config::PruneConfig;
use crate::error::Result;
use crate::gpu::{Buffer, Contents, Gpu};
use crate::kernels::Cache;
use crate::kernels::matmul_columns::{most_parts, stride};
use crate::kernels::rope_append::Turns;
use crate::model::ModelWeights;
use crate::prune::{LayerMasks, LayerUnits, Origin, Plan, ProbeSizes, UnitSets, Units};

/// Buffers for prompts of one length, and for a token behind such a prompt.
pub(super) struct Bank {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Rows of a probe of that prompt, by half.
    pub sizes: ProbeSizes,
    /// Tokens that a renewal of the masks looks at.
    pub window: usize,
    pub x: Buffer,         // [prompt][H]
    pub normed: Buffer,    // [prompt][H]
    pub norms: Buffer,     // [prompt]
    pub added: Buffer,     // [prompt + parts][H]: parts of what o or down add
    pub qkv: Buffer,       // [prompt][(A + 2K)*d]
    pub mixed: Buffer,     // [prompt][A*d]
    pub active: Buffer,    // [prompt][stride(C)]
    pub logits: Buffer,    // [vocab]
    pub ids: Buffer,       // [prompt]
    pub places: Buffer,    // [prompt] position and slot: those of the prompt
    pub behind: Buffer,    // the same of a token behind the prompt
    pub last: Buffer,      // [window]: the same of the prompt's last tokens
    pub probed: Buffer,    // [prompt]: the same of a probe
    pub counted: Buffer,   // [max(prompt, units)] 0, 1, 2 and so on
    pub rest: Buffer,      // [max(prompt, units)]
    pub place_of: Buffer,  // [max(prompt, units)]
    pub length: Buffer,    // [1]: the prompt's
    pub statistic: Buffer, // [prompt][max(A*d, C)]
    pub fused: Buffer,     // [max(A*d, C)]
    pub sums: Buffer,      // [max(A*d, C)]
    pub scores: Buffer,    // [max(prompt, units)]: distinct, positive
    pub written: Buffer,   // [max(prompt, units)]
    caches: Vec<Buffer>,   // by layer, [prompt + 1][2][K][d]
    turns: Buffer,
}

/// Numbers in (0, 1), the same on every machine.
fn numbers(count: usize) -> Vec<f32> {
    let number = |index: u64| (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 41) as f32 + 0.5;
    (1..=count as u64).map(|index| number(index) / (1u32 << 23) as f32).collect()
}

impl Bank {
    pub fn new(gpu: &Gpu, model: &ModelWeights, prune: &PruneConfig, prompt: usize) -> Result<Bank> {
        let config = &model.config;
        let (hidden, channels) = (config.hidden_size, config.intermediate_size);
        let (width, kv) = (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
        let window = prune.reprobe_rows(prune.reprobe_every).clamp(1, prompt);
        let units = prompt.max(channels).max(config.num_attention_heads);
        let noise = |what: &str, len: usize| gpu.upload(what, &numbers(len));
        let places: Vec<[u32; 2]> = (0..prompt as u32).map(|at| [at; 2]).collect();
        let cache = numbers((prompt + 1) * Cache::slot(config.num_key_value_heads, config.head_dim));
        let cache = |_| gpu.mirrored("keys and values", Contents::Bytes(bytemuck::cast_slice(&cache)));
        let ids: Vec<u32> = (0..prompt).map(|at| (at * 7919 % config.vocab_size) as u32).collect();
        Ok(Bank {
            prompt,
            sizes: ProbeSizes::new(prune, 1, prompt),
            window,
            x: noise("state", prompt * hidden)?,
            normed: noise("normed state", prompt * hidden)?,
            norms: noise("norms", prompt)?,
            added: gpu.zeros("added", most_parts(gpu, prompt) * hidden)?,
            qkv: noise("q, k and v", prompt * (width + 2 * kv))?,
            mixed: noise("mixed values", prompt * width)?,
            active: noise("activations", prompt * stride(channels))?,
            logits: gpu.zeros("logits", config.vocab_size)?,
            ids: gpu.upload("ids", &ids)?,
            places: gpu.upload::<[u32; 2]>("places", &places)?,
            behind: gpu.upload("place", &[prompt as u32; 2])?,
            last: gpu.upload::<[u32; 2]>("last places", &places[prompt - window..])?,
            probed: gpu.zeros("probe places", prompt * 2)?,
            counted: gpu.upload("positions", &(0..units as u32).collect::<Vec<u32>>())?,
            rest: gpu.zeros("rest", units)?,
            place_of: gpu.zeros("place_of", units)?,
            length: gpu.upload("length", &[prompt as u32])?,
            statistic: noise("statistic", prompt * width.max(channels))?,
            fused: noise("fused statistic", width.max(channels))?,
            sums: gpu.zeros("sums", width.max(channels))?,
            scores: noise("scores", units)?,
            written: gpu.zeros("written", units)?,
            caches: (0..config.num_hidden_layers).map(cache).collect::<Result<_>>()?,
            turns: model.turns(gpu, prompt + 1)?,
        })
    }

    /// Keys and values of a layer, for a pass that writes slots from `fresh` on.
    pub fn cache<'a>(&'a self, model: &ModelWeights, layer: usize, fresh: usize) -> Cache<'a> {
        let (kv_heads, head_dim) = (model.config.num_key_value_heads, model.config.head_dim);
        let slots = self.prompt + 1;
        Cache { buffer: &self.caches[layer], kv_heads, capacity: slots, fresh, filled: slots, head_dim }
    }

    /// The rotary embedding of a layer, and what is done to its heads before.
    pub fn turns<'a>(&'a self, model: &'a ModelWeights, layer: usize) -> Turns<'a> {
        model.layers[layer].turns(model.rope(&self.turns))
    }
}

/// Masks of a plan that keep units spread at random over each layer.
pub(super) fn masks(gpu: &Gpu, model: &ModelWeights, prune: &PruneConfig) -> Result<Vec<LayerMasks>> {
    let config = &model.config;
    let plan = Plan::new(config, prune);
    let some = |kept: usize, of: usize, layer: usize| {
        let mut order: Vec<(u64, u32)> = (0..of as u32)
            .map(|unit| (((u64::from(unit) + 1) * (layer as u64 + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15), unit))
            .collect();
        order.sort_unstable();
        let mut kept: Vec<u32> = order[..kept].iter().map(|&(_, unit)| unit).collect();
        kept.sort_unstable();
        (kept.len() < of).then_some(Units { kept, bias: None })
    };
    let layers = plan.layers.iter().enumerate().map(|(layer, counts)| {
        let heads = some(counts.heads, config.num_attention_heads, layer);
        LayerUnits::new(heads, some(counts.channels, config.intermediate_size, layer))
    });
    let units = UnitSets { origin: Origin::of_method("", prune, None), layers: layers.collect() };
    Ok(crate::prune::Fixed::new(gpu, config, &units)?.masks().to_vec())
}
