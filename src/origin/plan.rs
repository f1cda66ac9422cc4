//! What a download does next, decided from plain values: which parts are there, what an answer of a server is good for,
//! how long to wait. Nothing of the browser is named here, so the tests run on any machine.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::time::Duration;

/// Bytes of a part of a model, but for its last one. What a reload in the middle costs at most.
pub const PART: u64 = 8 << 20;
/// Longest name of a file.
const MAX_NAME: usize = 200;

/// The folders and the name of a path like `models/a.gguf`.
///
/// # Errors
/// [`Error::Internal`] where a piece is empty, `.` or `..`.
pub fn pieces(path: &str) -> Result<Vec<&str>> {
    let pieces: Vec<&str> = path.split('/').collect();
    match pieces.iter().any(|piece| ["", ".", ".."].contains(piece)) {
        true => Err(Error::Internal(format!("`{path}` is no path of a file that the page keeps"))),
        false => Ok(pieces),
    }
}

/// Refuses the name of a model that is no plain file name.
///
/// # Errors
/// [`Error::Setting`].
pub fn check_name(name: &str) -> Result<()> {
    let plain = !name.is_empty() && name.len() <= MAX_NAME && !name.starts_with('.');
    match plain && !name.contains(|c: char| "/\\:".contains(c) || c.is_control()) {
        true => Ok(()),
        false => Err(Error::Setting(format!(
            "`{name}` is no file name that the page can keep: rename the file (at most {MAX_NAME} bytes, no `/`, `\\` or \
             `:`, no dot in front)"
        ))),
    }
}

/// The folder of a model's parts.
pub fn folder(name: &str) -> String {
    format!("models/{name}.parts")
}

/// Number of parts of a file of `total` bytes.
pub fn parts(total: u64) -> u64 {
    total.div_ceil(PART)
}

/// The file name of a part.
pub fn part_name(index: u64) -> String {
    format!("{index:04}")
}

/// Whether [`part_name`] gives that name.
pub fn is_part(name: &str) -> bool {
    name.len() >= 4 && name.parse().is_ok_and(|index| part_name(index) == name)
}

/// Bytes of part `index` of a file of `total` bytes; 0 behind the last.
pub fn part_bytes(index: u64, total: u64) -> u64 {
    total.saturating_sub(index.saturating_mul(PART)).min(PART)
}

/// How many parts, from the first on, are there and whole; `found` is the listed folder.
pub fn whole_parts(found: &[(String, u64)], total: u64) -> u64 {
    let sizes: BTreeMap<&str, u64> = found.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    let whole = |index: &u64| sizes.get(part_name(*index).as_str()) == Some(&part_bytes(*index, total));
    (0..parts(total)).take_while(whole).count() as u64
}

/// What is kept beside the parts: which content they belong to, and where it came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note {
    /// Bytes of the whole file.
    pub bytes: u64,
    /// SHA-256 of the whole file in lower-case hexadecimal; empty = nobody asked for one.
    pub sha256: String,
    /// Where the first part came from; empty = from a file that the user picked.
    pub url: String,
    /// The server's tag of the content; empty = none, or hidden from the page.
    pub etag: String,
}

impl Note {
    /// As it lies in a file: a line each.
    pub fn text(&self) -> String {
        let line = |text: &str| text.replace(['\r', '\n'], " ");
        format!("{}\n{}\n{}\n{}\n", self.bytes, line(&self.sha256), line(&self.url), line(&self.etag))
    }

    /// Reads [`Note::text`]; `None` where it is something else.
    pub fn parse(text: &str) -> Option<Note> {
        let mut lines = text.lines();
        let bytes = lines.next()?.parse().ok()?;
        let mut line = || lines.next().map(str::to_owned);
        Some(Note { bytes, sha256: line()?, url: line()?, etag: line()? })
    }

    /// Whether parts under this note can be part of that content.
    pub fn fits(&self, bytes: u64, sha256: &str) -> bool {
        self.bytes == bytes && self.sha256 == sha256
    }
}

/// What a server answers, as far as the page may see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Range`.
    pub range: Option<String>,
    /// `Content-Length`.
    pub length: Option<u64>,
    /// `Content-Type`.
    pub kind: Option<String>,
    /// `ETag`.
    pub etag: Option<String>,
    /// Whether a `Content-Encoding` is named: the length is then of other bytes than the file's.
    pub encoded: bool,
}

/// What to do with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Its body is the file from the wanted byte on, after this many bytes to leave out.
    Take {
        /// Bytes to leave out.
        skip: u64,
    },
    /// What is there belongs to another content: begin at zero.
    Anew(String),
    /// Worth another try.
    Again(String),
    /// No try will do better.
    Never(String),
}

/// Judges an answer to a request for all bytes from `at` on of a file of `total` bytes; `noted` is the tag under which the
/// bytes before came from the same address.
pub fn judge(answer: &Answer, at: u64, total: u64, noted: Option<&str>) -> Verdict {
    let status = answer.status;
    let wrong_size =
        |size: u64| Verdict::Never(format!("the server's file has {size} bytes, but {total} are expected"));
    match status {
        200 if answer.kind.as_deref().is_some_and(|kind| kind.trim_start().starts_with("text/html")) => {
            return Verdict::Never("the server sends a web page instead of the file".to_owned());
        }
        200 => {
            if let Some(size) = answer.length.filter(|size| *size != total && !answer.encoded) {
                return wrong_size(size);
            }
        }
        206 => {
            if let Some((start, size)) = answer.range.as_deref().and_then(content_range) {
                match size {
                    Some(size) if size != total => return wrong_size(size),
                    _ if start != at => {
                        return Verdict::Again(format!(
                            "asked for bytes from {at} on, the server sends them from {start}"
                        ));
                    }
                    _ => {}
                }
            }
        }
        416 => return Verdict::Anew("the server does not have the range that is missing (HTTP 416)".to_owned()),
        408 | 425 | 429 | 500.. => return Verdict::Again(format!("HTTP {status}")),
        _ => return Verdict::Never(format!("HTTP {status}")),
    }
    match (noted, answer.etag.as_deref()) {
        (Some(noted), Some(found)) if at > 0 && noted != found => {
            Verdict::Anew("the server's file has changed since the download began".to_owned())
        }
        // The whole file, although a range was asked for: some servers do not know ranges.
        _ => Verdict::Take { skip: if status == 200 { at } else { 0 } },
    }
}

/// First byte and size of the whole, of `bytes 5-9/10`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, size.trim().parse().ok()))
}

/// Pause before the next try, after that many failures in a row.
pub fn retry_pause(failures: u32) -> Duration {
    Duration::from_millis(500 << failures.saturating_sub(1).min(5))
}

/// The host of an address; `None` where it is relative to the page.
pub fn host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    Some(authority.rsplit('@').next().unwrap_or_default())
}

/// Bytes for people.
pub fn megabytes(bytes: u64) -> String {
    match bytes {
        0..100_000 => format!("{bytes} bytes"),
        100_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// Says that `needed` bytes for `what` do not fit, where `space` is what is in use and what the browser allows, and `said` is
/// what it said in refusing them.
pub fn no_room(what: &str, needed: u64, space: Option<(u64, u64)>, said: &str) -> Error {
    let allows = match space {
        // Browsers round what they tell, some to what every disk has: then the disk or a hidden limit is the reason.
        Some((usage, quota)) if quota.saturating_sub(usage) < needed => format!(
            "the browser leaves this page {} ({} of {} are in use)",
            megabytes(quota.saturating_sub(usage)),
            megabytes(usage),
            megabytes(quota)
        ),
        _ => format!("the browser, or the disk, gives this page no more ({said})"),
    };
    Error::Setting(format!(
        "no room for {what}: {} are needed and {allows}; delete models in the Models panel, free some space on the disk, or \
         keep the model in memory alone",
        megabytes(needed)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(sizes: &[u64]) -> Vec<(String, u64)> {
        sizes.iter().enumerate().map(|(index, bytes)| (part_name(index as u64), *bytes)).collect()
    }

    #[test]
    fn parts_cover_the_file() {
        for total in [0, 1, PART - 1, PART, PART + 1, 5 * PART, 98_362_432] {
            let sizes: Vec<u64> = (0..parts(total)).map(|index| part_bytes(index, total)).collect();
            assert_eq!(sizes.iter().sum::<u64>(), total);
            assert!(sizes.iter().all(|&bytes| bytes > 0 && bytes <= PART), "{total}");
            assert_eq!(part_bytes(parts(total), total), 0);
            assert_eq!(whole_parts(&listed(&sizes), total), parts(total));
        }
        assert_eq!(part_bytes(u64::MAX, 10), 0);
        assert_eq!((part_name(7), part_name(12_345)), ("0007".to_owned(), "12345".to_owned()));
        assert!(is_part("0007") && is_part("12345"));
        for bad in ["", "7", "00007", "+007", "-001", "whole", "source"] {
            assert!(!is_part(bad), "{bad}");
        }
    }

    #[test]
    fn a_download_goes_on_behind_the_last_whole_part_of_an_unbroken_run() {
        let total = 3 * PART + 5;
        assert_eq!(whole_parts(&[], total), 0);
        assert_eq!(whole_parts(&listed(&[PART, PART]), total), 2);
        assert_eq!(whole_parts(&listed(&[PART, PART - 1, PART]), total), 1);
        assert_eq!(whole_parts(&listed(&[PART, PART, PART, 4]), total), 3);
        assert_eq!(whole_parts(&listed(&[PART, PART, PART, 5]), total), 4);
        // A hole, in any order, with other files between.
        let mut found = listed(&[PART; 3]);
        found.remove(1);
        found.reverse();
        found.push(("note".to_owned(), 9));
        assert_eq!(whole_parts(&found, total), 1);
    }

    #[test]
    fn notes_read_back() {
        let note = Note { bytes: 7, sha256: "ab".into(), url: "https://a/b".into(), etag: "\"x y\"".into() };
        assert_eq!(Note::parse(&note.text()), Some(note.clone()));
        let picked = Note { bytes: 7, ..Note::default() };
        assert_eq!(Note::parse(&picked.text()), Some(picked));
        let hostile = Note { url: "a\nb".into(), ..note.clone() };
        assert_eq!(Note::parse(&hostile.text()).unwrap().url, "a b");
        for bad in ["", "x\n\n\n\n", "7\n", "7\nab\n", "-1\na\nb\nc\n"] {
            assert_eq!(Note::parse(bad), None, "{bad:?}");
        }
        assert!(note.fits(7, "ab") && !note.fits(8, "ab") && !note.fits(7, "cd"));
    }

    #[test]
    fn paths_and_names() {
        assert_eq!(pieces("models/a.gguf").unwrap(), ["models", "a.gguf"]);
        for bad in ["", "/a", "a/", "a//b", "../a", "a/./b"] {
            assert!(pieces(bad).is_err(), "{bad}");
        }
        for good in ["SmolLM2-135M-Instruct.Q4_1.gguf", "mein Modell (1).gguf", "模型.gguf"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "a\\b", "c:a", "a\nb", &"x".repeat(201)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert_eq!(folder("a.gguf"), "models/a.gguf.parts");
    }

    fn partial(range: &str) -> Answer {
        Answer { status: 206, range: Some(range.to_owned()), ..Answer::default() }
    }

    #[test]
    fn a_server_with_ranges() {
        assert_eq!(judge(&partial("bytes 5-9/10"), 5, 10, None), Verdict::Take { skip: 0 });
        assert_eq!(judge(&partial("bytes 5-9/*"), 5, 10, None), Verdict::Take { skip: 0 });
        // Another origin may hide the header.
        let hidden = Answer { status: 206, ..Answer::default() };
        assert_eq!(judge(&hidden, 5, 10, None), Verdict::Take { skip: 0 });
        assert!(matches!(judge(&partial("bytes 0-9/10"), 5, 10, None), Verdict::Again(_)));
        let Verdict::Never(text) = judge(&partial("bytes 5-10/11"), 5, 10, None) else {
            panic!("another size is taken")
        };
        assert!(text.contains("11 bytes, but 10"), "{text}");
    }

    #[test]
    fn a_server_without_ranges() {
        let whole = Answer { status: 200, length: Some(10), ..Answer::default() };
        assert_eq!(judge(&whole, 0, 10, None), Verdict::Take { skip: 0 });
        assert_eq!(judge(&whole, 5, 10, None), Verdict::Take { skip: 5 });
        assert!(matches!(judge(&whole, 0, 11, None), Verdict::Never(_)));
        // The length of a compressed body says nothing.
        let packed = Answer { encoded: true, ..whole.clone() };
        assert_eq!(judge(&packed, 0, 11, None), Verdict::Take { skip: 0 });
        let page = Answer { kind: Some("text/html; charset=utf-8".into()), ..whole };
        assert!(matches!(judge(&page, 0, 10, None), Verdict::Never(_)));
    }

    #[test]
    fn a_changed_file_begins_anew() {
        let tagged = Answer { etag: Some("\"b\"".into()), ..partial("bytes 5-9/10") };
        assert!(matches!(judge(&tagged, 5, 10, Some("\"a\"")), Verdict::Anew(_)));
        assert_eq!(judge(&tagged, 5, 10, Some("\"b\"")), Verdict::Take { skip: 0 });
        assert_eq!(judge(&tagged, 5, 10, None), Verdict::Take { skip: 0 });
        // Nothing is there that could be of another content.
        let start = Answer { etag: tagged.etag.clone(), ..partial("bytes 0-9/10") };
        assert_eq!(judge(&start, 0, 10, Some("\"a\"")), Verdict::Take { skip: 0 });
        let none = Answer { status: 416, ..Answer::default() };
        assert!(matches!(judge(&none, 5, 10, None), Verdict::Anew(_)));
    }

    #[test]
    fn refusals_that_pass_and_that_stay() {
        let status = |status| judge(&Answer { status, ..Answer::default() }, 0, 10, None);
        for passing in [408, 429, 500, 502, 503, 504] {
            assert_eq!(status(passing), Verdict::Again(format!("HTTP {passing}")));
        }
        for staying in [0, 204, 301, 401, 403, 404, 410, 451] {
            assert_eq!(status(staying), Verdict::Never(format!("HTTP {staying}")));
        }
    }

    #[test]
    fn content_ranges() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for bad in ["bytes */10", "items 5-9/10", "bytes -9/10", "bytes 5", ""] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn pauses_grow_and_end() {
        let pauses: Vec<u128> = (1..9).map(|failures| retry_pause(failures).as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 16_000, 16_000]);
        assert_eq!(retry_pause(0), retry_pause(1));
    }

    #[test]
    fn hosts_and_sizes() {
        assert_eq!(host("https://huggingface.co/a/resolve/b"), Some("huggingface.co"));
        assert_eq!(host("http://user:word@[::1]:80?x"), Some("[::1]:80"));
        assert_eq!(host("models/a.gguf"), None);
        assert_eq!(megabytes(12), "12 bytes");
        assert_eq!(megabytes(98_362_432), "98.4 MB");
        assert_eq!(megabytes(4_681_089_344), "4.68 GB");
        let text = no_room("a.gguf", 2_000_000, Some((1_000_000, 1_500_000)), "").to_string();
        assert!(text.contains("2.0 MB are needed") && text.contains("leaves this page 0.5 MB"), "{text}");
        let over = no_room("a.gguf", 2_000_000, Some((3_000_000, 1_500_000)), "").to_string();
        assert!(over.contains("leaves this page 0 bytes"), "{over}");
        for vague in [None, Some((1_000_000, 9_000_000))] {
            let text = no_room("a.gguf", 2_000_000, vague, "AbortError").to_string();
            assert!(
                text.contains("or the disk, gives this page no more (AbortError)") && !text.contains("9.0"),
                "{text}"
            );
        }
    }
}
