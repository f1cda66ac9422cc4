//! `secateur bench`: how fast a model runs, dense and pruned, against what the device can do. The measuring is
//! [`secateur::bench`]; here are its arguments, and where its results go.

mod report;
mod table;

use super::load::{Loaded, Opened};
use super::options::{MethodName, ModelOptions, ProbeOptions, positive};
use super::output::{JsonOption, note, print};
use super::progress::{Unit, bar};
use anyhow::Result;
use clap::Args;
use report::{BenchReport, LoadReport, MatrixReport, PeerReport};
use secateur::Error;
use secateur::bench::{Ceilings, LlamaBench, Measured, Memory, Peer, Setup, Wish, measure, per_kernel, read_seconds};
use secateur::config::{Method, ModelConfig, PruneConfig, PrunePhases};
use secateur::engine::Engine;
use secateur::eval::report::LoraRecord;
use secateur::format::WeightFormat;
use secateur::gpu::Gpu;
use secateur::model::{ModelWeights, shapes};
use std::path::PathBuf;
use std::time::Instant;

/// Arguments of `secateur bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Ratios to measure beside dense
    #[arg(long, value_name = "R,R", value_delimiter = ',', default_values_t = [0.2, 0.4, 0.6])]
    #[arg(allow_negative_numbers = true)]
    ratio: Vec<f64>,
    /// The method to measure beside dense
    #[arg(long, value_enum, default_value = "pp")]
    method: MethodName,
    /// Tokens of the prompts
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "128", value_parser = positive)]
    prompt_tokens: Vec<usize>,
    /// Sequences at once; with more than one, masks are not renewed
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1", value_parser = positive)]
    batch: Vec<usize>,
    /// Tokens of the answers; 65 renew their masks twice
    #[arg(long, value_name = "N", default_value_t = 65)]
    decode_tokens: usize,
    /// Rounds; one more runs before them and does not count
    #[arg(long, value_name = "N", default_value = "3", value_parser = positive)]
    rounds: usize,
    /// Time every kernel alone too: at the first prompt length, dense and at the first ratio above 0
    #[arg(long)]
    kernels: bool,
    /// Random weights of a known shape in place of a model: smollm2-135m, tinyllama-1.1b, llama-2-7b, llama-3-8b
    #[arg(long, value_name = "NAME")]
    shape: Option<String>,
    /// Format of the random weights: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K [default: Q4_1]
    #[arg(long, value_name = "FORMAT", requires = "shape")]
    format: Option<String>,
    /// Let this llama-bench of llama.cpp take its turns on the same file
    #[arg(long, value_name = "PATH", conflicts_with = "shape")]
    llama_bench: Option<PathBuf>,
    /// More options for it, such as "-ngl 99 -dev Vulkan0"
    #[arg(long, value_name = "OPTIONS", requires = "llama_bench", default_value = "", allow_hyphen_values = true)]
    llama_bench_args: String,
    /// Let a dense forward in burn, on burn-wgpu, take its turns on the same weights
    #[cfg(feature = "burn")]
    #[arg(long, conflicts_with = "shape")]
    burn: bool,
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

/// A model on a device, and where it came from.
struct Subject {
    loaded: Loaded,
    name: String,
    lora: LoraRecord,
    format: String,
    bytes: u64,
    seconds_read: Option<f64>,
    peers: Vec<Box<dyn Peer>>,
}

/// Measures, prints the tables, writes the report.
pub fn run(args: &BenchArgs) -> Result<()> {
    let wish = wish(args)?;
    let json = args.json.open()?;
    let mut subject = match &args.shape {
        Some(shape) => random(args, shape, &wish)?,
        None => opened(args, &wish)?,
    };
    let engine = &subject.loaded.engine.clone();
    let after_load = Memory::now(engine.gpu());
    if args.batch.iter().any(|&batch| batch > 1) && wish.pruned.iter().any(|prune| prune.reprobe_every > 0) {
        note("masks are renewed for one sequence at a time: larger batches decode with the masks of their prompts");
    }
    let started = Instant::now();
    // Before and after, for a machine that is busy for a while looks slow for as long.
    let before = Ceilings::measure(engine.gpu())?;
    let measured = rounds(&wish, &mut subject)?;
    let ceilings = before.or_better(Ceilings::measure(engine.gpu())?);
    let kernels = match args.kernels {
        true => Some(kernels(args, &wish, engine, &ceilings)?),
        false => None,
    };
    let Measured { runs, choices, peers, memory } = measured;
    let report = BenchReport {
        runs,
        choices,
        peers: subject
            .peers
            .iter()
            .map(|peer| {
                let runs = peers.iter().filter(|run| run.peer == peer.name()).cloned().collect();
                PeerReport { record: peer.record(), runs }
            })
            .collect(),
        ceilings,
        matrix_units: MatrixReport::of(engine.gpu()),
        kernels,
        load: LoadReport {
            seconds_read: subject.seconds_read,
            seconds_load: subject.loaded.seconds,
            loaded: after_load,
            measured: memory,
        },
        model: subject.name.clone(),
        lora: subject.lora.clone(),
        model_format: subject.format.clone(),
        model_bytes: subject.bytes,
        random_weights: args.shape.is_some(),
        config: engine.config().clone(),
        rounds: args.rounds,
        decode_tokens: args.decode_tokens,
        seconds: started.elapsed().as_secs_f64(),
        device: subject.loaded.record(),
        prune: args.probe.config(),
        seed: args.seed,
        version: env!("CARGO_PKG_VERSION"),
    };
    if !json.takes_stdout() {
        print(&table::text(&report))?;
    }
    json.write(&report)
}

/// What is asked for: dense first, then the method at every ratio, at every length and batch.
fn wish(args: &BenchArgs) -> Result<Wish> {
    let (method, dense) = (Method::from(args.method), args.probe.config());
    let mut pruned = Vec::new();
    if method != Method::Dense {
        let phases = PrunePhases { prefill: true, decode: true };
        pruned.extend(args.ratio.iter().map(|&ratio| PruneConfig { method, ratio, phases, ..dense.clone() }));
    }
    for prune in std::iter::once(&dense).chain(&pruned) {
        prune.validate()?;
        if prune.method.is_static() || prune.needs_calibration() {
            let method = prune.method.name();
            let what = format!(
                "`bench` measures methods that choose from a prompt alone, and `{method}` with these options needs a calibration or a file: `secateur eval table` times it"
            );
            return Err(Error::Setting(what).into());
        }
    }
    let setup = |&prompt_tokens: &usize| args.batch.iter().map(move |&batch| Setup { prompt_tokens, batch });
    let setups = args.prompt_tokens.iter().flat_map(setup).collect();
    let (decode_tokens, rounds, seed) = (args.decode_tokens, args.rounds, args.seed);
    Ok(Wish { setups, decode_tokens, dense, pruned, rounds, seed })
}

/// A model of the user's.
fn opened(args: &BenchArgs, wish: &Wish) -> Result<Subject> {
    let opened = Opened::open(&args.model)?;
    wish.check(&opened.files.config)?;
    let mut peers: Vec<Box<dyn Peer>> = Vec::new();
    if let Some(path) = &args.llama_bench {
        peers.push(Box::new(llama_bench(args, path, &opened)?));
    }
    #[cfg(feature = "burn")]
    if args.burn {
        alone(args, "--burn")?;
    }
    // Before the load, so that what a cold disk costs is the reading's.
    let seconds_read = Some(read_seconds(&opened.files));
    let loaded = opened.load(&args.model)?;
    #[cfg(feature = "burn")]
    if args.burn {
        note("burn tunes its kernels in the first round, which takes minutes on a software adapter");
        peers.push(Box::new(secateur::bench::Burn::load(&opened.files, loaded.engine.gpu())?));
    }
    let (name, format, bytes) = (opened.name.clone(), opened.files.format_name(), opened.files.total_bytes());
    Ok(Subject { loaded, name, lora: opened.lora_record(), format, bytes, seconds_read, peers })
}

/// llama.cpp beside us, where it can run the same.
fn llama_bench(args: &BenchArgs, path: &std::path::Path, opened: &Opened) -> Result<LlamaBench> {
    let file = &opened.files.path;
    if !file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) {
        let what = format!("--llama-bench runs GGUF files, and {} is none", file.display());
        return Err(Error::Setting(what).into());
    }
    if let Some(lora) = &opened.lora {
        let what = format!(
            "--llama-bench runs the file without {}: leave --lora out, or merge it first by `secateur convert --lora`",
            lora.display()
        );
        return Err(Error::Setting(what).into());
    }
    alone(args, "--llama-bench")?;
    Ok(LlamaBench::open(path, file, &args.llama_bench_args)?)
}

/// Refuses batches of which no other engine runs one.
fn alone(args: &BenchArgs, option: &str) -> Result<()> {
    if args.batch.contains(&1) {
        return Ok(());
    }
    Err(Error::Setting(format!("{option} runs one sequence at a time: add 1 to --batch, or leave it out")).into())
}

/// A known shape with random weights.
fn random(args: &BenchArgs, shape: &str, wish: &Wish) -> Result<Subject> {
    let config: ModelConfig = shapes::by_name(shape)?;
    if args.model.model != "smollm2-135m" && std::env::var("SECATEUR_MODEL").as_ref() != Ok(&args.model.model) {
        let what = format!("--shape {shape} stands in place of a model: leave --model {} out", args.model.model);
        return Err(Error::Setting(what).into());
    }
    if args.model.lora.is_some() {
        let what = format!("--shape {shape} has random weights, which no adapter is for: leave --lora out");
        return Err(Error::Setting(what).into());
    }
    let name = args.format.as_deref().unwrap_or("Q4_1");
    let format = WeightFormat::by_name(name).ok_or_else(|| Error::Unsupported {
        what: "weight format",
        name: name.into(),
        supported: WeightFormat::ALL.map(WeightFormat::name).join(", "),
    })?;
    wish.check(&config)?;
    let started = Instant::now();
    let gpu = Gpu::open(&args.model.gpu())?;
    let bar = bar(&format!("making {shape}"), 1000, Unit::Share);
    let engine = Engine::random(gpu, &config, format, &mut |share| {
        bar.set_position((share * 1000.0) as u64);
        Ok(())
    });
    bar.finish_and_clear();
    let loaded = Loaded { engine: engine?, seconds: started.elapsed().as_secs_f64() };
    let bytes = ModelWeights::random_bytes(&config, format);
    let format = format!("random {}", format.name());
    Ok(Subject {
        loaded,
        name: shape.into(),
        format,
        bytes,
        seconds_read: None,
        peers: Vec::new(),
        lora: LoraRecord::default(),
    })
}

fn rounds(wish: &Wish, subject: &mut Subject) -> Result<Measured> {
    let turns = wish.turns(subject.peers.len()) * (wish.rounds + 1);
    let bar = bar("measuring", turns as u64, Unit::Steps);
    let measured = measure(&subject.loaded.engine, wish, &mut subject.peers, &mut || {
        bar.inc(1);
        Ok(())
    });
    bar.finish_and_clear();
    Ok(measured?)
}

fn kernels(args: &BenchArgs, wish: &Wish, engine: &Engine, ceilings: &Ceilings) -> Result<Vec<per_kernel::KernelRow>> {
    let prune = wish.pruned.iter().find(|prune| prune.ratio > 0.0);
    let prompt = args.prompt_tokens.first().copied().unwrap_or(1);
    let bar = bar("kernels", 1, Unit::Steps);
    let rows = per_kernel::measure(engine, prune, prompt, ceilings, &mut |total| {
        bar.set_length(total as u64);
        bar.inc(1);
        Ok(())
    });
    bar.finish_and_clear();
    Ok(rows?)
}
