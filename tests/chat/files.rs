//! Which files are opened, and what is said of the others.

use super::{ids, kept};
use rusqlite::Connection;
use secateur::chat::Store;
use std::fs;
use std::path::Path;

fn refusal(path: &Path) -> String {
    let error = Store::open(path).err().expect("a refusal");
    assert!(error.is_user_fault(), "{error}");
    let words = error.to_string();
    assert!(words.contains(&path.file_name().unwrap().to_string_lossy().into_owned()), "{words}");
    words
}

#[test]
fn a_second_program_is_refused_until_the_first_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chats.db");
    let first = Store::open(&path).unwrap();
    assert!(refusal(&path).contains("is open in another Secateur window: use that one, or close it"));
    kept(&first, "still works", &["text"]);
    drop(first);
    assert_eq!(ids(&Store::open(&path).unwrap()).len(), 1);
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chats.db");
    drop(Store::open(&path).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = fs::read(&path).unwrap();
    let words = refusal(&path);
    assert!(
        words.contains("newer Secateur (its version is 99, this one reads up to 1): update Secateur, or move"),
        "{words}"
    );
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn files_of_others_are_refused_and_left_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("diary.txt");
    fs::write(&text, "Dear diary, ".repeat(500)).unwrap();
    let database = folder.path().join("bookmarks.db");
    Connection::open(&database).unwrap().execute_batch("CREATE TABLE place (url TEXT)").unwrap();
    let marked = folder.path().join("marked.db");
    Connection::open(&marked).unwrap().pragma_update(None, "application_id", 7).unwrap();
    for (path, expected) in [
        (&text, "this is not Secateur's file of conversations, or it is damaged: move it away"),
        (&database, "is a database of another program"),
        (&marked, "is a database of another program"),
    ] {
        let before = fs::read(path).unwrap();
        let words = refusal(path);
        assert!(words.contains(expected), "{words}");
        assert_eq!(fs::read(path).unwrap(), before);
    }
}

#[test]
fn places_that_cannot_be_written_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let words = Store::open(&file.join("sub/chats.db")).err().expect("a refusal").to_string();
    assert!(words.contains("cannot be written (") && words.contains("make it and its folder writable"), "{words}");
    let taken = folder.path().join("chats.db");
    fs::create_dir(&taken).unwrap();
    assert!(refusal(&taken).contains("is a folder, but the file of conversations belongs there"));
    if cfg!(target_os = "linux") {
        let words = refusal(Path::new("/proc/chats.db"));
        assert!(words.contains("cannot be written"), "{words}");
    }
}

#[test]
fn a_read_only_file_is_told_when_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chats.db");
    drop(Store::open(&path).unwrap());
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).unwrap();
    // The administrator may write to everything; then there is nothing to tell.
    match fs::OpenOptions::new().append(true).open(&path) {
        Ok(_) => drop(Store::open(&path).unwrap()),
        Err(_) => assert!(refusal(&path).contains("cannot be written")),
    }
}

#[test]
fn a_damaged_file_is_an_error_in_words_wherever_it_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chats.db");
    let store = Store::open(&path).unwrap();
    let texts: Vec<String> = (0..40).map(|number| format!("word{number} ").repeat(200)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let whole = kept(&store, "title", &texts);
    drop(store);
    let sound = fs::read(&path).unwrap();
    let mut told = 0;
    for at in (0..sound.len()).step_by(4096) {
        let mut damaged = sound.clone();
        let end = (at + 4096).min(damaged.len());
        damaged[at..end].fill(0xa5);
        fs::write(&path, &damaged).unwrap();
        let used = Store::open(&path).and_then(|store| {
            store.headers()?;
            store.search("word7")?;
            store.load(whole.id).map(|found| assert_eq!(found, whole, "a damaged page is not read as words"))
        });
        if let Err(error) = used {
            let words = error.to_string();
            assert!(words.contains("damaged") || words.contains("is not in"), "{words}");
            told += 1;
        }
    }
    assert!(told > 10, "{told} damages of {} pages were told", sound.len() / 4096);
    for cut in [1, 100, 4095, 4096, sound.len() / 2] {
        fs::write(&path, &sound[..cut]).unwrap();
        assert!(refusal(&path).contains("damaged"), "{cut} bytes");
        assert_eq!(fs::read(&path).unwrap(), &sound[..cut]);
    }
}

#[test]
fn an_empty_file_is_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chats.db");
    fs::write(&path, "").unwrap();
    assert_eq!(ids(&Store::open(&path).unwrap()), [0; 0]);
}

#[test]
fn conversations_deleted_long_ago_are_gone_with_all_that_is_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chats.db");
    let store = Store::open(&path).unwrap();
    // Longer than SQLite would follow a chain of parents.
    let long: Vec<String> = (0..1500).map(|number| format!("ancient {number}")).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    let [ancient, recent] = [kept(&store, "ancient", &long), kept(&store, "recent", &["text"])];
    for (place, conversation) in [&ancient, &recent].into_iter().enumerate() {
        store.save_heat(conversation.id, 1, &super::heat(place)).unwrap();
        store.set_deleted(conversation.id, true).unwrap();
    }
    drop(store);
    let db = Connection::open(&path).unwrap();
    let days = 24 * 60 * 60 * 1000i64;
    let back = "UPDATE conversation SET deleted = deleted - ?2 WHERE id = ?1";
    assert_eq!(db.execute(back, [ancient.id, 31 * days]).unwrap(), 1);
    assert_eq!(db.execute(back, [recent.id, 29 * days]).unwrap(), 1);
    drop(db);

    let store = Store::open(&path).unwrap();
    assert!(store.load(ancient.id).is_err());
    assert_eq!(store.load(recent.id).unwrap(), recent);
    let new = store.create("new", &Default::default()).unwrap();
    assert!(new.id > recent.id);
    drop(store);
    let db = Connection::open(&path).unwrap();
    let count = |table: &str| db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0));
    assert_eq!(["node", "heat", "words"].map(|table| count(table).unwrap()), [1, 1, 3]);
}
