//! Prompt and answer, end to end: every configuration takes its turn in every round, so that a machine whose speed drifts
//! treats them alike; every other round goes backwards, so that a steady drift cancels.

use super::Peer;
use super::contender::{Contender, Kept, Lap};
use super::memory::{Memory, check_caches};
use super::statistics::Spread;
use crate::config::{ModelConfig, PruneConfig};
use crate::engine::needs::caches;
use crate::engine::{Engine, check_rows};
use crate::error::{Error, Result};
use crate::gpu::Tier;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A length of prompt and a number of sequences at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Setup {
    /// Tokens of each prompt.
    pub prompt_tokens: usize,
    /// Sequences side by side.
    pub batch: usize,
}

/// What to measure.
pub struct Wish {
    /// Setups; each has its own dense run.
    pub setups: Vec<Setup>,
    /// Tokens of each answer; 0 = prompts alone.
    pub decode_tokens: usize,
    /// Settings of the dense runs, which prune nothing.
    pub dense: PruneConfig,
    /// What to measure beside them.
    pub pruned: Vec<PruneConfig>,
    /// Rounds; one more runs before them and does not count.
    pub rounds: usize,
    /// Seed of the made-up tokens.
    pub seed: u64,
}

/// One phase of one configuration. FLOPs are those of the transformer layers, bytes those of weights, each of one round.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// "prefill" or "decode".
    pub phase: &'static str,
    /// Where it ran.
    #[serde(flatten)]
    pub setup: Setup,
    /// The method that chose the units, or that the given units are of.
    pub method: crate::config::Method,
    /// The wished ratio.
    pub ratio: f64,
    /// Who chose the units.
    pub kept: Kept,
    /// Tokens between two renewals of the masks; 0 = never.
    pub reprobe_every: usize,
    /// Tokens of the phase, of all sequences.
    pub tokens: usize,
    /// The median over the rounds.
    pub tokens_per_second: f64,
    /// The slowest round's.
    pub tokens_per_second_min: f64,
    /// The fastest round's.
    pub tokens_per_second_max: f64,
    /// By round.
    pub tokens_per_second_by_round: Vec<f64>,
    /// Speed against the dense run of the same round and setup.
    pub to_dense: Spread,
    /// What that would be if time went by FLOPs: those of a dense run over those that are left, output head and probes included.
    pub allowed_by_flops: f64,
    /// The same by bytes of weights.
    pub allowed_by_bytes: f64,
    /// Speed against the other engines in the same round, by name; empty where none ran.
    pub to_peers: BTreeMap<&'static str, Spread>,
    /// FLOPs that were computed, probes included.
    pub flops: f64,
    /// FLOPs that a dense run computes.
    pub flops_dense: f64,
    /// FLOPs of probes and renewals.
    pub flops_probe: f64,
    /// Bytes of weights that were read, counted once a pass.
    pub weight_bytes: f64,
    /// Those that a dense run reads.
    pub weight_bytes_dense: f64,
    /// Dispatches of a pass, where decoding a token is one and prompts are one.
    pub dispatches_per_pass: f64,
    /// Submissions of a pass, the read-back of its logits not counted.
    pub submissions_per_pass: f64,
}

impl Run {
    /// What is allowed by what limits the phase: FLOPs for prompts, bytes of weights for answers.
    pub fn allowed(&self) -> f64 {
        if self.phase == PHASES[0] { self.allowed_by_flops } else { self.allowed_by_bytes }
    }

    /// The share of that which was reached.
    pub fn reached(&self) -> f64 {
        self.to_dense.median / self.allowed()
    }
}

/// What probe and choice cost: a run that chooses, less one that is given as many units, in the same rounds.
#[derive(Debug, Clone, Serialize)]
pub struct ChoiceCost {
    /// "prefill" or "decode".
    pub phase: &'static str,
    /// Where it ran.
    #[serde(flatten)]
    pub setup: Setup,
    /// The method that chose.
    pub method: crate::config::Method,
    /// The wished ratio.
    pub ratio: f64,
    /// The difference, as a share of the dense run's time.
    pub share_of_dense_time: Spread,
    /// The same of FLOPs: of probes and renewals, and of what runs whole so that there is something to choose from.
    pub share_of_dense_flops: f64,
}

/// What another engine gave in the same rounds.
#[derive(Debug, Clone, Serialize)]
pub struct PeerRun {
    /// Its name.
    pub peer: &'static str,
    /// "prefill" or "decode".
    pub phase: &'static str,
    /// The lengths that it ran.
    #[serde(flatten)]
    pub setup: Setup,
    /// Over the rounds.
    pub tokens_per_second: Spread,
    /// By round.
    pub tokens_per_second_by_round: Vec<f64>,
}

/// What the rounds gave.
#[derive(Debug)]
pub struct Measured {
    /// By setup and phase, the dense run first.
    pub runs: Vec<Run>,
    /// Of every run that chose.
    pub choices: Vec<ChoiceCost>,
    /// Where other engines ran too.
    pub peers: Vec<PeerRun>,
    /// After the last round, when every configuration still had its caches.
    pub memory: Memory,
}

const PHASES: [&str; 2] = ["prefill", "decode"];

/// The contenders of one setup.
struct Table {
    setup: Setup,
    ids: Vec<Vec<u32>>,
    contenders: Vec<Contender>,
    /// Names of the other engines that run this setup, and their tokens a second by phase and round.
    peers: Vec<(&'static str, [Vec<f64>; 2])>,
}

impl Wish {
    /// Turns of one round, at most: some settings leave nothing to prune.
    pub fn turns(&self, peers: usize) -> usize {
        let alone = self.setups.iter().filter(|setup| setup.batch == 1).count();
        self.setups.len() * (1 + 2 * self.pruned.len()) + peers * alone
    }

    /// Refuses what cannot run, before a model is loaded.
    ///
    /// # Errors
    /// [`Error::Setting`] with the numbers.
    pub fn check(&self, model: &ModelConfig) -> Result<()> {
        let trained = model.max_position_embeddings;
        for Setup { prompt_tokens, batch } in &self.setups {
            if *prompt_tokens == 0 || *batch == 0 {
                return Err(Error::Setting("--prompt-tokens and --batch are counts from 1 on".into()));
            }
            let slots = prompt_tokens.saturating_add(self.decode_tokens);
            if slots > trained {
                return Err(Error::Setting(format!(
                    "--prompt-tokens {prompt_tokens} and --decode-tokens {} are {slots} tokens, but the model was trained on {trained}",
                    self.decode_tokens
                )));
            }
            check_rows(*batch, if *batch == 1 { 1 } else { *prompt_tokens })?;
        }
        Ok(())
    }

    /// Bytes of the key/value caches of all contenders.
    fn cache_bytes(&self, model: &ModelConfig, tier: Tier) -> u64 {
        let slots = |setup: &Setup| (setup.batch * (setup.prompt_tokens + self.decode_tokens)) as u64;
        let contenders = 1 + 2 * self.pruned.len() as u64;
        caches(model, self.setups.iter().map(slots).sum::<u64>() * contenders, tier)
    }

    /// Made-up prompts and answers of one setup.
    fn ids(&self, setup: Setup, vocab: usize) -> Vec<Vec<u32>> {
        // Multiplication by a large odd number scatters ids over the vocabulary.
        let id = |sample: usize, at: usize| {
            let place = (sample as u64) << 32 | at as u64;
            ((place ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % vocab as u64
        };
        let length = setup.prompt_tokens + self.decode_tokens;
        (0..setup.batch).map(|sample| (0..length).map(|at| id(sample, at) as u32).collect()).collect()
    }
}

/// Runs the rounds; `progress` hears of every turn, and ends the measurement by an error.
///
/// # Errors
/// [`Error::DeviceLimit`] for caches that the memory cannot hold, those of [`crate::engine::Sequences`] and of the peers.
pub fn measure(
    engine: &Arc<Engine>,
    wish: &Wish,
    peers: &mut [Box<dyn Peer>],
    progress: &mut dyn FnMut() -> Result<()>,
) -> Result<Measured> {
    wish.check(engine.config())?;
    check_caches(engine.gpu(), wish.cache_bytes(engine.config(), engine.gpu().tier()))?;
    let mut tables = Vec::new();
    for &setup in &wish.setups {
        tables.push(Table::warm(engine, wish, setup, peers, progress)?);
    }
    for round in 0..wish.rounds {
        let mut turns: Vec<(usize, usize)> = Vec::new();
        for (index, table) in tables.iter().enumerate() {
            turns.extend((0..table.turns()).map(|turn| (index, turn)));
        }
        if round % 2 == 1 {
            turns.reverse();
        }
        for (index, turn) in turns {
            tables[index].turn(turn, peers, wish.decode_tokens)?;
            progress()?;
        }
    }
    let memory = Memory::now(engine.gpu());
    let mut measured = Measured { runs: Vec::new(), choices: Vec::new(), peers: Vec::new(), memory };
    for table in &tables {
        table.tell(wish.decode_tokens, engine.config(), &mut measured);
    }
    Ok(measured)
}

impl Table {
    /// Makes the contenders of a setup and lets each run once: pipelines are compiled, and what a method chooses is what the
    /// contender behind it is given.
    fn warm(
        engine: &Arc<Engine>,
        wish: &Wish,
        setup: Setup,
        peers: &mut [Box<dyn Peer>],
        progress: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Table> {
        let ids = wish.ids(setup, engine.config().vocab_size);
        let mut contenders = Vec::new();
        for prune in std::iter::once(&wish.dense).chain(&wish.pruned) {
            // Masks are renewed for one sequence at a time.
            let reprobe_every = if setup.batch == 1 { prune.reprobe_every } else { 0 };
            let prune = PruneConfig { reprobe_every, ..prune.clone() };
            let mut contender = Contender::new(engine, setup, wish.decode_tokens, &prune, None)?;
            contender.prefill(&ids)?;
            let units = contender.units()?;
            contender.answer(&ids)?;
            contenders.push(contender);
            progress()?;
            if let Some(units) = units {
                let mut given = Contender::new(engine, setup, wish.decode_tokens, &prune, Some(units))?;
                given.prefill(&ids)?;
                given.answer(&ids)?;
                contenders.push(given);
                progress()?;
            }
        }
        // Other engines run one sequence.
        let names = peers.iter().filter(|_| setup.batch == 1).map(|peer| (peer.name(), Default::default()));
        let mut table = Table { setup, ids, contenders, peers: names.collect() };
        for turn in table.contenders.len()..table.turns() {
            table.turn(turn, peers, wish.decode_tokens)?;
            progress()?;
        }
        table.peers.iter_mut().for_each(|(_, rates)| *rates = Default::default());
        Ok(table)
    }

    /// Its contenders, and the other engines where those can run the same.
    fn turns(&self) -> usize {
        self.contenders.len() + self.peers.len()
    }

    fn turn(&mut self, turn: usize, peers: &mut [Box<dyn Peer>], decode: usize) -> Result<()> {
        if let Some(contender) = self.contenders.get_mut(turn) {
            return contender.round(&self.ids);
        }
        let index = turn - self.contenders.len();
        let (Some(peer), Some((_, rates))) = (peers.get_mut(index), self.peers.get_mut(index)) else { return Ok(()) };
        let found = peer.turn(self.setup, &self.ids[0], decode)?;
        rates.iter_mut().zip(found).for_each(|(rates, found)| rates.extend(found));
        Ok(())
    }

    fn tell(&self, decode: usize, model: &ModelConfig, measured: &mut Measured) {
        for (index, phase) in PHASES.into_iter().enumerate() {
            let tokens = self.setup.batch * if index == 0 { self.setup.prompt_tokens } else { decode };
            if tokens == 0 {
                continue;
            }
            let passes = if index == 0 { 1 } else { decode };
            // Counted by nobody else: the head runs once a pass for every sequence.
            let head = 2.0 * (model.hidden_size * model.vocab_size * self.setup.batch * passes) as f64;
            let Some(dense) = self.contenders.first() else { continue };
            let peers: Vec<(&'static str, &[f64])> =
                self.peers.iter().map(|(name, rates)| (*name, rates[index].as_slice())).collect();
            let ours = self.contenders.iter();
            measured.runs.extend(ours.filter_map(|contender| {
                let laps = [&contender.laps[index], &dense.laps[index]];
                self.run(phase, contender, laps, &peers, (tokens, passes), head)
            }));
            for pair in self.contenders.windows(2) {
                if let [chosen, given] = pair
                    && given.kept == Kept::Given
                {
                    let laps = [chosen, given, dense].map(|contender| contender.laps[index].as_slice());
                    measured.choices.extend(self.choice(phase, chosen, laps));
                }
            }
            measured.peers.extend(peers.iter().filter_map(|(peer, rates)| {
                let (setup, tokens_per_second_by_round) = (self.setup, rates.to_vec());
                let tokens_per_second = Spread::of(rates)?;
                Some(PeerRun { peer, phase, setup, tokens_per_second, tokens_per_second_by_round })
            }));
        }
    }

    fn run(
        &self,
        phase: &'static str,
        contender: &Contender,
        [laps, dense]: [&Vec<Lap>; 2],
        peers: &[(&'static str, &[f64])],
        (tokens, passes): (usize, usize),
        head: f64,
    ) -> Option<Run> {
        let rates = |laps: &[Lap]| laps.iter().map(|lap| tokens as f64 / lap.seconds).collect::<Vec<f64>>();
        let by_round = rates(laps);
        let rate = Spread::of(&by_round)?;
        // What is counted is the same in every round.
        let Lap { flops, traffic, dispatches, submissions, .. } = *laps.last()?;
        let computed = flops.pass + flops.probe;
        Some(Run {
            phase,
            setup: self.setup,
            method: contender.prune.method,
            ratio: contender.prune.ratio,
            kept: contender.kept,
            reprobe_every: if contender.kept == Kept::Chosen { contender.prune.reprobe_every } else { 0 },
            tokens,
            tokens_per_second: rate.median,
            tokens_per_second_min: rate.min,
            tokens_per_second_max: rate.max,
            to_dense: Spread::ratio(&by_round, &rates(dense))?,
            allowed_by_flops: (flops.dense + head) / (computed + head),
            allowed_by_bytes: traffic.dense / traffic.read,
            to_peers: peers
                .iter()
                .filter_map(|(name, rates)| Some((*name, Spread::ratio(&by_round, rates)?)))
                .collect(),
            tokens_per_second_by_round: by_round,
            flops: computed,
            flops_dense: flops.dense,
            flops_probe: flops.probe,
            weight_bytes: traffic.read,
            weight_bytes_dense: traffic.dense,
            dispatches_per_pass: dispatches as f64 / passes as f64,
            submissions_per_pass: submissions as f64 / passes as f64,
        })
    }

    fn choice(
        &self,
        phase: &'static str,
        contender: &Contender,
        [chosen, given, dense]: [&[Lap]; 3],
    ) -> Option<ChoiceCost> {
        let shares = chosen.iter().zip(given).zip(dense);
        let shares: Vec<f64> =
            shares.map(|((chosen, given), dense)| (chosen.seconds - given.seconds) / dense.seconds).collect();
        let (flops, of_given) = (chosen.last()?.flops, given.last()?.flops);
        Some(ChoiceCost {
            phase,
            setup: self.setup,
            method: contender.prune.method,
            ratio: contender.prune.ratio,
            share_of_dense_time: Spread::of(&shares)?,
            share_of_dense_flops: (flops.pass + flops.probe - of_given.pass) / flops.dense,
        })
    }
}
