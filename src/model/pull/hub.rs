//! A file from a Hugging Face hub by HTTP, resumed after every break.
//!
//! Invariant: a byte is appended only at the offset that the server says it has. What the bytes are worth is not decided
//! here: the caller compares the hash of the whole.

use super::part::Part;
use super::{Failure, Progress, PullOptions, Sources, Step};
use std::io::Read;
use std::thread;
use std::time::Duration;
use ureq::http::{HeaderMap, Response, StatusCode, header};
use ureq::{Agent, Body};

const CHUNK: usize = 64 << 10;
/// Bytes between two reports of progress.
const REPORT: u64 = 1 << 20;
/// Tries for a hub that has not answered once: a machine without a network should get on to the next source.
const UNANSWERED_TRIES: u32 = 2;

/// Why a try ended early.
enum Break {
    /// Worth another try.
    Again(String),
    /// No answer at all came.
    Unreachable(String),
    /// No try will do better.
    Never(String),
    /// Not the hub's fault.
    Fatal(crate::Error),
}

impl From<crate::Error> for Break {
    fn from(error: crate::Error) -> Break {
        Break::Fatal(error)
    }
}

/// Appends to `part` until it has `total` bytes.
pub fn fetch(url: &str, total: u64, part: &mut Part, options: &mut PullOptions<'_>) -> Result<(), Failure> {
    let agent = agent(&options.sources);
    let (mut failures, mut best) = (0, part.len());
    let mut limit = UNANSWERED_TRIES.min(options.sources.attempts);
    loop {
        let reason = match attempt(&agent, url, total, part, options.progress) {
            Ok(()) => return Ok(()),
            Err(Break::Fatal(error)) => return Err(Failure::Fatal(error)),
            Err(Break::Never(reason)) => return Err(Failure::Source(format!("{url}: {reason}"))),
            Err(Break::Unreachable(reason)) => reason,
            Err(Break::Again(reason)) => {
                limit = options.sources.attempts;
                reason
            }
        };
        // Measured by the furthest byte ever: a server that ignores ranges would otherwise start over for ever.
        if part.len() > best {
            (failures, best) = (0, part.len());
        }
        failures += 1;
        if failures >= limit {
            return Err(Failure::Source(format!("{url}: {reason} ({failures} tries without progress)")));
        }
        tracing::info!(url, reason, failures, "trying the hub again");
        pause(failures, (part.len(), total), options)?;
    }
}

/// What the hub says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal. The hub knows it of large files alone; of small ones it has a hash of its own.
    pub sha256: Option<String>,
}

/// Asks what the file at `url` is, without fetching it.
pub fn describe(url: &str, options: &mut PullOptions<'_>) -> Result<Described, Failure> {
    // The hub's own answer names size and hash; where it sends the client on, the store behind it may not.
    let direct = agent_with(&options.sources, 0);
    let followed = agent(&options.sources);
    let mut failures = 0;
    loop {
        let answer = head(&direct, url).and_then(|found| match found {
            Some(described) => Ok(described),
            None => head(&followed, url)?
                .ok_or_else(|| Break::Never("the server does not say how large the file is".to_owned())),
        });
        let (reason, limit) = match answer {
            Ok(described) => return Ok(described),
            Err(Break::Fatal(error)) => return Err(Failure::Fatal(error)),
            Err(Break::Never(reason)) => return Err(Failure::Source(format!("{url}: {reason}"))),
            Err(Break::Unreachable(reason)) => (reason, UNANSWERED_TRIES.min(options.sources.attempts)),
            Err(Break::Again(reason)) => (reason, options.sources.attempts),
        };
        failures += 1;
        if failures >= limit {
            return Err(Failure::Source(format!("{url}: {reason} ({failures} tries)")));
        }
        pause(failures, (0, 0), options)?;
    }
}

/// One request for the headers; `None` where they do not tell the size.
fn head(agent: &Agent, url: &str) -> Result<Option<Described>, Break> {
    let request = agent.head(url).header(header::ACCEPT_ENCODING, "identity");
    let response = request.call().map_err(|error| connection_break(&error))?;
    let status = response.status();
    if !status.is_success() && !status.is_redirection() {
        return Err(refused(status));
    }
    let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let linked = text("x-linked-size").and_then(|size| size.parse().ok());
    // A redirection has a body of its own, whose length is not the file's.
    let own = || text("content-length").filter(|_| status.is_success()).and_then(|size| size.parse().ok());
    let tag = text("x-linked-etag").or_else(|| text("etag")).unwrap_or_default();
    let tag = tag.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
    let is_sha256 = tag.len() == 64 && tag.chars().all(|c| c.is_ascii_hexdigit());
    Ok(linked.or_else(own).map(|bytes| Described { bytes, sha256: is_sha256.then_some(tag) }))
}

/// Waits before the next try, longer after every failure; `(done, total)` is for the report.
fn pause(failures: u32, (done, total): (u64, u64), options: &mut PullOptions<'_>) -> Result<(), Failure> {
    let mut pause = options.sources.backoff.saturating_mul(1 << (failures - 1).min(6));
    loop {
        (options.progress)(Progress { step: Step::Retrying, done, total }).map_err(Failure::Fatal)?;
        // In short steps: a pull that is cancelled ends at once.
        let step = pause.min(Duration::from_millis(200));
        thread::sleep(step);
        pause -= step;
        if pause.is_zero() {
            return Ok(());
        }
    }
}

fn agent(sources: &Sources) -> Agent {
    agent_with(sources, 10)
}

fn agent_with(sources: &Sources, redirects: u32) -> Agent {
    Agent::config_builder()
        .max_redirects(redirects)
        .max_redirects_will_error(redirects > 0)
        .http_status_as_error(false)
        .timeout_resolve(Some(sources.connect_timeout))
        .timeout_connect(Some(sources.connect_timeout))
        .timeout_recv_response(Some(sources.stall_timeout))
        // Each read, not the whole body: how long a download takes is the line's business.
        .timeout_per_read(Some(sources.stall_timeout))
        .user_agent(concat!("secateur/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// One request, from the end of `part` on.
fn attempt(
    agent: &Agent,
    url: &str,
    total: u64,
    part: &mut Part,
    progress: &mut dyn FnMut(Progress) -> crate::Result<()>,
) -> Result<(), Break> {
    if part.len() == total {
        return Ok(());
    }
    // A compressed body would have other offsets than the file.
    let mut request = agent.get(url).header(header::ACCEPT_ENCODING, "identity");
    if part.len() > 0 {
        request = request.header(header::RANGE, format!("bytes={}-", part.len()));
    }
    let response = request.call().map_err(|error| connection_break(&error))?;
    place(&response, total, part)?;
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; CHUNK];
    let mut reported = 0;
    loop {
        if reported == 0 || part.len() >= reported + REPORT || part.len() == total {
            reported = part.len().max(1);
            progress(Progress { step: Step::Hub, done: part.len(), total })?;
        }
        let count = body.read(&mut buffer).map_err(|error| {
            Break::Again(format!("the connection broke after {} of {total} bytes: {error}", part.len()))
        })?;
        let bytes = buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            return match part.len() == total {
                true => Ok(()),
                false => Err(Break::Again(format!("the connection ended after {} of {total} bytes", part.len()))),
            };
        }
        if part.len() + bytes.len() as u64 > total {
            part.restart()?;
            return Err(Break::Never(format!("the server sends more than the {total} bytes that the file has")));
        }
        part.append(bytes)?;
    }
}

fn connection_break(error: &ureq::Error) -> Break {
    let reason = error.to_string();
    match error {
        ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Timeout(_)
        // The resolver's failures come as this too, without a kind of their own.
        | ureq::Error::Io(_) => Break::Unreachable(reason),
        ureq::Error::Protocol(_) => Break::Again(reason),
        // A bad address, a certificate that is not trusted, redirects without end.
        _ => Break::Never(reason),
    }
}

/// Makes the end of `part` the place where the response's body belongs.
fn place(response: &Response<Body>, total: u64, part: &mut Part) -> Result<(), Break> {
    let again = |reason: String| Err(Break::Again(reason));
    match response.status() {
        StatusCode::OK => {
            let size = response.headers().get(header::CONTENT_LENGTH).and_then(|size| size.to_str().ok()?.parse().ok());
            if size.is_some_and(|size: u64| size != total) {
                return Err(Break::Never(format!(
                    "the server's file has {} bytes, but {total} are expected",
                    size.unwrap_or(0)
                )));
            }
            // The whole file, although a range was asked for: some servers do not know ranges.
            if part.len() > 0 {
                part.restart()?;
            }
            Ok(())
        }
        StatusCode::PARTIAL_CONTENT => match content_range(response.headers()) {
            Some((start, size)) if start == part.len() && size.is_none_or(|size| size == total) => Ok(()),
            Some((_, Some(size))) if size != total => {
                Err(Break::Never(format!("the server's file has {size} bytes, but {total} are expected")))
            }
            found => {
                let wanted = part.len();
                part.restart()?;
                again(format!("asked for bytes from {wanted} on, the server answered {found:?}"))
            }
        },
        StatusCode::RANGE_NOT_SATISFIABLE => {
            part.restart()?;
            again("the server does not have the range that is missing (HTTP 416)".into())
        }
        status => Err(refused(status)),
    }
}

/// What to make of a status that brings no content.
fn refused(status: StatusCode) -> Break {
    let passing = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    match status.is_server_error() || passing {
        true => Break::Again(format!("HTTP {status}")),
        false => Break::Never(format!("HTTP {status}")),
    }
}

/// First byte and size of the whole, of `Content-Range: bytes 5-9/10`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, size) = text.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, size.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        let parse = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, text.parse().unwrap());
            content_range(&headers)
        };
        assert_eq!(parse("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse("bytes 5-9/*"), Some((5, None)));
        for bad in ["bytes */10", "items 5-9/10", "bytes -9/10", "bytes 5", ""] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
