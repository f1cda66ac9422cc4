//! One request, answered: what the model reads, the text as it comes, probes on the way.
//!
//! Invariant: `held` are the tokens whose keys and values the cache holds. A request keeps the part of the cache that
//! begins alike, and runs only what is new.

use super::answer::{Writer, Written};
use super::fit::{Fitted, Room, fit};
use super::load::Model;
use crate::config::{PruneConfig, SamplingConfig};
use crate::engine::{Sampler, SequenceOptions, Sequences, Watched};
use crate::error::Result;
use crate::protocol::{Cause, Event, Figures, Heat, LayerHeat, Overflow, Prompt, Request, Stop, UnitHeat};
use crate::prune::Chosen;
use crate::text::{Message, Special, StopStrings, Tokenizer};
use std::ops::ControlFlow;
use std::sync::Arc;
use web_time::Instant;

/// A conversation in the cache.
pub(super) struct Talk {
    sequences: Sequences,
    held: Vec<u32>,
}

/// What connects an answer with the face that asked for it.
pub(super) trait Line {
    /// Tells something.
    fn post(&mut self, event: Event);
    /// Whether the answer is to end.
    fn stopped(&mut self) -> bool;
    /// Settings that were changed since the last call.
    fn retuned(&mut self) -> Option<PruneConfig>;
}

impl Talk {
    fn new(model: &Model, prune: &PruneConfig) -> Result<Talk> {
        let options = SequenceOptions {
            samples: 1,
            context: model.info.context,
            prune: prune.clone(),
            known: model.known.clone(),
            live: true,
        };
        Ok(Talk { sequences: Sequences::new(&model.engine, options)?, held: Vec::new() })
    }
}

/// Makes the cache hold the beginning of `ids`, as much of it as it has; returns how much that is. At least the last
/// token is left to be run: its logits are needed.
fn place(sequences: &mut Sequences, held: &mut Vec<u32>, ids: &[u32]) -> Result<usize> {
    let mut common = ids.iter().zip(&*held).take_while(|(a, b)| a == b).count().min(ids.len().saturating_sub(1));
    if common * 2 < held.len() {
        // Another conversation: what was seen in the old one must not choose the units of this one.
        sequences.clear()?;
        common = 0;
    }
    sequences.truncate(0, common);
    held.truncate(common);
    Ok(common)
}

/// The messages as the model reads them, ready for an answer.
pub(super) fn encode(model: &Model, messages: &[Message]) -> Result<Vec<u32>> {
    model.tokenizer.encode_prompt(&model.template.prompt(&model.tokenizer, messages, true)?)
}

/// The tokens of the answer's beginning.
pub(super) fn encode_begun(model: &Model, begun: &str) -> Result<Vec<u32>> {
    match begun {
        "" => Ok(Vec::new()),
        begun => model.tokenizer.encode(begun, Special::Text),
    }
}

/// Answers, and returns what the last event says: why the answer ended, and what it took.
pub(super) async fn answer(model: &mut Model, request: &Request, line: &mut dyn Line) -> Result<(Stop, Figures)> {
    request.sampling.validate()?;
    let mut talk = match model.talk.take() {
        Some(talk) => talk,
        None => Talk::new(model, &request.prune)?,
    };
    talk.sequences.set_prune(&request.prune)?;
    // A talk that met an error is not put back.
    let made = write(model, &mut talk, request, line).await?;
    model.talk = Some(talk);
    Ok(made)
}

async fn write(model: &Model, talk: &mut Talk, request: &Request, line: &mut dyn Line) -> Result<(Stop, Figures)> {
    let started = Instant::now();
    let (tokenizer, context) = (&model.tokenizer, model.info.context);
    let begun = encode_begun(model, &request.begun)?;
    let mut writer = Writer {
        sequences: &mut talk.sequences,
        tokenizer,
        decoder: if begun.is_empty() { tokenizer.stream(true) } else { tokenizer.stream_continuing(true) },
        sampler: sampler(&request.sampling, &begun)?,
        stops: StopStrings::new(model.template.stop_strings().iter().cloned()),
        max_tokens: request.max_tokens,
        ignore_end: false,
    };
    let (mut written, mut figures, mut probes) = (Written::default(), Figures::default(), 0);
    let stop = loop {
        let before = written.ids.len();
        let room = Room {
            context,
            reserve: request.max_tokens.saturating_sub(before).min(context / 4),
            behind: begun.len() + before,
            overflow: request.overflow,
        };
        let Fitted { mut ids, left_out } = fit(&request.messages, room, &mut |messages| encode(model, messages))?;
        ids.extend(begun.iter().chain(&written.ids));
        let cached = place(writer.sequences, &mut talk.held, &ids)?;
        if before == 0 {
            let prompt = Prompt { pieces: pieces(tokenizer, &ids)?, cached, left_out };
            figures.prompt_tokens = ids.len();
            line.post(Event::Started { id: request.id, prompt });
        } else {
            line.post(Event::Cut { id: request.id, left_out });
        }
        let mut hear = |piece: &str, written: &Written, sequences: &mut Sequences| {
            if let Some(prune) = line.retuned() {
                sequences.set_prune(&prune)?;
            }
            while let Some(watched) = sequences.watched()? {
                line.post(Event::Heat(Arc::new(heat(model, request.id, probes, watched))));
                probes += 1;
            }
            if figures.first_token_seconds == 0.0 && !written.ids.is_empty() {
                figures.first_token_seconds = started.elapsed().as_secs_f64();
            }
            measure(&mut figures, written, sequences, model);
            line.post(Event::Token { id: request.id, text: piece.to_string(), figures: figures.clone() });
            Ok(if line.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        let stop = writer.write(&ids[cached..], &mut written, &mut hear).await?;
        talk.held = ids;
        talk.held.extend(&written.ids[before..]);
        // The last token drawn was not run, and a prompt may have been given up in the middle.
        talk.held.truncate(writer.sequences.lengths()[0]);
        // Without a new token between two cuts there would be no end.
        let goes_on = stop == Stop::Context && request.overflow != Overflow::Stop && written.ids.len() > before;
        if !goes_on {
            break stop;
        }
    };
    if stop == Stop::Context {
        writer.finish(&mut written, &mut |piece, _, _| {
            line.post(Event::Token { id: request.id, text: piece.to_string(), figures: figures.clone() });
            Ok(ControlFlow::Continue(()))
        })?;
    }
    measure(&mut figures, &written, writer.sequences, model);
    Ok((stop, figures))
}

/// Draws as asked; what the answer begins with counts as drawn.
pub(super) fn sampler(sampling: &SamplingConfig, begun: &[u32]) -> Result<Sampler> {
    let mut sampler = Sampler::new(sampling.clone())?;
    begun.iter().for_each(|&id| sampler.accept(id));
    Ok(sampler)
}

/// The text of every token: a character that several tokens make belongs to the last of them.
fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Result<Vec<String>> {
    let mut stream = tokenizer.stream_continuing(false);
    ids.iter().map(|&id| stream.push(id)).collect()
}

fn measure(figures: &mut Figures, written: &Written, sequences: &Sequences, model: &Model) {
    figures.prefilled = written.prefilled;
    figures.prefill_seconds = written.prefill_seconds;
    figures.answer_tokens = written.ids.len();
    figures.decoded = written.decoded;
    figures.decode_seconds = written.decode_seconds;
    figures.context_used = sequences.lengths()[0];
    figures.memory = model.engine.gpu().allocated();
    (figures.prefill, figures.decode) = (written.prefill, written.decode);
}

fn heat(model: &Model, id: u64, index: usize, watched: Watched) -> Heat {
    let config = &model.info.config;
    let units = |chosen: Option<Chosen>| {
        chosen.map(|Chosen { kept, scores, from_history, probed }| UnitHeat { kept, scores, from_history, probed })
    };
    let layer = |[heads, channels]: [Option<Chosen>; 2]| LayerHeat { heads: units(heads), channels: units(channels) };
    Heat {
        id,
        index,
        cause: if watched.renewal { Cause::Renewal } else { Cause::Prompt },
        at: watched.at,
        method: watched.prune.method,
        ratio: watched.prune.ratio,
        heads: config.num_attention_heads,
        channels: config.intermediate_size,
        layers: watched.layers.into_iter().map(layer).collect(),
    }
}
