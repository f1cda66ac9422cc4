//! A session from the outside: commands in, events out, on tiny models with random weights.

mod common;

#[path = "session/pruning.rs"]
mod pruning;
#[path = "session/trouble.rs"]
mod trouble;

use common::tiny_model::{TinySpec, write_gguf};
use secateur::config::{Method, PruneConfig, PrunePhases, SamplingConfig};
use secateur::protocol::{Command, Comparison, Event, Figures, Heat, Load, ModelInfo, Overflow, Prompt, Request, Stop};
use secateur::session::Handle;
use secateur::text::Message;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tempfile::TempDir;

/// Longest wait for an event: the first shaders of a cold cache take a while.
const PATIENCE: Duration = Duration::from_secs(120);

/// A session with a model in a folder of its own.
struct Bench {
    handle: Handle,
    woken: Receiver<()>,
    seen: Vec<Event>,
    dir: TempDir,
}

/// What an answer said.
#[derive(Debug, Default)]
struct Answered {
    prompt: Option<Prompt>,
    text: String,
    pieces: usize,
    heats: Vec<Arc<Heat>>,
    cuts: Vec<Vec<usize>>,
    stop: Option<Stop>,
    figures: Figures,
    error: Option<String>,
}

fn spec() -> TinySpec {
    TinySpec { layers: 4, seed: 5, ..TinySpec::default() }
}

impl Bench {
    fn empty() -> Bench {
        let (wake, woken) = channel();
        let handle = Handle::start(move || wake.send(()).unwrap_or(())).expect("a thread");
        Bench { handle, woken, seen: Vec::new(), dir: tempfile::tempdir().expect("a folder") }
    }

    /// With a model of `context` slots.
    fn with(spec: &TinySpec, context: usize) -> Bench {
        let mut bench = Bench::empty();
        write_gguf(&bench.path(), spec);
        bench.handle.send(Command::Load(bench.load(context)));
        let loaded = bench.until(|event| matches!(event, Event::Loaded(_) | Event::LoadFailed { .. }));
        assert!(matches!(loaded, Event::Loaded(_)), "{loaded:?}");
        bench
    }

    fn new() -> Bench {
        Bench::with(&spec(), 512)
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("tiny.gguf")
    }

    fn load(&self, context: usize) -> Load {
        Load { model: self.path().to_string_lossy().into_owned(), device: None, context }
    }

    /// The next event that `wanted` holds for; those before it are dropped.
    fn until(&mut self, mut wanted: impl FnMut(&Event) -> bool) -> Event {
        loop {
            if let Some(at) = self.seen.iter().position(&mut wanted) {
                return self.seen.drain(..=at).next_back().expect("the event at its place");
            }
            self.seen.clear();
            self.woken.recv_timeout(PATIENCE).expect("an event in time");
            self.seen.extend(self.handle.drain());
        }
    }

    /// Hears an answer to its end; `hear` is called at every event of it.
    fn hear(&mut self, id: u64, mut hear: impl FnMut(&Handle, &Event, &Answered)) -> Answered {
        let mut answered = Answered::default();
        loop {
            let event = self.until(|_| true);
            hear(&self.handle, &event, &answered);
            match event {
                Event::Started { id: of, prompt } if of == id => answered.prompt = Some(prompt),
                Event::Cut { id: of, left_out } if of == id => answered.cuts.push(left_out),
                Event::Token { id: of, text, figures } if of == id => {
                    assert!(answered.prompt.is_some(), "a token before the start");
                    answered.text.push_str(&text);
                    answered.pieces += 1;
                    answered.figures = figures;
                }
                Event::Heat(heat) if heat.id == id => answered.heats.push(heat),
                Event::Finished { id: of, stop, figures } if of == id => {
                    (answered.stop, answered.figures) = (Some(stop), figures);
                    return answered;
                }
                Event::Failed { id: of, error } if of == id => {
                    answered.error = Some(error);
                    return answered;
                }
                _ => {}
            }
        }
    }

    fn answer(&mut self, request: Request) -> Answered {
        let id = request.id;
        self.handle.send(Command::Answer(Box::new(request)));
        self.hear(id, |_, _, _| {})
    }

    fn compare(&mut self, request: Request) -> Comparison {
        self.handle.send(Command::Compare(Box::new(request)));
        match self.until(|event| {
            matches!(event, Event::Failed { .. })
                || matches!(event, Event::Compared { comparison, .. } if comparison.complete)
        }) {
            Event::Compared { comparison, .. } => comparison,
            event => panic!("{event:?}"),
        }
    }
}

fn messages(texts: &[&str]) -> Vec<Message> {
    let roles = ["user", "assistant"].into_iter().cycle();
    texts.iter().zip(roles).map(|(text, role)| Message::new(role, *text)).collect()
}

/// A greedy request.
fn request(id: u64, texts: &[&str], prune: PruneConfig) -> Request {
    Request {
        id,
        messages: messages(texts),
        begun: String::new(),
        prune,
        sampling: SamplingConfig::default(),
        max_tokens: 40,
        overflow: Overflow::Stop,
    }
}

fn dense() -> PruneConfig {
    PruneConfig::default()
}

/// Prunes tiny layers while answering, renewed every four tokens, all of which are watched.
fn pruned(ratio: f64) -> PruneConfig {
    let phases = PrunePhases { prefill: false, decode: true };
    let watched = PruneConfig { reprobe_every: 4, reprobe_tokens: 4, phases, ..dense() };
    PruneConfig { method: Method::Pp, ratio, dense_layers: 1, tile: 8, ..watched }
}

#[test]
fn a_greedy_answer_is_the_engines_own() {
    use secateur::engine::{SequenceOptions, Sequences};
    use secateur::prune::Knowledge;
    use secateur::text::{ChatTemplate, Tokenizer};
    let mut bench = Bench::new();
    let found = bench.answer(request(1, &["Hello there"], dense()));

    let files = secateur::model::ModelFiles::open(&bench.path()).unwrap();
    let tokenizer = Tokenizer::new(&files.text).unwrap();
    let template = ChatTemplate::new(&files.text, &tokenizer).unwrap();
    let prompt = template.prompt(&tokenizer, &messages(&["Hello there"]), true).unwrap();
    let ids = tokenizer.encode_prompt(&prompt).unwrap();
    let engine = common::device::load(&common::device::gpu(), &files);
    let options =
        SequenceOptions { samples: 1, context: 512, prune: dense(), known: Knowledge::default(), live: false };
    let mut sequences = Sequences::new(&engine, options).unwrap();
    let best =
        |logits: &[f32]| (0..logits.len() as u32).max_by(|&a, &b| logits[a as usize].total_cmp(&logits[b as usize]));
    let mut logits = sequences.prefill(std::slice::from_ref(&ids)).unwrap().swap_remove(0);
    let mut expected = Vec::new();
    while expected.len() < 40 {
        let token = best(&logits).unwrap();
        if tokenizer.is_end(token) {
            break;
        }
        expected.push(token);
        logits = sequences.step(&[token]).unwrap().swap_remove(0);
    }
    assert_eq!(found.text, tokenizer.decode(&expected, true).unwrap());
    assert_eq!((found.figures.answer_tokens, found.figures.prompt_tokens), (expected.len(), ids.len()));
    assert!(expected.len() >= 20, "an answer of {} tokens shows little", expected.len());
    assert_eq!(found.prompt.unwrap().pieces.concat(), prompt.text());
    assert!(found.heats.is_empty(), "a dense answer has no probes");
    let Figures { prefill, decode, .. } = found.figures;
    assert!(prefill.flops > 0.0 && prefill.flops == prefill.flops_dense && prefill.flops_probe == 0.0);
    assert!(decode.bytes > 0.0 && decode.bytes == decode.bytes_dense);
}

/// Longer than an answer: random weights write bytes that are no text, so that an answer is not read back as the tokens
/// it was written in, and only the question before it stays in the cache.
const LONG: &str = "A question that is long enough to be most of what the cache holds behind it, whatever is answered";

#[test]
fn a_second_turn_runs_only_what_is_new_and_says_the_same() {
    for prune in [dense(), PruneConfig { reprobe_every: 0, ..pruned(0.4) }] {
        let mut bench = Bench::new();
        let first = bench.answer(request(1, &[LONG], prune.clone()));
        let texts = [LONG, &first.text, "And then?"];
        let second = bench.answer(request(2, &texts, prune.clone()));
        let prompt = second.prompt.unwrap();
        assert!(prompt.cached >= first.prompt.unwrap().pieces.len(), "{} tokens were cached", prompt.cached);
        assert_eq!(second.figures.prefilled, second.figures.prompt_tokens - prompt.cached);
        if prune.method == Method::Dense {
            let fresh = Bench::new().answer(request(1, &texts, prune));
            assert_eq!((second.text, fresh.prompt.unwrap().cached), (fresh.text, 0));
        }
    }
}

#[test]
fn another_conversation_does_not_remember_the_one_before() {
    let prune = pruned(0.4);
    let mut bench = Bench::new();
    bench.answer(request(1, &["A long first question about many different things in the world"], prune.clone()));
    let second = bench.answer(request(2, &["Hi"], prune.clone()));
    let alone = Bench::new().answer(request(1, &["Hi"], prune));
    assert_eq!(second.text, alone.text);
    assert_eq!(second.heats.len(), alone.heats.len());
    for (second, alone) in second.heats.iter().zip(&alone.heats) {
        assert_eq!(second.layers, alone.layers);
    }
}

#[test]
fn a_stop_keeps_what_was_said_and_the_answer_goes_on_from_there() {
    let mut bench = Bench::new();
    let whole = bench.answer(request(1, &["Hello there"], dense()));
    bench.handle.send(Command::Answer(Box::new(request(2, &["Hello there"], dense()))));
    let part = bench.hear(2, |handle, _, answered| {
        if answered.pieces == 8 {
            handle.stop();
        }
    });
    assert_eq!(part.stop, Some(Stop::Stopped));
    assert!(part.figures.answer_tokens < whole.figures.answer_tokens && !part.text.is_empty());
    assert!(whole.text.starts_with(part.text.trim_end_matches('\u{fffd}')));

    // From a beginning that is read back as it was written, the rest is the same.
    let (begun, rest) = whole.text.split_at(whole.text.find(|c: char| !c.is_ascii_punctuation()).unwrap());
    assert!(!begun.is_empty(), "{:?}", whole.text);
    let found = bench.answer(Request { begun: begun.into(), ..request(3, &["Hello there"], dense()) });
    assert!(found.prompt.unwrap().pieces.concat().ends_with(begun));
    let length = rest.chars().count();
    assert_eq!(found.text.chars().take(length).collect::<String>(), rest);
}

#[test]
fn seeds_repeat_an_answer_and_tell_answers_apart() {
    let mut bench = Bench::new();
    let mut drawn = |id, seed| {
        let sampling = SamplingConfig { temperature: 1.0, seed, ..SamplingConfig::default() };
        bench.answer(Request { sampling, ..request(id, &["Hello there"], dense()) }).text
    };
    let first = drawn(1, 7);
    assert_eq!(drawn(2, 7), first);
    assert_ne!(drawn(3, 8), first);
}

#[test]
fn the_model_tells_its_shape() {
    let mut bench = Bench::empty();
    write_gguf(&bench.path(), &spec());
    bench.handle.send(Command::Load(bench.load(1 << 20)));
    let Event::Loaded(info) = bench.until(|event| matches!(event, Event::Loaded(_))) else { unreachable!() };
    let ModelInfo { config, context, memory, format, .. } = *info;
    assert_eq!((config.num_hidden_layers, config.intermediate_size), (4, 96));
    assert_eq!(context, config.max_position_embeddings, "as much as the model was trained on");
    assert!(memory > 0 && format.contains("GGUF") && format.contains("F32"), "{format}");

    bench.handle.send(Command::Devices);
    let Event::Devices(devices) = bench.until(|event| matches!(event, Event::Devices(_))) else { unreachable!() };
    assert!(!devices.is_empty() && devices[0].index == 0);
}
