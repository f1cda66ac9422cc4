//! What settings will cost, before anything runs.

use crate::config::{Method, ModelConfig, PruneConfig};
use crate::engine::CHUNK;
use crate::prune::{Flops, Plan, ProbeSizes};

/// What settings mean for a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Planned {
    /// Kept and all query heads of a pruned layer.
    pub heads: (usize, usize),
    /// Kept and all MLP channels of a pruned layer.
    pub channels: (usize, usize),
    /// Share of the layers' FLOPs that an answer's tokens are spared, re-probes counted as cost.
    pub answer_removed: f64,
    /// Share of the layers' FLOPs that a prompt is spared: what leads it is not, and a probe counts as cost, so that this is
    /// negative where it costs more than is saved.
    pub prompt_removed: f64,
}

/// What `prune` will remove of `model`, for a prompt of `prompt` tokens and an answer behind it.
pub fn planned(model: &ModelConfig, prune: &PruneConfig, prompt: usize) -> Planned {
    let prompt = prompt.max(1);
    let pruned = match prune.method {
        Method::Dense => Plan::dense(model),
        _ => Plan::new(model, prune),
    };
    let dense = Plan::dense(model);
    let last = pruned.layers.last().copied().unwrap_or(dense.layers[0]);
    let removed = |flops: Flops| 1.0 - (flops.pass + flops.probe) / flops.dense.max(1.0);

    let mut whole = Flops::default();
    let in_prompt = prune.phases.prefill && pruned.prunes();
    for first in (0..prompt).step_by(CHUNK) {
        let end = prompt.min(first + CHUNK);
        let led = if in_prompt { first + prune.lead(end - first) } else { end };
        for (plan, tokens) in [(&dense, first..led), (&pruned, led..end)] {
            let attended = (tokens.len() * (tokens.start + tokens.end + 1)) as f64 / 2.0;
            whole.add(model, plan, tokens.len() as f64, attended);
        }
        if in_prompt && !prune.leads() {
            whole.add_probe(model, &pruned, ProbeSizes::new(prune, 1, end - first));
        }
    }

    let mut answer = Flops::default();
    let in_answer = prune.phases.decode && pruned.prunes();
    answer.add(model, if in_answer { &pruned } else { &dense }, 1.0, prompt as f64);
    if in_answer && prune.reprobe_every > 0 {
        // Some tokens are run once more where they were dropped.
        let share = prune.reprobe_rows(prune.reprobe_every) as f64 / prune.reprobe_every as f64;
        answer.add_dropped(model, &pruned, share, share * prompt as f64);
    }
    Planned {
        heads: (last.heads, model.num_attention_heads),
        channels: (last.channels, model.intermediate_size),
        answer_removed: removed(answer),
        prompt_removed: removed(whole),
    }
}
