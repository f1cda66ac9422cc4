//! Answers in two ways: logits read back and drawn from by the CPU, and drawn on the device with the next pass ahead.

use secateur::config::SamplingConfig;
use secateur::engine::{Sampler, Sequences, Traffic, Watched};
use secateur::prune::Flops;

/// What is known after every token.
#[derive(Debug, PartialEq)]
pub struct Seen {
    pub ids: Vec<u32>,
    pub lengths: Vec<usize>,
    pub flops: Flops,
    pub traffic: Traffic,
    pub choices: usize,
    pub watched: Vec<Watched>,
}

fn seen(sequences: &mut Sequences, ids: Vec<u32>) -> Seen {
    let mut watched = Vec::new();
    while let Some(choice) = sequences.watched().unwrap() {
        watched.push(choice);
    }
    let (flops, traffic, choices) = (sequences.flops(), sequences.traffic(), sequences.choices());
    Seen { ids, lengths: sequences.lengths().to_vec(), flops, traffic, choices, watched }
}

/// A sampler for every sequence, each with a seed of its own.
pub fn samplers(sampling: &SamplingConfig, count: usize) -> Vec<Sampler> {
    let seeds = (sampling.seed..).take(count);
    seeds.map(|seed| Sampler::new(SamplingConfig { seed, ..sampling.clone() }).unwrap()).collect()
}

fn accept(samplers: &mut [Sampler], ids: &[u32]) {
    samplers.iter_mut().zip(ids).for_each(|(sampler, &id)| sampler.accept(id));
}

/// `count` tokens behind the last prompt; the last of them is not run.
pub fn by_steps(sequences: &mut Sequences, samplers: &mut [Sampler], count: usize) -> Vec<Seen> {
    let mut logits = sequences.logits().unwrap();
    let mut all = Vec::new();
    loop {
        let draws = samplers.iter_mut().zip(&logits);
        let ids: Vec<u32> = draws.map(|(sampler, logits)| sampler.sample(logits).unwrap()).collect();
        accept(samplers, &ids);
        all.push(seen(sequences, ids.clone()));
        if all.len() == count {
            return all;
        }
        logits = sequences.step(&ids).unwrap();
    }
}

/// The same on the device. A pass runs ahead of the last token too; says how many did.
pub fn by_draws(sequences: &mut Sequences, samplers: &mut [Sampler], count: usize) -> (Vec<Seen>, usize) {
    let (mut all, mut ahead) = (Vec::new(), 0);
    loop {
        pollster::block_on(sequences.draw(samplers)).unwrap();
        ahead += usize::from(sequences.run_ahead().unwrap());
        let ids = pollster::block_on(sequences.drawn()).unwrap();
        accept(samplers, &ids);
        all.push(seen(sequences, ids.clone()));
        if all.len() == count {
            return (all, ahead);
        }
        sequences.append(&ids).unwrap();
    }
}
