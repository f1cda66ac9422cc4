//! A file from one server, resumed after every break.
//!
//! Invariant: a byte is appended only at the offset that the server says it has. What the bytes are worth is not decided
//! here: the caller compares the hash of the whole.

use super::parts::Parts;
use super::{Progress, Report, Step};
use crate::error::{Error, Result};
use crate::origin::plan::{self, Answer, Verdict};
use crate::origin::{js, pause, sleep};
use js_sys::{Array, Promise, Uint8Array};
use std::time::Duration;
use wasm_bindgen::prelude::*;
use web_sys::{
    AbortController, Headers, ReadableStreamDefaultReader, RequestCache, RequestInit, RequestMode, Response, Url,
};

/// Between two reports while bytes come, or while none do.
const TICK: Duration = Duration::from_millis(200);
/// Longest wait for an answer, and for the next bytes of one.
const STALL: Duration = Duration::from_secs(30);
/// Longest wait for a server that is only asked whether it is there.
const PROBE: Duration = Duration::from_secs(5);
/// Tries without any progress before a server is given up.
const TRIES: u32 = 6;
/// Tries of a server that has not answered once: the next one may.
const UNANSWERED_TRIES: u32 = 3;

/// Why nothing more comes from a server.
pub enum Failure {
    /// The server's fault; another one may do better. A text for the user.
    Source(String),
    /// Not the server's fault.
    Fatal(Error),
}

/// Why a try ended early.
enum Break {
    /// Worth another try.
    Again(String),
    /// No answer at all came.
    Unanswered(String),
    /// No try will do better.
    Never(String),
    /// Not the server's fault.
    Fatal(Error),
}

impl From<Error> for Break {
    fn from(error: Error) -> Break {
        Break::Fatal(error)
    }
}

/// Appends to `parts` until the file is whole.
pub async fn fill(url: &str, parts: &mut Parts<'_>, progress: Report<'_>) -> Result<(), Failure> {
    let (mut failures, mut best) = (0, parts.len());
    let mut tries = UNANSWERED_TRIES;
    loop {
        let ended = match attempt(url, parts, progress).await {
            Ok(()) => return Ok(()),
            // Of a server that has answered before, the silence is the connection's.
            Err(Break::Unanswered(_)) if tries == UNANSWERED_TRIES => silence(url).await,
            Err(ended) => ended,
        };
        let reason = match ended {
            Break::Fatal(error) => return Err(Failure::Fatal(error)),
            Break::Never(reason) => return Err(Failure::Source(reason)),
            Break::Unanswered(reason) => reason,
            Break::Again(reason) => {
                tries = TRIES;
                reason
            }
        };
        // Measured by the furthest byte ever: a file that changes all the time would otherwise start over for ever.
        if parts.len() > best {
            (failures, best) = (0, parts.len());
        }
        failures += 1;
        if failures >= tries {
            return Err(Failure::Source(format!("{reason} ({failures} tries without progress: check the connection)")));
        }
        tracing::info!(url, reason, failures, "trying the server again");
        let mut left = plan::retry_pause(failures);
        while !left.is_zero() {
            let retrying = Progress { step: Step::Retrying, done: parts.len(), total: parts.total() };
            progress(retrying).map_err(Failure::Fatal)?;
            // In short steps: a download that is cancelled ends at once.
            let step = left.min(TICK);
            sleep(step).await;
            left -= step;
        }
    }
}

/// One request, from the end of `parts` on.
async fn attempt(url: &str, parts: &mut Parts<'_>, progress: Report<'_>) -> Result<(), Break> {
    let (at, total) = (parts.len(), parts.total());
    if at == total {
        return Ok(());
    }
    let mut wait = Wait::new(progress, total);
    wait.report(at)?;
    let request = Request::new()?;
    // Asked for from the start on too: a browser that asks for a range asks for bytes that are not compressed.
    let range = Headers::new().and_then(|headers| headers.set("Range", &format!("bytes={at}-")).map(|()| headers));
    let headers = range.map_err(js::internal("asking for a range"))?;
    request.init.set_headers(headers.as_ref());
    // A copy in the browser's cache would take the room twice.
    request.init.set_cache(RequestCache::NoStore);
    let answer = request.send(url).map_err(|thrown| Break::Never(js::text(&thrown)))?;
    let response: Response = match wait.until(&answer, at).await? {
        Ok(response) => response.unchecked_into(),
        Err(thrown) => return Err(Break::Unanswered(js::text(&thrown))),
    };
    let answer = answer_of(&response);
    let mut skip = match plan::judge(&answer, at, total, parts.tag(url)) {
        Verdict::Take { skip } => skip,
        Verdict::Anew(reason) => {
            parts.restart().await?;
            return Err(Break::Again(reason));
        }
        Verdict::Again(reason) => return Err(Break::Again(reason)),
        Verdict::Never(reason) => return Err(Break::Never(reason)),
    };
    parts.begin(url, answer.etag.as_deref()).await?;
    let ended = |len: u64| Break::Again(format!("the connection ended after {len} of {total} bytes"));
    let Some(body) = response.body() else { return Err(ended(at)) };
    let reader = ReadableStreamDefaultReader::new(&body).map_err(js::internal("reading an answer"))?;
    loop {
        let chunk = wait.until(&reader.read(), parts.len()).await?.map_err(|thrown| {
            Break::Again(format!("the connection broke after {} of {total} bytes: {}", parts.len(), js::text(&thrown)))
        })?;
        let Some(bytes) = js::get(&chunk, "value") else {
            return if parts.len() == total { Ok(()) } else { Err(ended(parts.len())) };
        };
        let bytes: Uint8Array = bytes.unchecked_into();
        let (length, left_out) = (u64::from(bytes.length()), skip.min(u64::from(bytes.length())));
        skip -= left_out;
        if parts.len() + (length - left_out) > total {
            parts.restart().await?;
            return Err(Break::Never(format!("the server sends more than the {total} bytes that the file has")));
        }
        // No more than the array's length, which is below 2^32.
        parts.append(&bytes.subarray(left_out as u32, length as u32)).await?;
        wait.came(parts.len())?;
    }
}

/// What the page may see of a response.
fn answer_of(response: &Response) -> Answer {
    let headers = response.headers();
    let header = |name: &str| headers.get(name).ok().flatten();
    Answer {
        status: response.status(),
        range: header("content-range"),
        length: header("content-length").and_then(|length| length.trim().parse().ok()),
        kind: header("content-type"),
        etag: header("etag"),
        encoded: header("content-encoding").is_some_and(|encoding| encoding.trim() != "identity"),
    }
}

/// Why a server gave no answer that the page may see, as far as a page can know.
async fn silence(url: &str) -> Break {
    if js::global(&["navigator", "onLine"]).is_some_and(|online| online.is_falsy()) {
        return Break::Unanswered("this device is offline".to_owned());
    }
    let here = js::global(&["location", "href"]).and_then(|here| here.as_string()).unwrap_or_default();
    let (Ok(here), Ok(there)) = (Url::new(&here), Url::new_with_base(url, &here)) else {
        return Break::Never("this is no address".to_owned());
    };
    if here.origin() == there.origin() {
        return Break::Unanswered("the server that this page comes from does not answer".to_owned());
    }
    // Without CORS a page learns of an answer only that there is one: enough to tell a refusal from silence.
    match reachable(url).await {
        true => Break::Never(
            "the server is there, but does not let a page of another address read the file (it sends no CORS header)"
                .to_owned(),
        ),
        false => Break::Unanswered(
            "the server does not answer, or something blocks the page from asking it: a firewall, an extension, the page's \
             own security policy (the browser's console says which)"
                .to_owned(),
        ),
    }
}

async fn reachable(url: &str) -> bool {
    let Ok(request) = Request::new() else { return false };
    request.init.set_method("HEAD");
    request.init.set_mode(RequestMode::NoCors);
    request.init.set_cache(RequestCache::NoStore);
    let Ok(answer) = request.send(url) else { return false };
    let first = Promise::race(&Array::of2(&answer, &pause::after(PROBE))).await;
    first.is_ok_and(|answer| !answer.is_undefined())
}

/// A request that ends when this is dropped: nothing goes on loading for a download that was given up.
struct Request {
    init: RequestInit,
    abort: AbortController,
}

impl Request {
    fn new() -> Result<Request> {
        let abort = AbortController::new().map_err(js::internal("preparing a request"))?;
        let init = RequestInit::new();
        init.set_signal(Some(&abort.signal()));
        Ok(Request { init, abort })
    }

    fn send(&self, url: &str) -> Result<Promise, JsValue> {
        js::fetch(url, &self.init)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

/// Waits for promises, reports meanwhile, and loses patience.
struct Wait<'a> {
    progress: Report<'a>,
    total: u64,
    /// Resolves to `undefined` at the next report; shared by many short waits.
    tick: Promise,
    /// When the last report was, and when something last came, in milliseconds.
    reported: f64,
    came: f64,
}

impl<'a> Wait<'a> {
    fn new(progress: Report<'a>, total: u64) -> Wait<'a> {
        Wait { progress, total, tick: pause::after(TICK), reported: js::now(), came: js::now() }
    }

    fn report(&mut self, done: u64) -> Result<()> {
        self.reported = js::now();
        (self.progress)(Progress { step: Step::Downloading, done, total: self.total })
    }

    /// What the promise, of an object, comes to.
    async fn until(&mut self, promise: &Promise, done: u64) -> Result<Result<JsValue, JsValue>, Break> {
        // The time that the parts before took to write is not the server's.
        self.came = js::now();
        loop {
            match Promise::race(&Array::of2(promise, &self.tick)).await {
                Ok(value) if value.is_undefined() => {}
                outcome => return Ok(outcome),
            }
            self.tick = pause::after(TICK);
            self.report(done)?;
            if js::now() - self.came > STALL.as_secs_f64() * 1e3 {
                return Err(Break::Again(format!("nothing came for {} seconds", STALL.as_secs())));
            }
        }
    }

    /// Bytes have come.
    fn came(&mut self, done: u64) -> Result<()> {
        // Where bytes come without a pause the tick never gets through.
        match done == self.total || js::now() - self.reported >= TICK.as_secs_f64() * 1e3 {
            true => self.report(done),
            false => Ok(()),
        }
    }
}
