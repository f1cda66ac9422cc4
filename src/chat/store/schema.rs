//! The tables, and how an older file becomes one of this version.

/// Marks the file as ours ("Seca"): `file` and other programs show it.
pub(super) const APPLICATION_ID: i32 = 0x5365_6361;

/// What brings a file from each version (`PRAGMA user_version`) to the next. Files of users have run these: append, never
/// change.
pub(super) const MIGRATIONS: &[&str] = &[FIRST];

/// The version that this program writes.
pub(super) fn version() -> i32 {
    MIGRATIONS.len() as i32
}

/// Times are milliseconds since 1970. `AUTOINCREMENT`: a number is never used again, so nothing that remembers the number
/// of a purged conversation can meet another one under it.
///
/// `words` is the index of searches, filled by `search.rs`, which also says what its row numbers are. It keeps its own copy
/// of the text: CJK characters are set apart in it, which only the program can do, and `snippet` needs what was indexed.
/// Triggers take a row out with what it indexes.
///
/// A parent is checked at the end of a transaction and never cascades: SQLite follows cascades only 1000 deep, and a purge
/// removes all messages of a conversation through `conversation`.
const FIRST: &str = "
CREATE TABLE conversation (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    title TEXT NOT NULL,
    settings TEXT NOT NULL, -- JSON
    leaf INTEGER,
    updated INTEGER NOT NULL,
    deleted INTEGER -- when; NULL = in the list
) STRICT;
CREATE INDEX conversation_updated ON conversation (updated);

CREATE TABLE node (
    key INTEGER PRIMARY KEY,
    conversation INTEGER NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
    id INTEGER NOT NULL,
    parent INTEGER,
    role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
    text TEXT NOT NULL,
    created INTEGER NOT NULL,
    error TEXT,
    figures TEXT, -- JSON, and so are the next four
    stop TEXT,
    comparison TEXT,
    left_out TEXT,
    prompt TEXT,
    UNIQUE (conversation, id),
    FOREIGN KEY (conversation, parent) REFERENCES node (conversation, id) DEFERRABLE INITIALLY DEFERRED
) STRICT;
CREATE INDEX node_parent ON node (conversation, parent);

CREATE TABLE heat (
    node INTEGER NOT NULL REFERENCES node (key) ON DELETE CASCADE,
    place INTEGER NOT NULL,
    data BLOB NOT NULL,
    UNIQUE (node, place)
) STRICT;

CREATE TABLE preset (name TEXT PRIMARY KEY, settings TEXT NOT NULL) STRICT;
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE VIRTUAL TABLE words USING fts5 (
    text,
    tokenize = 'unicode61 remove_diacritics 2 categories ''L* M* N* Co''',
    prefix = '1 2 3'
);
CREATE TRIGGER conversation_gone AFTER DELETE ON conversation BEGIN
    DELETE FROM words WHERE rowid = old.id << 24;
END;
CREATE TRIGGER node_gone AFTER DELETE ON node BEGIN
    DELETE FROM words WHERE rowid = old.conversation << 24 | old.id;
END;
";
