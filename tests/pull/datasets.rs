//! Data sets: nothing is known of a file before the hub is asked.

use super::server::{Reply, Request, Server};
use super::{SIZE, content, hash, sources};
use secateur::Error;
use secateur::model::catalogue::Hub;
use secateur::model::datasets::DataSet;
use secateur::model::pull::{PullOptions, Sources, pull_data};
use std::fs;
use std::path::{Path, PathBuf};

const URL_PATH: &str = "/datasets/owner/set/resolve/0123abcd/data/test.parquet";

fn set() -> DataSet {
    DataSet {
        name: "set".into(),
        title: "A set".into(),
        split: "test".into(),
        fields: vec!["text".into()],
        file: "set.parquet".into(),
        licence: "MIT".into(),
        hub: Hub { repo: "datasets/owner/set".into(), revision: "0123abcd".into(), file: "data/test.parquet".into() },
    }
}

fn pull_into(dir: &Path, sources: Sources) -> Result<PathBuf, Error> {
    pull_data(&set(), &mut PullOptions { dir: dir.to_path_buf(), progress: &mut |_| Ok(()), sources })
}

/// A hub that keeps large files in another store, and names size and hash where it sends the client on.
fn hub(body: Vec<u8>, named: String) -> Server {
    Server::start(move |_, request| match request.path.as_str() {
        URL_PATH => Reply::status(302)
            .header("Location", "/store/object")
            .header("X-Linked-Size", &SIZE.to_string())
            .header("X-Linked-ETag", &format!("\"{named}\"")),
        "/store/object" => Reply::file(&body, request).header("ETag", "\"of-the-store\""),
        _ => Reply::status(404),
    })
}

#[track_caller]
fn assert_failed(dir: &Path, result: Result<PathBuf, Error>, words: &[&str]) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Download(_)), "{error:?}");
    assert!(words.iter().all(|word| error.to_string().contains(word)), "`{error}` lacks one of {words:?}");
    assert!(!dir.join("set.parquet").exists());
}

#[test]
fn size_and_hash_come_from_the_hub_and_the_file_from_its_store() {
    let (dir, server) = (tempfile::tempdir().unwrap(), hub(content(), hash(&content())));
    let path = pull_into(dir.path(), sources(&server.url())).unwrap();
    assert_eq!(path, dir.path().join("set.parquet"));
    assert!(fs::read(&path).unwrap() == content());
    let paths: Vec<String> = server.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, [URL_PATH, URL_PATH, "/store/object"], "asked, then fetched");
    // Again: one question, and nothing fetched. A damaged file is fetched anew.
    pull_into(dir.path(), sources(&server.url())).unwrap();
    assert_eq!(server.requests().len(), 4);
    fs::write(&path, vec![0; SIZE]).unwrap();
    pull_into(dir.path(), sources(&server.url())).unwrap();
    assert!(fs::read(&path).unwrap() == content());
}

#[test]
fn a_part_is_resumed_and_other_content_is_not_kept() {
    let (dir, server) = (tempfile::tempdir().unwrap(), hub(content(), hash(&content())));
    let part = dir.path().join("set.parquet.part");
    fs::write(&part, &content()[..1000]).unwrap();
    pull_into(dir.path(), sources(&server.url())).unwrap();
    assert_eq!(server.requests().last(), Some(&Request { path: "/store/object".into(), from: Some(1000) }));
    let (dir, server) = (tempfile::tempdir().unwrap(), hub(vec![7; SIZE], hash(&content())));
    let result = pull_into(dir.path(), sources(&server.url()));
    assert_failed(dir.path(), result, &["data set `set`", "SHA-256", &hash(&content()), "set.parquet"]);
}

#[test]
fn small_files_have_a_size_alone() {
    let small = b"{\"text\": \"one\"}\n".to_vec();
    let answer = small.clone();
    // Not a SHA-256: the hub's own hash of a small file.
    let server = Server::start(move |_, request| Reply::file(&answer, request).header("ETag", "\"9eb98c8f04\""));
    let dir = tempfile::tempdir().unwrap();
    // A beginning of unknown origin must not become part of it.
    fs::write(dir.path().join("set.parquet.part"), b"{\"other\"").unwrap();
    let path = pull_into(dir.path(), sources(&server.url())).unwrap();
    assert_eq!(fs::read(path).unwrap(), small);
    assert!(server.requests().iter().all(|request| request.from.is_none()));
}

#[test]
fn a_hub_that_fails_is_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Server::start(|_, _| Reply::status(404));
    let by_hand = format!("save {}{URL_PATH}", missing.url());
    assert_failed(dir.path(), pull_into(dir.path(), sources(&missing.url())), &["404", &by_hand]);
    assert_eq!(missing.requests().len(), 1, "what is not there is not asked for again");
    let silent = Server::start(|_, _| Reply { length: false, ..Reply::status(200) });
    assert_failed(dir.path(), pull_into(dir.path(), sources(&silent.url())), &["does not say how large"]);
    let busy = Server::start(|count, request| match count {
        0 => Reply::status(503),
        _ => Reply::file(b"later", request),
    });
    assert_eq!(fs::read(pull_into(dir.path(), sources(&busy.url())).unwrap()).unwrap(), b"later");
    let gone = Server::start(|_, _| Reply::status(200));
    let address = gone.url();
    drop(gone);
    let other = tempfile::tempdir().unwrap();
    assert_failed(other.path(), pull_into(other.path(), sources(&address)), &["data set `set`", "tries"]);
    let left_out = Sources { endpoint: None, ..sources(&address) };
    assert_failed(other.path(), pull_into(other.path(), left_out), &["the hub: left out"]);
}

#[test]
fn a_cancelled_pull_leaves_its_part_and_no_file() {
    let (dir, server) = (tempfile::tempdir().unwrap(), hub(content(), hash(&content())));
    let mut options = PullOptions {
        dir: dir.path().to_path_buf(),
        progress: &mut |at| if at.done > 0 { Err(Error::Cancelled) } else { Ok(()) },
        sources: sources(&server.url()),
    };
    assert!(matches!(pull_data(&set(), &mut options), Err(Error::Cancelled)));
    assert!(!dir.path().join("set.parquet").exists() && dir.path().join("set.parquet.part").exists());
    fs::create_dir(dir.path().join("set.parquet")).unwrap();
    assert!(matches!(pull_into(dir.path(), sources(&server.url())), Err(Error::Setting(_))));
}
