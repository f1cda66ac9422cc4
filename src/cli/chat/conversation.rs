//! A conversation and the cache behind it.
//!
//! Invariant: `held` are the tokens whose keys and values the cache holds. A turn renders the whole conversation anew,
//! keeps the part of the cache that begins alike, and runs only what is new.

use crate::cli::answer::removed;
use crate::cli::load::Opened;
use crate::cli::options::DEFAULT_RATIO;
use crate::cli::output::bytes;
use anyhow::Result;
use secateur::Error;
use secateur::config::{Method, PruneConfig, SamplingConfig};
use secateur::engine::{Engine, Sampler, SequenceOptions, Sequences};
use secateur::eval::report::LoraRecord;
use secateur::protocol::Stop;
use secateur::prune::{Flops, Knowledge};
use secateur::session::{Writer, Written};
use secateur::text::{ChatTemplate, Message, StopStrings};
use serde::Serialize;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// What a conversation runs with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What to prune.
    pub prune: PruneConfig,
    /// How tokens are drawn.
    pub sampling: SamplingConfig,
    /// Longest answer, in tokens.
    pub max_tokens: usize,
}

/// What one turn cost.
#[derive(Debug, Clone, Serialize)]
struct Turn {
    prompt_tokens: usize,
    prefilled_tokens: usize,
    answer_tokens: usize,
    prefill_seconds: f64,
    decode_seconds: f64,
    tokens_per_second: f64,
    stop: Option<Stop>,
    method: Method,
    ratio: f64,
    flops: f64,
    flops_dense: f64,
    flops_probe: f64,
}

/// A conversation as it is saved.
#[derive(Serialize)]
pub struct Transcript<'a> {
    messages: &'a [Message],
    turns: &'a [Turn],
    prune: &'a PruneConfig,
    sampling: &'a SamplingConfig,
    context: usize,
    model: &'a str,
    #[serde(flatten)]
    lora: LoraRecord,
    adapter: &'a str,
    version: &'static str,
}

/// A conversation in the making.
pub struct Conversation<'a> {
    opened: &'a Opened,
    engine: &'a Arc<Engine>,
    template: ChatTemplate,
    known: Knowledge,
    settings: Settings,
    context: usize,
    sequences: Sequences,
    held: Vec<u32>,
    messages: Vec<Message>,
    turns: Vec<Turn>,
    /// Answers begun so far; each draws from a stream of its own.
    answers: u64,
}

impl<'a> Conversation<'a> {
    /// An empty one.
    pub fn new(
        opened: &'a Opened,
        engine: &'a Arc<Engine>,
        (template, known): (ChatTemplate, Knowledge),
        settings: Settings,
        context: usize,
    ) -> Result<Conversation<'a>> {
        let sequences = sequences(engine, &settings.prune, &known, context)?;
        Ok(Conversation {
            opened,
            engine,
            template,
            known,
            settings,
            context,
            sequences,
            held: Vec::new(),
            messages: Vec::new(),
            turns: Vec::new(),
            answers: 0,
        })
    }

    /// Says something and draws the answer.
    pub fn say(
        &mut self,
        text: String,
        emit: &mut dyn FnMut(&str) -> secateur::Result<()>,
        asked_to_stop: &dyn Fn() -> bool,
    ) -> Result<Written> {
        self.messages.push(Message::new("user", text));
        let made = self.turn(emit, asked_to_stop);
        if made.is_err() {
            // What could not be answered was not said.
            self.messages.pop();
        }
        made
    }

    /// Draws another answer to the last question.
    pub fn retry(
        &mut self,
        emit: &mut dyn FnMut(&str) -> secateur::Result<()>,
        asked_to_stop: &dyn Fn() -> bool,
    ) -> Result<Written> {
        match self.messages.pop_if(|last| last.role == "assistant") {
            Some(last) => {
                let made = self.turn(emit, asked_to_stop);
                if made.is_err() {
                    self.messages.push(last);
                }
                made
            }
            None => Err(Error::Setting("there is no answer to try again".into()).into()),
        }
    }

    fn turn(
        &mut self,
        emit: &mut dyn FnMut(&str) -> secateur::Result<()>,
        asked_to_stop: &dyn Fn() -> bool,
    ) -> Result<Written> {
        let tokenizer = &self.opened.tokenizer;
        let prompt = self.template.prompt(tokenizer, &self.messages, true)?;
        let ids = tokenizer.encode_prompt(&prompt)?;
        if ids.len() >= self.context {
            let (tokens, context) = (ids.len(), self.context);
            return Err(Error::Setting(format!(
                "the conversation has {tokens} tokens and the context holds {context}: nothing was sent; \
                 /clear starts a new one, --context makes room (the model was trained on {})",
                self.engine.config().max_position_embeddings
            ))
            .into());
        }
        // At least the last token is run: its logits are needed.
        let common = ids.iter().zip(&self.held).take_while(|(a, b)| a == b).count().min(ids.len().saturating_sub(1));
        self.sequences.truncate(0, common);
        self.held.truncate(common);
        let seed = self.settings.sampling.seed.wrapping_add(self.answers);
        let sampler = Sampler::new(SamplingConfig { seed, ..self.settings.sampling.clone() })?;
        self.answers += 1;
        let mut writer = Writer {
            sequences: &mut self.sequences,
            tokenizer,
            decoder: tokenizer.stream(true),
            sampler,
            stops: StopStrings::new(self.template.stop_strings().iter().cloned()),
            max_tokens: self.settings.max_tokens,
            ignore_end: false,
        };
        let mut made = Written::default();
        let mut hear = |piece: &str, _: &Written, _: &mut Sequences| {
            if !piece.is_empty() {
                emit(piece)?;
            }
            Ok(if asked_to_stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        pollster::block_on(writer.write(ids.get(common..).unwrap_or_default(), &mut made, &mut hear))?;
        let prompt_tokens = ids.len();
        self.held = ids;
        self.held.extend(&made.ids);
        // The last token drawn was not run.
        self.held.truncate(self.sequences.lengths()[0]);
        self.messages.push(Message::new("assistant", made.text.clone()));
        self.turns.push(self.record(&made, prompt_tokens));
        Ok(made)
    }

    fn record(&self, made: &Written, prompt_tokens: usize) -> Turn {
        let cost = made.prefill + made.decode;
        Turn {
            prompt_tokens,
            prefilled_tokens: made.prefilled,
            answer_tokens: made.ids.len(),
            prefill_seconds: made.prefill_seconds,
            decode_seconds: made.decode_seconds,
            tokens_per_second: made.decode_rate(),
            stop: made.stop,
            method: self.settings.prune.method,
            ratio: self.settings.prune.ratio,
            flops: cost.flops + cost.flops_probe,
            flops_dense: cost.flops_dense,
            flops_probe: cost.flops_probe,
        }
    }

    /// Forgets everything that was said; the system message stays.
    pub fn clear(&mut self) -> Result<()> {
        self.messages.retain(|message| message.role == "system");
        self.held.clear();
        self.turns.clear();
        Ok(self.sequences.clear()?)
    }

    /// Sets or removes the system message. The next turn runs again from where the prompt differs.
    pub fn set_system(&mut self, text: Option<String>) {
        self.messages.retain(|message| message.role != "system");
        if let Some(text) = text {
            self.messages.insert(0, Message::new("system", text));
        }
    }

    /// Prunes otherwise from now on. The cache is given up: it holds what other masks made.
    pub fn set_pruning(&mut self, method: Method, ratio: f64) -> Result<()> {
        let prune = PruneConfig { method, ratio, ..self.settings.prune.clone() };
        prune.validate()?;
        self.sequences = sequences(self.engine, &prune, &self.known, self.context)?;
        self.held.clear();
        self.settings.prune = prune;
        Ok(())
    }

    /// The method that a ratio above 0 means now.
    pub fn pruning_method(&self) -> Method {
        match self.settings.prune.method {
            Method::Dense => Method::Pp,
            method => method,
        }
    }

    /// The ratio that a method means now.
    pub fn ratio_for(&self, method: Method) -> f64 {
        match (method, self.settings.prune.ratio) {
            (Method::Dense, _) => 0.0,
            (_, 0.0) => DEFAULT_RATIO,
            (_, ratio) => ratio,
        }
    }

    /// What to say about an answer that ended early.
    pub fn remark(&self, stop: Stop) -> Option<String> {
        match stop {
            Stop::End | Stop::Phrase => None,
            Stop::Stopped => Some("stopped".into()),
            Stop::Length => Some(format!("cut off at {} tokens; --max-tokens allows more", self.settings.max_tokens)),
            Stop::Context => Some(format!(
                "cut off: the context of {} tokens is full; /clear starts a new conversation, --context makes room",
                self.context
            )),
        }
    }

    /// What is pruned, for people.
    pub fn pruning(&self) -> String {
        let (prune, plan) = (&self.settings.prune, self.sequences.plan());
        if !plan.prunes() {
            return "dense: every unit is computed".into();
        }
        let last = plan.layers.last().map_or((0, 0), |layer| (layer.heads, layer.channels));
        let (phases, model) = (prune.phases, self.engine.config());
        let when = match (phases.prefill, phases.decode) {
            (true, true) => "prompt and answer",
            (true, false) => "the prompt",
            (false, _) => "the answer",
        };
        format!(
            "{} at ratio {} prunes {when}: {} of {} heads and {} of {} channels are kept behind the first {} layers ({})",
            prune.method.name(),
            prune.ratio,
            last.0,
            model.num_attention_heads,
            last.1,
            model.intermediate_size,
            prune.dense_layers,
            match &self.known.calibration {
                None => "no history: there is no calibration, see `secateur help calibrate`".into(),
                Some(calibration) => format!("calibrated on {}", calibration.recipe()),
            }
        )
    }

    /// Figures so far, for people.
    pub fn stats(&self) -> String {
        let (gpu, sampling) = (self.engine.gpu(), &self.settings.sampling);
        let sum = |of: fn(&Turn) -> f64| self.turns.iter().map(of).sum::<f64>();
        let probe = sum(|turn| turn.flops_probe);
        let flops = Flops { pass: sum(|turn| turn.flops) - probe, dense: sum(|turn| turn.flops_dense), probe };
        format!(
            "{}\n\
             context  {} of {} tokens; turns: {}; masks chosen: {}\n\
             FLOPs    {} of the layers, prompts included\n\
             memory   {} on {}\n\
             draw     temperature {}, top-k {}, top-p {}, min-p {}, repetition penalty {}, seed {}",
            self.pruning(),
            self.held.len(),
            self.context,
            self.turns.len(),
            self.sequences.choices(),
            removed(flops),
            bytes(gpu.allocated()),
            gpu.info().name,
            sampling.temperature,
            sampling.top_k,
            sampling.top_p,
            sampling.min_p,
            sampling.repetition_penalty,
            sampling.seed
        )
    }

    /// The conversation as plain data.
    pub fn transcript(&self) -> Transcript<'_> {
        Transcript {
            messages: &self.messages,
            turns: &self.turns,
            prune: &self.settings.prune,
            sampling: &self.settings.sampling,
            context: self.context,
            model: &self.opened.name,
            lora: self.opened.lora_record(),
            adapter: &self.engine.gpu().info().name,
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// Writes the conversation: Markdown where the name ends in `.md`, else JSON.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = match path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("md")) {
            true => self.messages.iter().map(|m| format!("## {}\n\n{}\n\n", m.role, m.content)).collect(),
            false => serde_json::to_string_pretty(&self.transcript())? + "\n",
        };
        Ok(std::fs::write(path, text).map_err(Error::io("write", path))?)
    }
}

fn sequences(engine: &Arc<Engine>, prune: &PruneConfig, known: &Knowledge, context: usize) -> Result<Sequences> {
    let options = SequenceOptions { samples: 1, context, prune: prune.clone(), known: known.clone(), live: false };
    Ok(Sequences::new(engine, options)?)
}
