//! Pruning of one conversation: the prompt dense or probed, generated tokens under frozen masks, masks renewed every so
//! many tokens from the running mean of squared inputs over prompt and answer, dropped units included.

use super::probing::{History, ProbePruning, best, fuse, kept_count, scores};
use super::{Before, Half, Masks, Method, Reference, Run, Site, Stream};
use secateur::config::{ModelConfig, PruneConfig};
use std::collections::BTreeMap;

type Sums = BTreeMap<Site, Vec<f64>>;

/// Runs with given masks and adds every squared input, dropped units included, to the sums.
struct Watch<'a> {
    masks: &'a Masks,
    sums: &'a mut Sums,
}

impl Method for Watch<'_> {
    fn choose(&mut self, _: &Reference, site: Site, _: &Before<'_>) -> Option<Vec<u32>> {
        self.masks.get(&site).cloned()
    }

    fn ran(&mut self, site: Site, inputs: &[Vec<f64>], _: Option<&[u32]>) {
        let Some(sum) = self.sums.get_mut(&site) else { return };
        let width = sum.len();
        for row in inputs.iter().flat_map(|input| input.chunks_exact(width)) {
            sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * x);
        }
    }
}

/// Conversations side by side; several share one choice.
pub struct Chat<'m> {
    model: &'m Reference,
    prune: PruneConfig,
    history: Option<History>,
    pub streams: Vec<Stream>,
    sums: Sums,
    summed: usize,
    /// Sums over tokens since the last choice, and their number.
    waiting: (Sums, usize),
    /// Masks of the next token.
    pub masks: Masks,
    /// Relative gap at the cut of the last choice.
    pub margins: BTreeMap<Site, f64>,
    pub choices: usize,
}

impl<'m> Chat<'m> {
    pub fn new(model: &'m Reference, prune: &PruneConfig, history: Option<History>, samples: usize) -> Chat<'m> {
        Chat {
            model,
            prune: prune.clone(),
            history,
            streams: vec![model.empty(); samples],
            sums: zeros(model, prune),
            summed: 0,
            waiting: (zeros(model, prune), 0),
            masks: Masks::new(),
            margins: BTreeMap::new(),
            choices: 0,
        }
    }

    /// Appends prompts; returns the logits after each.
    pub fn prefill(&mut self, prompts: &[Vec<u32>]) -> Vec<Vec<f64>> {
        // A probed prompt starts its sums anew; a dense one adds to those of everything before, of which answers are part
        // only where they are watched for renewals.
        if self.prune.phases.prefill || self.prune.reprobe_every == 0 {
            self.waiting = (zeros(self.model, &self.prune), 0);
        } else {
            self.absorb();
        }
        let run = if self.prune.phases.prefill {
            // An exact history belongs to positions from the start.
            let starts = self.streams.iter().all(|stream| stream.length == 0);
            let history = self.history.clone().filter(|history| starts || history.collapsed);
            let mut probing = ProbePruning::new(&self.prune, history, None);
            let run = self.model.run(&mut self.streams, prompts, &mut probing);
            // Decoding goes on from what the probe saw, the mean over its samples of each of its tokens.
            self.sums = probing.traces.iter().map(|(&site, trace)| (site, trace.plain.clone())).collect();
            self.summed = probing.traces.values().next().map_or(0, |trace| trace.tokens.len());
            self.margins = probing
                .traces
                .iter()
                .map(|(&site, t)| (site, t.score_margin.min(t.token_margin).min(t.sample_margin)))
                .collect();
            self.masks = probing.masks();
            self.choices += 1;
            run
        } else {
            let mut watch = Watch { masks: &Masks::new(), sums: &mut self.sums };
            let run = self.model.run(&mut self.streams, prompts, &mut watch);
            self.summed += prompts.iter().map(Vec::len).sum::<usize>();
            if self.prune.phases.decode {
                self.choose();
            }
            run
        };
        self.logits(&run)
    }

    /// Appends a token to each; returns the logits after it.
    pub fn step(&mut self, ids: &[u32]) -> Vec<Vec<f64>> {
        if self.prune.reprobe_every > 0 && self.waiting.1 == self.prune.reprobe_every {
            self.absorb();
            self.choose();
        }
        let none = Masks::new();
        let masks = if self.prune.phases.decode { &self.masks } else { &none };
        let batch: Vec<Vec<u32>> = ids.iter().map(|&id| vec![id]).collect();
        let mut watch = Watch { masks, sums: &mut self.waiting.0 };
        let run = self.model.run(&mut self.streams, &batch, &mut watch);
        self.waiting.1 += 1;
        self.logits(&run)
    }

    /// Adds the tokens since the last choice to the sums.
    fn absorb(&mut self) {
        for (site, sum) in &mut self.sums {
            sum.iter_mut().zip(&self.waiting.0[site]).for_each(|(sum, more)| *sum += more);
        }
        self.summed += self.waiting.1;
        self.waiting = (zeros(self.model, &self.prune), 0);
    }

    /// Chooses every mask from the mean of the sums, fused with one row of history.
    fn choose(&mut self) {
        for (&site, sum) in &self.sums {
            let count = kept_count(&self.model.config, &self.prune, site).expect("sums of pruned sites alone");
            let history = self.history.as_ref().filter(|history| history.collapsed);
            let fused = |(c, sum): (usize, &f64)| {
                let mean = sum / self.summed as f64;
                history.map_or(mean, |history| fuse(mean, history.at(site, 0)[c]))
            };
            let f: Vec<f64> = sum.iter().enumerate().map(fused).collect();
            let (kept, margin) = best(&scores(self.model, site, &f), count, None);
            self.masks.insert(site, kept);
            self.margins.insert(site, margin);
        }
        self.choices += 1;
    }

    fn logits(&self, run: &Run) -> Vec<Vec<f64>> {
        run.last.iter().map(|last| self.model.last_logits(last)).collect()
    }
}

/// Sites where something is pruned.
pub fn sites(model: &ModelConfig, prune: &PruneConfig) -> Vec<Site> {
    (0..model.num_hidden_layers)
        .flat_map(|layer| [Half::Attention, Half::Mlp].map(|half| Site { layer, half }))
        .filter(|&site| kept_count(model, prune, site).is_some())
        .collect()
}

fn zeros(model: &Reference, prune: &PruneConfig) -> Sums {
    let zero = |site: Site| (site, vec![0.0; model.widths(site.half).0]);
    sites(&model.config, prune).into_iter().map(zero).collect()
}
