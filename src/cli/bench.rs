//! `secateur bench`: tokens a second of prompt and answer, dense and pruned.
//!
//! Configurations take turns within a round, so that a machine whose speed drifts treats them alike; the median over
//! rounds is reported.

use super::answer::removed;
use super::load::{Loaded, Opened};
use super::options::{MethodName, ModelOptions, ProbeOptions};
use super::output::{JsonOption, print};
use super::progress::{Unit, bar};
use anyhow::Result;
use clap::Args;
use secateur::config::{Method, PruneConfig, PrunePhases};
use secateur::engine::{SequenceOptions, Sequences};
use secateur::eval::report::DeviceRecord;
use secateur::protocol::rate;
use secateur::prune::{Flops, Knowledge};
use serde::Serialize;
use std::time::Instant;

/// Arguments of `secateur bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Ratios to measure beside dense
    #[arg(long, value_name = "R,R", value_delimiter = ',', default_values_t = [0.2, 0.4])]
    #[arg(allow_negative_numbers = true)]
    ratio: Vec<f64>,
    /// The method to measure beside dense
    #[arg(long, value_enum, default_value = "pp")]
    method: MethodName,
    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 128)]
    prompt_tokens: usize,
    /// Tokens of the answer
    #[arg(long, value_name = "N", default_value_t = 32)]
    decode_tokens: usize,
    /// Rounds; one more runs before them and does not count
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Seed of the made-up tokens
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    probe: ProbeOptions,
    #[command(flatten)]
    json: JsonOption,
}

/// One phase of one configuration.
#[derive(Serialize)]
struct Run {
    phase: &'static str,
    method: Method,
    ratio: f64,
    tokens: usize,
    /// The median over the rounds.
    tokens_per_second: f64,
    /// By round.
    tokens_per_second_by_round: Vec<f64>,
    /// Of the transformer layers in one round, probes included.
    flops: f64,
    flops_dense: f64,
    flops_probe: f64,
    #[serde(skip)]
    cost: Flops,
}

#[derive(Serialize)]
struct BenchReport {
    runs: Vec<Run>,
    rounds: usize,
    model: String,
    model_format: String,
    model_bytes: u64,
    seconds_load: f64,
    seconds: f64,
    #[serde(flatten)]
    device: DeviceRecord,
    prune: PruneConfig,
    seed: u64,
    version: &'static str,
}

/// Measures, prints a table, writes the report.
pub fn run(args: &BenchArgs) -> Result<()> {
    let configs = configurations(args)?;
    let json = args.json.open()?;
    let opened = Opened::open(&args.model)?;
    let slots = args.prompt_tokens.saturating_add(args.decode_tokens);
    let context = opened.context(Some(slots), slots)?;
    opened.check_prompt(args.prompt_tokens, context)?;
    let loaded = opened.load(&args.model)?;
    let started = Instant::now();
    let runs = measure(args, &configs, &loaded, context)?;
    let report = BenchReport {
        runs,
        rounds: args.rounds,
        model: opened.name.clone(),
        model_format: opened.files.format_name(),
        model_bytes: opened.files.total_bytes(),
        seconds_load: loaded.seconds,
        seconds: started.elapsed().as_secs_f64(),
        device: loaded.record(),
        prune: args.probe.config(),
        seed: args.seed,
        version: env!("CARGO_PKG_VERSION"),
    };
    if !json.takes_stdout() {
        print(&table(&report))?;
    }
    json.write(&report)
}

/// Dense first, then the method at every ratio.
fn configurations(args: &BenchArgs) -> Result<Vec<PruneConfig>> {
    let method = Method::from(args.method);
    let mut configs = vec![args.probe.config()];
    if method != Method::Dense {
        let phases = PrunePhases { prefill: true, decode: true };
        configs.extend(args.ratio.iter().map(|&ratio| PruneConfig { method, ratio, phases, ..args.probe.config() }));
    }
    for config in &configs {
        config.validate()?;
    }
    Ok(configs)
}

/// A configuration at work, and what its rounds gave.
struct Contender {
    config: PruneConfig,
    sequences: Sequences,
    rates: [Vec<f64>; 2],
    costs: [Flops; 2],
}

fn measure(args: &BenchArgs, configs: &[PruneConfig], loaded: &Loaded, context: usize) -> Result<Vec<Run>> {
    let vocab = loaded.engine.config().vocab_size as u64;
    // Multiplication by a large odd number scatters ids over the vocabulary.
    let token = |index: usize| ((index as u64 ^ args.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % vocab;
    let ids: Vec<u32> = (0..context).map(|index| token(index) as u32).collect();
    let mut contenders = Vec::new();
    for config in configs {
        let options =
            SequenceOptions { samples: 1, context, prune: config.clone(), known: Knowledge::default(), live: false };
        let sequences = Sequences::new(&loaded.engine, options)?;
        let (rates, costs) = Default::default();
        contenders.push(Contender { config: config.clone(), sequences, rates, costs });
    }
    let bar = bar("measuring", ((args.rounds + 1) * configs.len()) as u64, Unit::Steps);
    for round in 0..=args.rounds {
        for contender in &mut contenders {
            let measured = contender.round(&ids, args.prompt_tokens)?;
            if round > 0 {
                for ((rates, cost), (rate, flops)) in contender.rates.iter_mut().zip(&mut contender.costs).zip(measured)
                {
                    rates.push(rate);
                    *cost = flops;
                }
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let tokens = [args.prompt_tokens, args.decode_tokens];
    let runs = contenders.into_iter().flat_map(|contender| contender.runs(tokens));
    Ok(runs.filter(|run| run.tokens > 0).collect())
}

impl Contender {
    /// Prompt and answer once: tokens a second and cost of each.
    fn round(&mut self, ids: &[u32], prompt: usize) -> Result<[(f64, Flops); 2]> {
        let sequences = &mut self.sequences;
        sequences.clear()?;
        let before = sequences.flops();
        let started = Instant::now();
        sequences.prefill(&[ids[..prompt].to_vec()])?;
        let prefill = (rate(prompt, started.elapsed().as_secs_f64()), sequences.flops() - before);
        let before = sequences.flops();
        let started = Instant::now();
        for &id in &ids[prompt..] {
            sequences.step(&[id])?;
        }
        let seconds = started.elapsed().as_secs_f64();
        Ok([prefill, (rate(ids.len() - prompt, seconds), sequences.flops() - before)])
    }

    fn runs(self, tokens: [usize; 2]) -> impl Iterator<Item = Run> {
        let Contender { config, rates, costs, .. } = self;
        let phases = ["prefill", "decode"].into_iter().zip(tokens).zip(rates).zip(costs);
        phases.map(move |(((phase, tokens), rates), cost)| Run {
            phase,
            method: config.method,
            ratio: config.ratio,
            tokens,
            tokens_per_second: median(&rates),
            tokens_per_second_by_round: rates,
            flops: cost.pass + cost.probe,
            flops_dense: cost.dense,
            flops_probe: cost.probe,
            cost,
        })
    }
}

/// The middle value; of an even number the mean of the two in the middle; 0 of none.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        len if len % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

fn table(report: &BenchReport) -> String {
    let mut text = format!(
        "{} ({}) on {} ({}), median of {} rounds, {:.0} s\n\n\
         phase    method      ratio  tokens  tokens/s  to dense  FLOPs of the layers\n",
        report.model, report.model_format, report.device.adapter, report.device.backend, report.rounds, report.seconds
    );
    for phase in ["prefill", "decode"] {
        let runs = || report.runs.iter().filter(move |run| run.phase == phase);
        let dense = runs().next().map_or(0.0, |run| run.tokens_per_second);
        for run in runs() {
            text.push_str(&format!(
                "{:<8} {:<11} {:<6} {:>6} {:>9.2} {:>9.2}  {}\n",
                run.phase,
                run.method.name(),
                run.ratio,
                run.tokens,
                run.tokens_per_second,
                if dense > 0.0 { run.tokens_per_second / dense } else { 0.0 },
                removed(run.cost)
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }
}
