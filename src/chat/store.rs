//! Everything that is kept, in one SQLite file.
//!
//! Invariants: a call is one transaction, and what it kept when it returned outlives a kill of the process; one program at a
//! time has the file; nothing is erased that the user could want back within 30 days.

#[cfg(not(target_arch = "wasm32"))]
mod checkpoint;
mod image;
mod nodes;
mod open;
mod schema;
mod search;

use super::{ChatSettings, Conversation, NodeId, Preset, now};
use crate::error::{Error, Result};
#[cfg(not(target_arch = "wasm32"))]
use checkpoint::Checkpoints;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// A conversation in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its number.
    pub id: i64,
    /// Its title.
    pub title: String,
    /// When a message of it last changed, milliseconds since 1970.
    pub updated: i64,
}

/// A conversation that a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub id: i64,
    /// The message that matches; `None` = its title does.
    pub node: Option<NodeId>,
    /// The words around the match, on one line.
    pub snippet: String,
    /// Byte ranges of `snippet` that match.
    pub marks: Vec<std::ops::Range<usize>>,
}

/// The file of conversations.
///
/// # Errors
/// Every method fails alike: [`Error::Setting`] or [`Error::BadFile`] where the user can mend it (the disk is full, the file
/// is damaged, a conversation is not there), [`Error::Internal`] otherwise. What a failed call should have kept is not kept
/// at all; what was kept before stays.
pub struct Store {
    /// Before `db`, to be dropped first: the connection that closes last moves the whole log into the file.
    #[cfg(not(target_arch = "wasm32"))]
    checkpoints: Option<Checkpoints>,
    db: Connection,
    /// `None` = in memory.
    path: Option<PathBuf>,
    /// Behind `db`, to be dropped after it: the file is closed before another program may have it.
    #[cfg(not(target_arch = "wasm32"))]
    _lock: Option<open::Lock>,
}

impl Store {
    /// Opens or makes the file; its folder is made too. One program at a time: a second one is refused.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] or [`crate::Error::BadFile`], each with what to do: the file belongs to a newer version, is
    /// no database, cannot be written, or is in use by another Secateur.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(path: &Path) -> Result<Store> {
        let (db, lock) = open::open(path)?;
        Ok(Store { checkpoints: Checkpoints::start(path), db, path: Some(path.to_path_buf()), _lock: Some(lock) })
    }

    /// A store that forgets everything when dropped: where there is no folder to write to.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] if SQLite fails.
    pub fn in_memory() -> Result<Store> {
        Ok(Store::of(open::in_memory()?))
    }

    fn of(db: Connection) -> Store {
        Store {
            #[cfg(not(target_arch = "wasm32"))]
            checkpoints: None,
            db,
            path: None,
            #[cfg(not(target_arch = "wasm32"))]
            _lock: None,
        }
    }

    /// All conversations, the last changed first.
    pub fn headers(&self) -> Result<Vec<Header>> {
        const LIST: &str =
            "SELECT id, title, updated FROM conversation WHERE deleted IS NULL ORDER BY updated DESC, id DESC";
        self.read(|db| {
            let mut statement = db.prepare_cached(LIST)?;
            let header = |row: &rusqlite::Row| Ok(Header { id: row.get(0)?, title: row.get(1)?, updated: row.get(2)? });
            statement.query_map([], header)?.collect()
        })
    }

    /// Makes an empty conversation.
    pub fn create(&self, title: &str, settings: &ChatSettings) -> Result<Conversation> {
        let json = json(settings)?;
        let id = self.write(|db| create(db, title, &json))?;
        Conversation::new(id, title.to_owned(), settings.clone(), Vec::new(), None)
    }

    /// Keeps a whole conversation that came from elsewhere, such as an import, under a number of its own; returns it with
    /// that number.
    pub fn insert(&self, mut conversation: Conversation) -> Result<Conversation> {
        let settings = json(&conversation.settings)?;
        let rows = conversation.nodes().map(nodes::Row::of).collect::<Result<Vec<_>>>()?;
        conversation.id = self.write(|db| {
            let id = create(db, &conversation.title, &settings)?;
            for row in &rows {
                nodes::upsert(db, id, row)?;
            }
            let leaf = conversation.leaf().map(u64::cast_signed);
            db.prepare_cached("UPDATE conversation SET leaf = ?2 WHERE id = ?1")?.execute(params![id, leaf])?;
            Ok(id)
        })?;
        Ok(conversation)
    }

    /// A whole conversation. Its texts open even where settings or figures beside them cannot be read: those are then the
    /// defaults.
    pub fn load(&self, id: i64) -> Result<Conversation> {
        const HEAD: &str = "SELECT title, settings, leaf FROM conversation WHERE id = ?1";
        type Head = (String, String, Option<i64>);
        let (head, nodes) = self.read(|db| {
            let head = |row: &rusqlite::Row| -> rusqlite::Result<Head> { Ok((row.get(0)?, row.get(1)?, row.get(2)?)) };
            let head = db.prepare_cached(HEAD)?.query_row([id], head).optional()?;
            Ok((head, nodes::load(db, id)?))
        })?;
        let (title, settings, leaf) = head.ok_or_else(|| self.missing(&format!("the conversation {id}")))?;
        let settings = read_json(&settings).unwrap_or_default();
        let leaf = leaf.map(i64::cast_unsigned).filter(|leaf| nodes.iter().any(|node| node.id == *leaf));
        Conversation::new(id, title, settings, nodes, leaf)
            .map_err(|error| Error::bad_file(self.name(), format!("the conversation {id} is damaged: {error}")))
    }

    /// Keeps title, settings and leaf. The conversation keeps its place in the list: to rename it or to look at another
    /// branch is no news.
    pub fn save(&self, conversation: &Conversation) -> Result<()> {
        const SAVE: &str = "UPDATE conversation SET title = ?2, settings = ?3, leaf = ?4 WHERE id = ?1";
        let (id, title, settings) = (conversation.id, &conversation.title, json(&conversation.settings)?);
        let leaf = conversation.leaf().map(u64::cast_signed);
        let saved = self.write(|db| {
            let saved = db.prepare_cached(SAVE)?.execute(params![id, title, settings, leaf])?;
            if saved > 0 {
                search::index(db, id, None, title)?;
            }
            Ok(saved)
        })?;
        self.expect(saved, || format!("the conversation {id}"))
    }

    /// Moves a conversation out of the list, or back. It is erased when the file is opened more than 30 days later.
    pub fn set_deleted(&self, conversation: i64, deleted: bool) -> Result<()> {
        const SET: &str = "UPDATE conversation SET deleted = ?2 WHERE id = ?1";
        let when = deleted.then(now);
        let set = self.write(|db| db.prepare_cached(SET)?.execute(params![conversation, when]))?;
        self.expect(set, || format!("the conversation {conversation}"))
    }

    /// All presets, by name.
    pub fn presets(&self) -> Result<Vec<Preset>> {
        let rows: Vec<(String, String)> = self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT name, settings FROM preset ORDER BY name COLLATE NOCASE, name")?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })?;
        let preset = |(name, json): (String, String)| Some(Preset { settings: read_json(&json)?, name });
        Ok(rows.into_iter().filter_map(preset).collect())
    }

    /// Keeps a preset, in place of one of the same name.
    pub fn save_preset(&self, preset: &Preset) -> Result<()> {
        const SAVE: &str = "INSERT OR REPLACE INTO preset (name, settings) VALUES (?1, ?2)";
        let settings = json(&preset.settings)?;
        self.write(|db| db.prepare_cached(SAVE)?.execute(params![preset.name, settings])).map(drop)
    }

    /// Removes a preset.
    pub fn delete_preset(&self, name: &str) -> Result<()> {
        self.write(|db| db.prepare_cached("DELETE FROM preset WHERE name = ?1")?.execute([name])).map(drop)
    }

    /// A setting of the program (theme, zoom, last model), as text.
    pub fn setting(&self, name: &str) -> Result<Option<String>> {
        const GET: &str = "SELECT value FROM setting WHERE name = ?1";
        self.read(|db| db.prepare_cached(GET)?.query_row([name], |row| row.get(0)).optional())
    }

    /// Keeps a setting of the program.
    pub fn set_setting(&self, name: &str, value: &str) -> Result<()> {
        const SET: &str = "INSERT OR REPLACE INTO setting (name, value) VALUES (?1, ?2)";
        self.write(|db| db.prepare_cached(SET)?.execute([name, value])).map(drop)
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        work(&self.db).map_err(|error| self.explain(&error))
    }

    /// Runs `work` in a transaction, of which an error leaves nothing.
    fn write<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let run = || {
            let transaction = Transaction::new_unchecked(&self.db, TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        let done = run().map_err(|error| self.explain(&error))?;
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(checkpoints) = &self.checkpoints {
            checkpoints.written();
        }
        Ok(done)
    }

    fn explain(&self, error: &rusqlite::Error) -> Error {
        open::explain(self.name(), error)
    }

    fn missing(&self, what: &str) -> Error {
        Error::Setting(format!("{what} is not in {}: begin a new conversation", self.name().display()))
    }

    /// Fails where nothing was there to be changed.
    fn expect(&self, changed: usize, what: impl FnOnce() -> String) -> Result<()> {
        if changed > 0 { Ok(()) } else { Err(self.missing(&what())) }
    }

    fn name(&self) -> &Path {
        open::name_of(self.path.as_deref())
    }
}

fn create(db: &Connection, title: &str, settings: &str) -> rusqlite::Result<i64> {
    const CREATE: &str = "INSERT INTO conversation (title, settings, updated) VALUES (?1, ?2, ?3)";
    db.prepare_cached(CREATE)?.execute(params![title, settings, now()])?;
    let id = db.last_insert_rowid();
    search::index(db, id, None, title)?;
    Ok(id)
}

fn json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Internal(format!("something cannot be kept as JSON: {error}")))
}

/// What a JSON column holds; `None`, told in the log, where another version wrote it differently.
fn read_json<T: DeserializeOwned>(json: &str) -> Option<T> {
    let read = serde_json::from_str(json);
    read.inspect_err(|error| tracing::warn!(%error, "a part of a conversation cannot be read and is left out")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Role;

    #[test]
    fn a_full_disk_is_told_and_loses_nothing_that_was_kept() {
        let store = Store::in_memory().unwrap();
        let mut conversation = store.create("title", &ChatSettings::default()).unwrap();
        let first = conversation.add(None, Role::User, "kept".into());
        store.save_node(conversation.id, conversation.node(first).unwrap()).unwrap();
        let kept = store.load(conversation.id).unwrap();

        let pages: i64 = store.db.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        store.db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
        let second = conversation.add(Some(first), Role::Assistant, "too much ".repeat(10_000));
        let error = store.save_node(conversation.id, conversation.node(second).unwrap()).unwrap_err();
        assert!(error.to_string().contains("the disk is full: free some space"), "{error}");
        assert!(error.is_user_fault());
        assert_eq!(store.load(conversation.id).unwrap(), kept);

        store.db.pragma_update_and_check(None, "max_page_count", 1_000_000, |_| Ok(())).unwrap();
        store.save_node(conversation.id, conversation.node(second).unwrap()).unwrap();
        assert_eq!(store.load(conversation.id).unwrap(), conversation);
    }

    #[test]
    fn what_another_version_wrote_beside_a_text_does_not_keep_the_text_away() {
        let store = Store::in_memory().unwrap();
        let mut conversation = store.create("title", &ChatSettings::default()).unwrap();
        let id = conversation.add(None, Role::User, "words".into());
        store.save_node(conversation.id, conversation.node(id).unwrap()).unwrap();
        let odd = "UPDATE node SET figures = '{\"speed\": 1}', prompt = 'x', stop = 'bored'; UPDATE conversation SET \
                   settings = '[]', leaf = 77";
        store.db.execute_batch(odd).unwrap();
        assert_eq!(store.load(conversation.id).unwrap(), conversation);
    }

    #[test]
    fn a_message_without_its_parent_is_refused() {
        let store = Store::in_memory().unwrap();
        let mut conversation = store.create("title", &ChatSettings::default()).unwrap();
        let first = conversation.add(None, Role::User, "not kept".into());
        let second = conversation.add(Some(first), Role::Assistant, "answer".into());
        assert!(store.save_node(conversation.id, conversation.node(second).unwrap()).is_err());
        assert_eq!(store.load(conversation.id).unwrap().nodes().count(), 0);
        assert_eq!(store.search("answer").unwrap(), []);
    }
}
