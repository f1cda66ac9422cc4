//! The session's thread: one command after another, until nobody sends any more.

use super::load::{self, Model};
use super::{compare, masks, talk};
use crate::config::PruneConfig;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::protocol::{Command, Event, Load, Request};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Shortest time between two reports of a load.
const REPORT: Duration = Duration::from_millis(50);

/// Where events go.
#[derive(Clone)]
pub(super) struct Outbox {
    pub events: Sender<Event>,
    pub wake: Arc<dyn Fn() + Send + Sync>,
}

impl Outbox {
    fn post(&self, event: Event) {
        // Nobody listens when the program ends.
        let _ = self.events.send(event);
        (self.wake)();
    }
}

/// What the thread owns.
pub(super) struct Worker {
    inbox: Receiver<(u64, Command)>,
    /// Commands that came while another ran.
    waiting: VecDeque<(u64, Command)>,
    outbox: Outbox,
    stopped: Arc<AtomicU64>,
    model: Option<Model>,
    /// How `model` was loaded.
    loaded: Option<Load>,
    /// Its device.
    device: Arc<Mutex<Weak<Gpu>>>,
}

impl Worker {
    pub fn new(
        inbox: Receiver<(u64, Command)>,
        outbox: Outbox,
        stopped: Arc<AtomicU64>,
        device: Arc<Mutex<Weak<Gpu>>>,
    ) -> Worker {
        Worker { inbox, waiting: VecDeque::new(), outbox, stopped, model: None, loaded: None, device }
    }

    pub fn run(mut self) {
        while let Some((number, command)) = self.waiting.pop_front().or_else(|| self.inbox.recv().ok()) {
            let id = match &command {
                Command::Answer(request) | Command::Compare(request) => Some(request.id),
                _ => None,
            };
            // Whatever it was doing is given up with the engine it was done on.
            if catch_unwind(AssertUnwindSafe(|| self.handle(number, command))).is_err() {
                self.model = None;
                let error = "internal error: the engine gave up; please report it with the log".to_string();
                if let Some(id) = id {
                    self.outbox.post(Event::Failed { id, error: error.clone() });
                }
                let model = self.loaded.take().map_or_else(String::new, |load| load.model);
                self.outbox.post(Event::LoadFailed { model, error: Some(error) });
            }
        }
    }

    fn handle(&mut self, number: u64, command: Command) {
        match command {
            Command::Devices => self.outbox.post(Event::Devices(load::devices())),
            Command::Load(load) => self.load(number, load, None),
            Command::Pull { name, load } => self.load(number, load, Some(name)),
            Command::Answer(request) => self.answer(number, &request),
            Command::Compare(request) => self.compare(number, &request),
            // Its answer has ended; the next request brings its settings along.
            Command::Prune { .. } => {}
            Command::ReadMasks(path) => self.outbox.post(match masks::open(&path) {
                Ok(file) => Event::Masks(Box::new(file)),
                Err(error) => Event::MasksFailed { error: error.to_string() },
            }),
        }
    }

    /// Loads a model in place of the one there is, after downloading it where `download` names it.
    fn load(&mut self, number: u64, load: Load, download: Option<String>) {
        let (outbox, stopped, model) = (self.outbox.clone(), self.stopped.clone(), load.model.clone());
        let mut reported: Option<(String, Instant)> = None;
        let mut progress = |stage: &str, share: Option<f32>| {
            if stopped.load(Ordering::Relaxed) >= number {
                return Err(Error::Cancelled);
            }
            let fresh = reported.as_ref().is_some_and(|(last, at)| last == stage && at.elapsed() < REPORT);
            if !fresh {
                reported = Some((stage.to_string(), Instant::now()));
                outbox.post(Event::Loading { model: model.clone(), stage: stage.to_string(), share });
            }
            Ok(())
        };
        let found = match &download {
            Some(name) => load::download(name, &mut progress),
            None => Ok(()),
        };
        let made = found.and_then(|()| {
            // Two models at once may not fit.
            (self.model, self.loaded) = (None, None);
            load::load(&load, &mut progress)
        });
        match made {
            Ok(model) => {
                let gpu = Arc::downgrade(model.engine.gpu());
                *self.device.lock().unwrap_or_else(PoisonError::into_inner) = gpu;
                self.outbox.post(Event::Loaded(Box::new(model.info.clone())));
                (self.model, self.loaded) = (Some(model), Some(load));
            }
            Err(error) => {
                let error = (!matches!(error, Error::Cancelled)).then(|| error.to_string());
                self.outbox.post(Event::LoadFailed { model: load.model, error });
                // A download that failed left the old model where it was.
                if let Some(model) = &self.model {
                    self.outbox.post(Event::Loaded(Box::new(model.info.clone())));
                }
            }
        }
    }

    fn answer(&mut self, number: u64, request: &Request) {
        let made = self.with_model((number, request.id), |model, line| talk::answer(model, request, line));
        match made {
            Ok((stop, figures)) => self.outbox.post(Event::Finished { id: request.id, stop, figures }),
            Err(error) => self.fail(request.id, &error),
        }
        if let Some(model) = &self.model {
            model.engine.gpu().keep_pipelines();
        }
    }

    fn compare(&mut self, number: u64, request: &Request) {
        if let Err(error) = self.with_model((number, request.id), |model, line| compare::compare(model, request, line))
        {
            self.fail(request.id, &error);
        }
    }

    fn with_model<T>(
        &mut self,
        (number, id): (u64, u64),
        work: impl FnOnce(&mut Model, &mut dyn talk::Line) -> Result<T>,
    ) -> Result<T> {
        let Worker { inbox, waiting, outbox, stopped, model, .. } = self;
        let Some(model) = model else {
            return Err(Error::Setting("no model is loaded: open one first".into()));
        };
        work(model, &mut Wire { number, id, inbox, waiting, outbox, stopped })
    }

    /// Tells what went wrong; a device that failed is opened anew, with the model.
    fn fail(&mut self, id: u64, error: &Error) {
        let text = error.to_string();
        tracing::warn!(error = text, "an answer failed");
        let lost = matches!(error, Error::Device(_));
        if lost {
            self.outbox.post(Event::DeviceLost { error: text.clone() });
        }
        self.outbox.post(Event::Failed { id, error: text });
        if let Some(load) = self.loaded.clone().filter(|_| lost) {
            // Only the end of the session stops this: whoever stopped the answer wants to go on afterwards.
            self.load(u64::MAX, load, None);
        }
    }
}

/// The line of the command that runs.
struct Wire<'w> {
    number: u64,
    /// The request's.
    id: u64,
    inbox: &'w Receiver<(u64, Command)>,
    waiting: &'w mut VecDeque<(u64, Command)>,
    outbox: &'w Outbox,
    stopped: &'w AtomicU64,
}

impl talk::Line for Wire<'_> {
    fn post(&mut self, event: Event) {
        self.outbox.post(event);
    }

    fn stopped(&mut self) -> bool {
        self.stopped.load(Ordering::Relaxed) >= self.number
    }

    fn retuned(&mut self) -> Option<PruneConfig> {
        self.waiting.extend(self.inbox.try_iter());
        let mut newest = None;
        // What is meant for other answers waits for them, in its place.
        self.waiting.retain(|(_, command)| match command {
            Command::Prune { id, prune } if *id == self.id => {
                match prune.validate() {
                    Ok(()) => newest = Some(prune.clone()),
                    Err(error) => tracing::warn!(%error, "settings were ignored"),
                }
                false
            }
            _ => true,
        });
        newest
    }
}
