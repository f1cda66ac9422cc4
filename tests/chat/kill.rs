//! A process that is killed while it writes.

use super::{heat, kept};
use secateur::chat::{ChatSettings, Role, Store};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const CHILD: &str = "SECATEUR_TEST_CHAT_CHILD";

/// What the child says once a message is kept.
const KEPT: &str = "kept ";

/// Runs this test binary again, as a program that writes to the file until it is killed.
fn child(path: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "kill::a_kill_at_any_moment_loses_nothing_that_was_kept", "--nocapture"]);
    command.env(CHILD, path).stdout(Stdio::piped()).spawn().unwrap()
}

/// The child: answers that grow, each with a probe, each step told on standard output when it is kept.
fn write_for_ever(path: PathBuf) {
    let store = Store::open(&path).unwrap();
    let mut conversation = store.create("title", &ChatSettings::default()).unwrap();
    let mut out = std::io::stdout();
    loop {
        let id = conversation.add(conversation.leaf(), Role::Assistant, String::new());
        for step in 1..=5 {
            conversation.node_mut(id).unwrap().text += "a few words more, ";
            store.save_node(conversation.id, conversation.node(id).unwrap()).unwrap();
            writeln!(out, "{KEPT}{} {id} {step}", conversation.id).unwrap();
        }
        store.save_heat(conversation.id, id, &heat(0)).unwrap();
        store.save(&conversation).unwrap();
    }
}

#[test]
fn a_kill_at_any_moment_loses_nothing_that_was_kept() {
    if let Some(path) = std::env::var_os(CHILD) {
        return write_for_ever(path.into());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chats.db");
    let before = kept(&Store::open(&path).unwrap(), "before", &["question", "answer"]);
    for round in 0..12u32 {
        let mut child = child(&path);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        // Rounds die after 1, 8, 15.. messages, each at another moment of a write.
        let mut told: Vec<String> =
            lines.by_ref().filter(|l| l.starts_with(KEPT)).take(1 + 7 * round as usize).collect();
        assert!(Store::open(&path).is_err(), "the child has the file");
        std::thread::sleep(Duration::from_micros(u64::from(round * 2654435761 % 3000)));
        child.kill().unwrap();
        child.wait().unwrap();
        // A line that the kill cut short was not told.
        told.extend(lines.filter(|line| line.starts_with(KEPT) && line.split(' ').count() == 4));
        let last = told.last().unwrap();
        let numbers: Vec<u64> = last[KEPT.len()..].split(' ').map(|number| number.parse().unwrap()).collect();
        let [conversation, id, step] = numbers[..] else { panic!("the child said {last}") };

        let store = Store::open(&path).unwrap();
        let found = store.load(conversation as i64).unwrap();
        let ids: Vec<u64> = found.nodes().map(|node| node.id).collect();
        assert!(ids.len() as u64 >= id && ids.iter().copied().eq(1..=ids.len() as u64), "{ids:?} after {last}");
        let words = |id: u64| found.node(id).unwrap().text.matches("more").count() as u64;
        assert!((1..id).all(|id| words(id) == 5) && words(id) >= step, "after {last}");
        assert_eq!(found.path().len(), ids.len(), "all of it is shown");
        assert!((1..id).all(|id| store.heats(found.id, id).unwrap().len() == 1));
        assert_eq!(store.search("words").unwrap().len() as u32, round + 1);
        assert_eq!(store.load(before.id).unwrap(), before);
        drop(store);

        let db = rusqlite::Connection::open(&path).unwrap();
        let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
        db.execute_batch("INSERT INTO words (words) VALUES ('integrity-check')").unwrap();
        let count =
            |table| db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(count("words"), count("node") + count("conversation"), "every text is indexed once");
    }
}
