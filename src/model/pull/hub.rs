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
        let mut pause = options.sources.backoff.saturating_mul(1 << (failures - 1).min(6));
        loop {
            (options.progress)(Progress { step: Step::Retrying, done: part.len(), total }).map_err(Failure::Fatal)?;
            // In short steps: a pull that is cancelled ends at once.
            let step = pause.min(Duration::from_millis(200));
            thread::sleep(step);
            pause -= step;
            if pause.is_zero() {
                break;
            }
        }
    }
}

fn agent(sources: &Sources) -> Agent {
    Agent::config_builder()
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
        status if status.is_server_error() => again(format!("HTTP {status}")),
        status @ (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) => again(format!("HTTP {status}")),
        status => Err(Break::Never(format!("HTTP {status}"))),
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
