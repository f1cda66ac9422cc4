//! `secateur generate`: one prompt, one answer.

use super::answer::{prefill_warning, summary};
use super::input::{MAX_INPUT, check_input};
use super::knowledge::KnowledgeOptions;
use super::load::Opened;
use super::options::{ModelOptions, PruneOptions, SamplingOptions};
use super::output::{JsonOption, note, print, say};
use anyhow::Result;
use clap::Args;
use secateur::Error;
use secateur::config::{Method, PruneConfig, SamplingConfig};
use secateur::engine::needs::Purpose;
use secateur::engine::{Sampler, SequenceOptions, Sequences};
use secateur::eval::report::{DeviceRecord, LoraRecord};
use secateur::protocol::Stop;
use secateur::session::{Writer, Written};
use secateur::text::{Message, Special, StopStrings};
use serde::Serialize;
use std::io::{IsTerminal, Read};
use std::ops::ControlFlow;

/// Tokens of an answer where `--max-tokens` is not given.
const MAX_TOKENS: usize = 256;

/// Arguments of `secateur generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// The prompt; read from stdin if left out
    #[arg(long, short, value_name = "TEXT")]
    prompt: Option<String>,
    /// Continue the prompt as it is: no chat template, no special token added
    #[arg(long, conflicts_with = "system")]
    raw: bool,
    /// What the model is told before the prompt
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Longest answer, in tokens
    #[arg(long, short = 'n', value_name = "N", default_value_t = MAX_TOKENS)]
    max_tokens: usize,
    /// Go on behind tokens that end an answer
    #[arg(long)]
    ignore_end: bool,
    /// Slots for prompt and answer together, in tokens [default: as many as they need]
    #[arg(long, value_name = "TOKENS")]
    context: Option<usize>,
    /// Seed of the draw
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    prune: PruneOptions,
    #[command(flatten)]
    knowledge: KnowledgeOptions,
    #[command(flatten)]
    sampling: SamplingOptions,
    #[command(flatten)]
    json: JsonOption,
}

/// The result as JSON.
#[derive(Serialize)]
struct GenerateReport<'a> {
    text: &'a str,
    ids: &'a [u32],
    prompt_tokens: usize,
    prefill_seconds: f64,
    decode_seconds: f64,
    /// Of the prompt.
    prefill_tokens_per_second: f64,
    /// Of the answer; its first token is drawn from the prompt's pass and does not count.
    tokens_per_second: f64,
    stop: Option<Stop>,
    method: Method,
    ratio: f64,
    kept_mlp: Vec<usize>,
    kept_heads: Vec<usize>,
    /// How often units were chosen.
    choices: usize,
    /// Of the transformer layers, probes included.
    flops: f64,
    flops_dense: f64,
    flops_probe: f64,
    decode_flops: f64,
    decode_flops_dense: f64,
    prune: &'a PruneConfig,
    sampling: &'a SamplingConfig,
    seed: u64,
    raw: bool,
    context: usize,
    seconds_load: f64,
    model: &'a str,
    model_format: String,
    #[serde(flatten)]
    lora: LoraRecord,
    #[serde(flatten)]
    device: DeviceRecord,
    version: &'static str,
}

/// Generates an answer.
pub fn run(args: &GenerateArgs) -> Result<()> {
    let prune = args.prune.config(Method::Dense)?;
    let sampling = args.sampling.config(SamplingConfig { seed: args.seed, ..SamplingConfig::default() })?;
    let json = args.json.open()?;
    let opened = Opened::open(&args.model)?;
    let (ids, stops) = prompt(args, &opened)?;
    let context = opened.context(args.context, ids.len().saturating_add(args.max_tokens))?;
    opened.check_prompt(ids.len(), context)?;

    let prepared = args.knowledge.prepare_talk(&opened, &args.prune, &prune)?;
    let purpose = Purpose { context, prune: &prune, live: false };
    let loaded = opened.load_for(&args.model, Some(purpose))?;
    let known = prepared.finish(&opened, &loaded.engine)?.knowledge;
    let blind = known.calibration.is_none();
    let options = SequenceOptions { samples: 1, context, prune: prune.clone(), known, live: false };
    let mut sequences = Sequences::new(&loaded.engine, options)?;
    if sequences.plan().prunes() && prune.method == Method::Pp && blind {
        note("no calibration: units are chosen from the prompt and the answer alone, without history");
    }
    let tokenizer = &opened.tokenizer;
    let decoder = if args.raw { tokenizer.stream_continuing(true) } else { tokenizer.stream(true) };
    let mut writer = Writer {
        sequences: &mut sequences,
        tokenizer,
        decoder,
        sampler: Sampler::new(sampling.clone())?,
        stops: StopStrings::new(stops),
        max_tokens: args.max_tokens,
        ignore_end: args.ignore_end,
    };
    let quiet = json.takes_stdout();
    let mut made = Written::default();
    let mut hear = |piece: &str, _: &Written, _: &mut Sequences| {
        if !quiet {
            print(piece)?;
        }
        Ok(ControlFlow::Continue(()))
    };
    pollster::block_on(writer.write(&ids, &mut made, &mut hear))?;
    if !quiet && !made.text.ends_with('\n') {
        print("\n")?;
    }
    report_to_user(&made, context);

    let (plan, flops) = (sequences.plan(), sequences.flops());
    json.write(&GenerateReport {
        text: &made.text,
        ids: &made.ids,
        prompt_tokens: ids.len(),
        prefill_seconds: made.prefill_seconds,
        decode_seconds: made.decode_seconds,
        prefill_tokens_per_second: made.prefill_rate(),
        tokens_per_second: made.decode_rate(),
        stop: made.stop,
        method: prune.method,
        ratio: prune.ratio,
        kept_mlp: plan.layers.iter().map(|layer| layer.channels).collect(),
        kept_heads: plan.layers.iter().map(|layer| layer.heads).collect(),
        choices: sequences.choices(),
        flops: flops.pass + flops.probe,
        flops_dense: flops.dense,
        flops_probe: flops.probe,
        decode_flops: made.decode.flops + made.decode.flops_probe,
        decode_flops_dense: made.decode.flops_dense,
        prune: &prune,
        sampling: &sampling,
        seed: args.seed,
        raw: args.raw,
        context,
        seconds_load: loaded.seconds,
        model: &opened.name,
        model_format: opened.files.format_name(),
        lora: opened.lora_record(),
        device: loaded.record(),
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// The prompt's tokens, and the strings that end its answer.
fn prompt(args: &GenerateArgs, opened: &Opened) -> Result<(Vec<u32>, Vec<String>)> {
    let text = match &args.prompt {
        Some(text) => text.clone(),
        None if std::io::stdin().is_terminal() => {
            return Err(Error::Setting("there is no prompt: give --prompt TEXT, or pipe one into stdin".into()).into());
        }
        None => {
            let mut bytes = Vec::new();
            let stdin = std::io::stdin().lock();
            stdin.take(MAX_INPUT + 1).read_to_end(&mut bytes).map_err(Error::io("read", "stdin"))?;
            check_input(bytes.len())?;
            String::from_utf8(bytes).map_err(|error| Error::bad_file("stdin", format!("not UTF-8: {error}")))?
        }
    };
    if args.raw {
        return Ok((opened.tokenizer.encode(&text, Special::Text)?, Vec::new()));
    }
    if text.trim().is_empty() {
        return Err(Error::Setting("the prompt is empty".into()).into());
    }
    let template = opened.template()?;
    let system = args.system.as_ref().map(|text| Message::new("system", text));
    let messages: Vec<Message> = system.into_iter().chain([Message::new("user", text)]).collect();
    let prompt = template.prompt(&opened.tokenizer, &messages, true)?;
    Ok((opened.tokenizer.encode_prompt(&prompt)?, template.stop_strings().to_vec()))
}

fn report_to_user(made: &Written, context: usize) {
    if let Some(warning) = prefill_warning(made) {
        note(&warning);
    }
    if made.stop == Some(Stop::Context) {
        note(&format!("the answer stops here because the context of {context} tokens is full; raise --context"));
    }
    if std::io::stderr().is_terminal() {
        say(&summary(made));
    }
}
