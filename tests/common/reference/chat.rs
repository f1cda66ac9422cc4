//! Pruning of one conversation: the prompt dense, probed, or led by its own first tokens; generated tokens under frozen masks, masks renewed every so
//! many tokens from the running mean of squared inputs (or distances from means) over prompt and answer, dropped units included.
//! A calibrated history by position serves the probe of the opening prompt; its mean over positions serves every later choice.

use super::calibration::{Calibration, History};
use super::probing::{ProbePruning, best, fuse, kept_count, measured, scores, stand_in};
use super::{Before, Half, Masks, Method, Reference, Run, Site, Stream};
use secateur::config::{HistoryKind, Method as Name, ModelConfig, PruneConfig};
use std::collections::BTreeMap;

type Sums = BTreeMap<Site, Vec<f64>>;

/// Runs with given masks and adds what is measured of every input, dropped units included, to the sums.
struct Watch<'a> {
    prune: &'a PruneConfig,
    calibration: Option<&'a Calibration>,
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
        for input in inputs {
            for row in measured(self.prune, self.calibration, site, input).chunks_exact(width) {
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
        }
    }

    fn stand_in(&self, site: Site) -> Option<&[f64]> {
        stand_in(self.prune, self.calibration, site)
    }
}

/// Conversations side by side; several share one choice.
pub struct Chat<'m> {
    model: &'m Reference,
    prune: PruneConfig,
    calibration: Option<Calibration>,
    /// For the probe of the opening prompt, and for everything later.
    histories: [Option<History>; 2],
    pub streams: Vec<Stream>,
    sums: Sums,
    /// Tokens in the sums of each site.
    summed: BTreeMap<Site, usize>,
    /// Sums over tokens since the last choice, and the number of all.
    waiting: (Sums, usize),
    /// How many of those are in the sums.
    counted: usize,
    /// Masks of the next token.
    pub masks: Masks,
    /// Relative gap at the cut of the last choice.
    pub margins: BTreeMap<Site, f64>,
    pub choices: usize,
}

impl<'m> Chat<'m> {
    pub fn new(
        model: &'m Reference,
        prune: &PruneConfig,
        calibration: Option<Calibration>,
        samples: usize,
    ) -> Chat<'m> {
        let history = |kind: HistoryKind| {
            let remembers = prune.method == Name::Pp && prune.history != HistoryKind::Off;
            calibration
                .as_ref()
                .filter(|_| remembers)
                .and_then(|calibration| calibration.history(kind, prune.statistic))
        };
        Chat {
            model,
            prune: prune.clone(),
            histories: [history(prune.history), history(HistoryKind::Collapsed)],
            calibration,
            streams: vec![model.empty(); samples],
            sums: zeros(model, prune),
            summed: sites(&model.config, prune).into_iter().map(|site| (site, 0)).collect(),
            waiting: (zeros(model, prune), 0),
            counted: 0,
            masks: Masks::new(),
            margins: BTreeMap::new(),
            choices: 0,
        }
    }

    /// Appends prompts; returns the logits after each.
    pub fn prefill(&mut self, prompts: &[Vec<u32>]) -> Vec<Vec<f64>> {
        // A probed prompt starts its sums anew; a dense one, or its lead, adds to those of everything before, of which answers
        // are part only where they are watched for renewals.
        let lead = if prompts.len() == 1 { self.prune.lead(prompts[0].len()) } else { 0 };
        let phases = self.prune.phases;
        let probed = phases.prefill && lead == 0;
        if probed || self.prune.reprobe_every == 0 || !phases.decode {
            self.waiting = (zeros(self.model, &self.prune), 0);
            self.counted = 0;
        } else {
            self.absorb();
        }
        let run = if lead > 0 {
            let (led, rest) = prompts[0].split_at(lead);
            let whole = self.watched(&[led.to_vec()]);
            self.choose();
            match rest {
                [] => whole,
                rest => {
                    let (prune, calibration) = (&self.prune, self.calibration.as_ref());
                    let mut ignored = zeros(self.model, prune);
                    let mut watch = Watch { prune, calibration, masks: &self.masks, sums: &mut ignored };
                    self.model.run(&mut self.streams, &[rest.to_vec()], &mut watch)
                }
            }
        } else if probed {
            // A history by position belongs to positions from the start, as far as it has them.
            let longest = prompts.iter().map(Vec::len).max().expect("prompts");
            let starts = self.streams.iter().all(|stream| stream.length == 0);
            let [opening, later] = &self.histories;
            let fits = starts && opening.as_ref().is_none_or(|history| history.covers(longest));
            let history = if fits { opening } else { later };
            let mut probing = ProbePruning::new(&self.prune, history.clone(), false, self.calibration.as_ref());
            let run = self.model.run(&mut self.streams, prompts, &mut probing);
            // Decoding goes on from what the probe saw, the mean over its samples of each of its tokens.
            self.sums = probing.traces.iter().map(|(&site, trace)| (site, trace.plain.clone())).collect();
            self.summed = probing.traces.iter().map(|(&site, trace)| (site, trace.tokens.len())).collect();
            self.margins = probing
                .traces
                .iter()
                .map(|(&site, t)| (site, t.score_margin.min(t.token_margin).min(t.sample_margin)))
                .collect();
            self.masks = probing.masks();
            self.choices += 1;
            run
        } else {
            let run = self.watched(prompts);
            if self.prune.phases.decode {
                self.choose();
            }
            run
        };
        self.logits(&run)
    }

    /// Runs tokens whole, and adds them to the sums.
    fn watched(&mut self, tokens: &[Vec<u32>]) -> Run {
        let (prune, calibration) = (&self.prune, self.calibration.as_ref());
        let mut watch = Watch { prune, calibration, masks: &Masks::new(), sums: &mut self.sums };
        let run = self.model.run(&mut self.streams, tokens, &mut watch);
        let count = tokens.iter().map(Vec::len).sum::<usize>();
        self.summed.values_mut().for_each(|summed| *summed += count);
        run
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
        let (prune, calibration) = (&self.prune, self.calibration.as_ref());
        let mut ignored = zeros(self.model, prune);
        // Those that count lie evenly among the tokens between two choices.
        let rows =
            |tokens: usize| (tokens * prune.reprobe_tokens.min(prune.reprobe_every)).checked_div(prune.reprobe_every);
        let counts = rows(self.waiting.1 + 1) > rows(self.waiting.1);
        let sums = if counts { &mut self.waiting.0 } else { &mut ignored };
        let mut watch = Watch { prune, calibration, masks, sums };
        let run = self.model.run(&mut self.streams, &batch, &mut watch);
        self.waiting.1 += 1;
        self.counted += usize::from(counts);
        self.logits(&run)
    }

    /// Adds the tokens since the last choice to the sums.
    fn absorb(&mut self) {
        // Each stands for as many as there were for one that counted.
        let weight = self.waiting.1 as f64 / self.counted as f64;
        for (site, sum) in self.sums.iter_mut().filter(|_| self.counted > 0) {
            sum.iter_mut().zip(&self.waiting.0[site]).for_each(|(sum, more)| *sum += weight * more);
        }
        let stood_for = if self.counted > 0 { self.waiting.1 } else { 0 };
        self.summed.values_mut().for_each(|summed| *summed += stood_for);
        self.counted = 0;
        self.waiting = (zeros(self.model, &self.prune), 0);
    }

    /// Chooses every mask from the mean of the sums, fused with the history's mean over positions.
    fn choose(&mut self) {
        for (&site, sum) in &self.sums {
            let count = kept_count(&self.model.config, &self.prune, site).expect("sums of pruned sites alone");
            let fused = |(c, sum): (usize, &f64)| {
                let mean = sum / self.summed[&site] as f64;
                let later = self.histories[1].as_ref();
                later.map_or(mean, |history| fuse(self.prune.fusion, mean, history.at(site, 0)[c]))
            };
            let f: Vec<f64> = sum.iter().enumerate().map(fused).collect();
            let (kept, margin) = best(&scores(self.model, &self.prune, site, &f), count, None);
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
