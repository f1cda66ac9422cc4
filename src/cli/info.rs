//! `secateur info`: what a model is, what it needs, and what pruning would remove from it. Runs without a GPU.

mod needs;

use super::load::Opened;
use super::options::{DEFAULT_RATIO, ModelOptions, PruneOptions};
use super::output::{JsonOption, bytes, print};
use anyhow::Result;
use clap::Args;
use needs::Demand;
use secateur::config::{Method, ModelConfig, PruneConfig, TokenizerSource};
use secateur::eval::report::LoraRecord;
use secateur::format::WeightFormat;
use secateur::model::ModelFiles;
use secateur::model::catalogue::Catalogue;
use secateur::prune::{Flops, Plan};
use serde::Serialize;
use std::collections::BTreeMap;

/// Ratios that are described.
const RATIOS: [f64; 3] = [0.1, 0.2, 0.4];
/// A decoded token's FLOPs are counted with so many tokens before it.
const ATTENDED: usize = 256;

/// Arguments of `secateur info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    prune: PruneOptions,
    #[command(flatten)]
    json: JsonOption,
}

#[derive(Serialize)]
struct Info {
    model: String,
    path: String,
    format: String,
    bytes: u64,
    sha256: String,
    #[serde(flatten)]
    lora: LoraRecord,
    licence: Option<String>,
    parameters: usize,
    family: String,
    config: ModelConfig,
    tokenizer: String,
    chat_template: bool,
    bos: Option<String>,
    adds_bos: bool,
    ends: Vec<String>,
    weights: Vec<WeightKind>,
    pruning: Vec<Removed>,
    needs: Demand,
    /// Tokens before the one whose FLOPs `pruning` counts.
    attended: usize,
    version: &'static str,
}

/// The tensors of one element type.
#[derive(Serialize)]
struct WeightKind {
    format: &'static str,
    tensors: usize,
    parameters: usize,
    bytes: usize,
    bits_per_weight: f64,
    supported: bool,
}

/// What a ratio keeps and removes.
#[derive(Serialize)]
struct Removed {
    ratio: f64,
    layer_ratio: f64,
    kept_heads: usize,
    kept_mlp: usize,
    pruned_layers: usize,
    /// Share of a decoded token's FLOPs in the transformer layers.
    flops_removed: f64,
}

/// Describes a model.
pub fn run(args: &InfoArgs) -> Result<()> {
    let prune = args.prune.config(Method::Dense)?;
    let json = args.json.open()?;
    let info = describe(args, &prune)?;
    if !json.takes_stdout() {
        print(&text(&info))?;
    }
    json.write(&info)
}

fn describe(args: &InfoArgs, prune: &PruneConfig) -> Result<Info> {
    let opened = Opened::open(&args.model)?;
    let (files, tokenizer) = (&opened.files, &opened.tokenizer);
    let (sha256, base_sha256) = (files.sha256()?, files.base_sha256()?);
    let licence =
        Catalogue::builtin()?.models.into_iter().find(|entry| entry.sha256 == base_sha256).map(|entry| entry.licence);
    let weights = weights(&opened);
    let mut ratios = RATIOS.to_vec();
    if prune.ratio > 0.0 && !ratios.contains(&prune.ratio) {
        ratios.push(prune.ratio);
    }
    let name = |id: u32| tokenizer.token_text(id).unwrap_or_else(|| id.to_string());
    Ok(Info {
        model: opened.name.clone(),
        path: files.path.display().to_string(),
        format: files.format_name(),
        bytes: files.total_bytes(),
        sha256,
        lora: opened.lora_record(),
        licence,
        parameters: weights.iter().map(|kind| kind.parameters).sum(),
        family: files.config.family_name().to_owned(),
        config: files.config.clone(),
        tokenizer: tokenizer_kind(files),
        chat_template: files.text.chat_template.is_some(),
        bos: tokenizer.bos().map(name),
        adds_bos: tokenizer.wants_bos(),
        ends: tokenizer.eos_ids().iter().copied().map(name).collect(),
        weights,
        needs: Demand::new(&opened, &args.model, &planned(prune))?,
        pruning: ratios.into_iter().map(|ratio| removed(&files.config, prune, ratio)).collect(),
        attended: ATTENDED,
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// What is pruned where nothing was asked for: as a chat does.
fn planned(prune: &PruneConfig) -> PruneConfig {
    match prune.method {
        Method::Dense => PruneConfig { method: Method::Pp, ratio: DEFAULT_RATIO, ..prune.clone() },
        _ => prune.clone(),
    }
}

fn tokenizer_kind(files: &ModelFiles) -> String {
    let place = if files.is_gguf() { "GGUF" } else { "the folder's vocabulary" };
    match &files.text.tokenizer {
        TokenizerSource::Json(_) => "tokenizer.json".into(),
        TokenizerSource::Gguf(vocabulary) => match vocabulary.model.as_str() {
            "llama" => format!("SentencePiece BPE, from {place}"),
            "gpt2" => format!("byte-level BPE, from {place}, split as `{}`", vocabulary.pre),
            other => format!("{other}, from {place}"),
        },
    }
}

fn weights(opened: &Opened) -> Vec<WeightKind> {
    let mut kinds: BTreeMap<&'static str, (usize, usize, usize)> = BTreeMap::new();
    for tensor in opened.files.tensors() {
        let (tensors, parameters, bytes) = kinds.entry(tensor.kind.name()).or_default();
        *tensors += 1;
        *parameters += tensor.rows * tensor.cols;
        *bytes += tensor.bytes.len();
    }
    let kind = |(format, (tensors, parameters, bytes))| WeightKind {
        format,
        tensors,
        parameters,
        bytes,
        bits_per_weight: 8.0 * bytes as f64 / parameters as f64,
        supported: WeightFormat::by_name(format).is_some(),
    };
    kinds.into_iter().map(kind).collect()
}

fn removed(model: &ModelConfig, prune: &PruneConfig, ratio: f64) -> Removed {
    let plan = Plan::new(model, &PruneConfig { method: Method::Pp, ratio, ..prune.clone() });
    let mut flops = Flops::default();
    flops.add(model, &plan, 1.0, ATTENDED as f64);
    let pruned = |layer: &usize| plan.prunes_heads(*layer) || plan.prunes_channels(*layer);
    let last = plan.layers.last();
    Removed {
        ratio,
        layer_ratio: plan.layer_ratio,
        kept_heads: last.map_or(0, |layer| layer.heads),
        kept_mlp: last.map_or(0, |layer| layer.channels),
        pruned_layers: (0..plan.layers.len()).filter(pruned).count(),
        flops_removed: 1.0 - flops.pass / flops.dense,
    }
}

fn text(info: &Info) -> String {
    let config = &info.config;
    let mut lines = vec![
        ("model", config.name.clone().map_or(info.model.clone(), |name| format!("{} ({name})", info.model))),
        ("file", format!("{}, {}, {}", info.path, info.format, bytes(info.bytes))),
        ("sha256", info.sha256.clone()),
        ("licence", info.licence.clone().unwrap_or_else(|| "not known: the file is not in the catalogue".into())),
        ("parameters", format!("{:.1} million", info.parameters as f64 / 1e6)),
        (
            "shape",
            format!(
                "{}, {} layers, hidden {}, {} MLP channels, {} heads over {} key/value heads of {}, vocabulary {}{}",
                config.family_name(),
                config.num_hidden_layers,
                config.hidden_size,
                config.intermediate_size,
                config.num_attention_heads,
                config.num_key_value_heads,
                config.head_dim,
                config.vocab_size,
                if config.tie_word_embeddings { ", tied output" } else { "" }
            ),
        ),
        ("context", format!("{} tokens", config.max_position_embeddings)),
        ("tokenizer", info.tokenizer.clone()),
        (
            "chat",
            format!(
                "{}, answers end with {}",
                if info.chat_template { "has a template" } else { "no template in the file" },
                if info.ends.is_empty() { "nothing".into() } else { info.ends.join(" or ") }
            ),
        ),
    ];
    if let (Some(lora), Some(sha256)) = (&info.lora.lora, &info.lora.lora_sha256) {
        lines.insert(3, ("lora", format!("{lora}, SHA-256 {sha256}")));
    }
    for kind in &info.weights {
        let supported = if kind.supported { "" } else { " (no kernel reads this format)" };
        let line = format!(
            "{} in {} of {} tensors: {:.2} million, {}, {:.2} bits each{supported}",
            kind.format,
            kind.tensors,
            info.weights.iter().map(|kind| kind.tensors).sum::<usize>(),
            kind.parameters as f64 / 1e6,
            bytes(kind.bytes as u64),
            kind.bits_per_weight
        );
        lines.push(("weights", line));
    }
    for at in &info.pruning {
        let line = format!(
            "ratio {} keeps {} heads and {} channels in {} of {} layers: \
             {:.1} % of a decoded token's layer FLOPs removed",
            at.ratio,
            at.kept_heads,
            at.kept_mlp,
            at.pruned_layers,
            config.num_hidden_layers,
            100.0 * at.flops_removed
        );
        lines.push(("pruning", line));
    }
    lines.extend(info.needs.lines().into_iter().map(|line| ("needs", line)));
    lines.into_iter().map(|(name, value)| format!("{name:<11}{value}\n")).collect()
}
