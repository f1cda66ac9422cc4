//! What a model at work takes of its device's memory, known before anything is made.

use crate::config::{Method, ModelConfig, PruneConfig};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Stretches, Tier};
use crate::kernels::Cache;
use crate::kernels::matmul_columns::{most_rows, stride};
use crate::model::ModelFiles;
use crate::model::convert::Recipe;
use crate::prune::Plan;

use super::sequences::CHUNK;

/// Formats that are proposed where a model does not fit, the best first.
const SMALLER: [&str; 5] = ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M"];
/// Contexts are proposed in steps of this, in tokens; a smaller one is of no use.
const STEP: usize = 256;

/// Bytes of a device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Needs {
    /// Weights, and what scores need to know of them.
    pub weights: u64,
    /// Keys and values of the context, the turns of its positions, and the buffers of a step.
    pub cache: u64,
    /// Activations of the longest pass over a prompt, and what software adapters copy to fetch from.
    pub workspace: u64,
    /// What pruning an answer adds.
    pub pruning: u64,
}

impl Needs {
    /// Of one sequence with room for `context` tokens over weights of `weights` bytes, pruned by `prune`; `live` where somebody watches.
    pub fn new(
        config: &ModelConfig,
        weights: u64,
        context: usize,
        (prune, live): (&PruneConfig, bool),
        tier: Tier,
    ) -> Needs {
        let kv = config.num_key_value_heads * config.head_dim;
        let words = |count: usize| 4 * count as u64;
        let cache = caches(config, context as u64, tier) + words(context) * config.head_dim as u64;
        let longest = context.min(CHUNK);
        let pass = |tokens: usize| {
            let width = config.num_attention_heads * config.head_dim;
            let row = 2 * config.hidden_size + 1 + 2 * width + 2 * kv + stride(config.intermediate_size);
            words(tokens) * row as u64 + words(most_rows(tier, tokens)) * config.hidden_size as u64
        };
        let copies = match tier {
            Tier::Software => Stretches::one(0, (longest * stride(widest(config)) / 4) as u32).bytes(),
            Tier::Gpu => 0,
        };
        let step = words(config.hidden_size + config.vocab_size) + pass(1);
        let pruning = pruning(config, prune, live, tier);
        Needs { weights, cache: cache + step, workspace: pass(longest) + copies, pruning }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.cache + self.workspace + self.pruning
    }
}

/// Bytes of the keys and values of so many tokens, in all layers.
pub fn caches(config: &ModelConfig, tokens: u64, tier: Tier) -> u64 {
    let slot = Cache::slot(config.num_key_value_heads, config.head_dim);
    4 * tokens * (config.num_hidden_layers * slot) as u64 * mirrored(tier)
}

/// How often what has a mirror is there (see [`Gpu::mirrored`]).
fn mirrored(tier: Tier) -> u64 {
    match tier {
        Tier::Software => 2,
        Tier::Gpu => 1,
    }
}

/// Values of the widest activations that a matmul reads.
fn widest(config: &ModelConfig) -> usize {
    config.hidden_size.max(config.num_attention_heads * config.head_dim).max(config.intermediate_size)
}

/// The window of a renewal, sums, scores and masks.
fn pruning(config: &ModelConfig, prune: &PruneConfig, live: bool, tier: Tier) -> u64 {
    let plan = Plan::new(config, prune);
    let fixed = prune.method.is_static();
    let prunes = plan.prunes() && (prune.phases.decode || prune.leads()) && prune.method != Method::Dense;
    if !(live || prunes) || fixed {
        return 0;
    }
    let width = config.num_attention_heads * config.head_dim;
    let (channels, layers) = (config.intermediate_size, config.num_hidden_layers);
    let active = stride(channels);
    let rows = prune.reprobe_every.max(1);
    let window = layers * prune.reprobe_rows(prune.reprobe_every) * (2 * config.hidden_size + width + active);
    // Sums, scores and shares of every block; dropped of every unit, and kept and places, which have mirrors.
    let lists = 2 * mirrored(tier) as usize;
    let blocks = layers * (width + config.num_attention_heads * (3 + lists) + channels * (4 + lists));
    4 * (window + blocks + width.max(channels) + rows * (2 * width + active)) as u64
}

/// What is going to run.
#[derive(Debug, Clone, Copy)]
pub struct Purpose<'a> {
    /// Room for so many tokens.
    pub context: usize,
    /// How it is pruned.
    pub prune: &'a PruneConfig,
    /// Whether somebody watches.
    pub live: bool,
}

/// Refuses a model that the device's memory cannot hold, before anything is uploaded; where nobody knows what is free, the device
/// decides. Without a purpose the weights alone are looked at.
///
/// # Errors
/// [`Error::ModelTooLarge`] with what would fit.
pub fn check(gpu: &Gpu, files: &ModelFiles, purpose: Option<Purpose<'_>>) -> Result<()> {
    let Some(available) = gpu.memory_available() else { return Ok(()) };
    let tier = gpu.tier();
    let needs = |weights: u64, context: usize| match purpose {
        Some(Purpose { prune, live, .. }) => Needs::new(&files.config, weights, context, (prune, live), tier),
        None => Needs { weights, cache: 0, workspace: 0, pruning: 0 },
    };
    let weights = files.sizes(None)?.device;
    let context = purpose.map_or(0, |purpose| purpose.context);
    let needed = needs(weights, context);
    if needed.total() <= available {
        return Ok(());
    }
    let mut advice = Vec::new();
    if let Some(context) = largest_context(context, &|context| needs(weights, context).total() <= available) {
        advice.push(format!("a context of {context} tokens fits (--context {context})"));
    }
    for name in SMALLER {
        let recipe = Recipe::by_name(name)?;
        let weights_then = files.sizes(Some(recipe))?.device;
        let total = needs(weights_then, context).total();
        if weights_then < weights && total <= available {
            let again = if files.is_quantised() { " --requantise" } else { "" };
            advice.push(format!(
                "as {name} it needs {} (`secateur convert {} --format {name}{again} --out FILE.gguf`)",
                megabytes(total),
                files.path.display()
            ));
            break;
        }
    }
    if advice.is_empty() {
        advice.push("no format of it fits: close other programs, or use a smaller model".into());
    }
    let mut parts = vec![format!("{} of weights", megabytes(needed.weights))];
    if purpose.is_some() {
        parts.push(format!("{} for a context of {context} tokens", megabytes(needed.cache)));
        parts.push(format!("{} to work", megabytes(needed.workspace + needed.pruning)));
    }
    Err(Error::ModelTooLarge {
        needed: megabytes(needed.total()),
        parts: parts.join(", "),
        adapter: gpu.info().name.clone(),
        available: megabytes(available),
        advice: advice.join("; or "),
    })
}

/// Refuses models that the device's memory cannot hold all at once, before any of them is uploaded: a model, and the same with
/// adapters.
///
/// # Errors
/// [`Error::ModelTooLarge`] with what would fit.
pub fn check_together(gpu: &Gpu, models: &[&ModelFiles]) -> Result<()> {
    let sizes = models.iter().map(|files| Ok(files.sizes(None)?.device)).collect::<Result<Vec<u64>>>()?;
    fits_together(&gpu.info().name, &sizes, gpu.memory_available())
}

fn fits_together(adapter: &str, sizes: &[u64], available: Option<u64>) -> Result<()> {
    let total: u64 = sizes.iter().sum();
    let Some(available) = available.filter(|&available| available < total) else { return Ok(()) };
    let fit = sizes.iter().scan(0, |sum, &size| Some((*sum += size, *sum).1)).take_while(|&sum| sum <= available);
    let fit = fit.count().saturating_sub(1);
    Err(Error::ModelTooLarge {
        needed: megabytes(total),
        parts: format!(
            "its weights once for every adapter: {}",
            sizes.iter().map(|&size| megabytes(size)).collect::<Vec<_>>().join(", ")
        ),
        adapter: adapter.to_owned(),
        available: megabytes(available),
        advice: format!("adapters that fit at once: {fit}; run the others in a table of their own"),
    })
}

/// The largest context below `context` that fits, in whole steps.
fn largest_context(context: usize, fits: &dyn Fn(usize) -> bool) -> Option<usize> {
    // What is needed grows with the context, so that steps that fit come before those that do not.
    let (mut low, mut high) = (0, context.saturating_sub(1) / STEP);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if fits(middle * STEP) { low = middle } else { high = middle - 1 }
    }
    (low > 0).then_some(low * STEP)
}

/// For people, in decimal units.
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_that_do_not_fit_together_are_told_how_many_do() {
        assert!(fits_together("x", &[100, 200], Some(300)).is_ok());
        assert!(fits_together("x", &[100, 200], None).is_ok());
        let error = fits_together("x", &[100_000_000, 200_000_000, 200_000_000], Some(300_000_000)).unwrap_err();
        for word in ["500.0 MB", "100.0 MB, 200.0 MB, 200.0 MB", "300.0 MB", "fit at once: 1"] {
            assert!(error.to_string().contains(word), "`{error}` lacks `{word}`");
        }
    }

    #[test]
    fn the_largest_context_that_fits() {
        let below = |limit: usize| move |context: usize| context <= limit;
        assert_eq!(largest_context(4096, &below(1000)), Some(768));
        assert_eq!(largest_context(4096, &below(768)), Some(768));
        assert_eq!(largest_context(4096, &below(255)), None);
        assert_eq!(largest_context(4096, &below(5000)), Some(3840));
        assert_eq!(largest_context(100, &below(5000)), None, "none below that is of use");
        assert_eq!(largest_context(0, &below(5000)), None);
    }
}
