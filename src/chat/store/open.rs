//! Opening the file: who may, which files, and what is said when it cannot be.

#[cfg(not(target_arch = "wasm32"))]
use super::checkpoint::MOST_PAGES;
use super::schema::{APPLICATION_ID, MIGRATIONS, version};
use crate::error::{Error, Result};
#[cfg(not(target_arch = "wasm32"))]
use rusqlite::OpenFlags;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
#[cfg(not(target_arch = "wasm32"))]
use std::ffi::OsString;
#[cfg(not(target_arch = "wasm32"))]
use std::fs::{self, File, TryLockError};
use std::path::Path;
#[cfg(not(target_arch = "wasm32"))]
use std::path::PathBuf;
#[cfg(not(target_arch = "wasm32"))]
use std::time::Duration;

/// How long a deleted conversation can be brought back, in milliseconds.
const KEPT_DELETED: i64 = 30 * 24 * 60 * 60 * 1000;

/// The name of a store in memory, in errors.
const IN_MEMORY: &str = "the conversations in memory";

/// Bytes of the smallest page, and so of the smallest database.
#[cfg(not(target_arch = "wasm32"))]
const SMALLEST: u64 = 512;

const NOT_OURS: &str = "this is not Secateur's file of conversations, or it is damaged: move it away";

/// Prepared statements that are kept: more than this module has.
const STATEMENTS: usize = 64;

/// What keeps a second program out. The system drops it with the process, however that ends.
#[cfg(not(target_arch = "wasm32"))]
pub(super) struct Lock(File);

#[cfg(not(target_arch = "wasm32"))]
impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a program that another thread is just starting has a copy of the file for a moment.
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the lock of the conversations was not given back");
        }
    }
}

/// Opens or makes the file; nobody else can while the lock lives.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn open(path: &Path) -> Result<(Connection, Lock)> {
    if path.is_dir() {
        return Err(Error::Setting(format!(
            "{} is a folder, but the file of conversations belongs there: move the folder away",
            path.display()
        )));
    }
    // SQLite takes a file of a few bytes for an empty one and writes over it.
    if fs::metadata(path).is_ok_and(|metadata| (1..SMALLEST).contains(&metadata.len())) {
        return Err(Error::bad_file(path, NOT_OURS));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(|error| cannot_write("the folder", folder, &error.to_string()))?;
    let lock = lock(path)?;
    // Without SQLITE_OPEN_URI: a name like `file:x?mode=ro` is a name.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags);
    let db = opened.map_err(|error| explain(path, &error))?;
    prepare(&db, path)?;
    Ok((db, lock))
}

/// A database that nobody else sees.
pub(super) fn in_memory() -> Result<Connection> {
    let db = Connection::open_in_memory().map_err(|error| explain(Path::new(IN_MEMORY), &error))?;
    prepare(&db, Path::new(IN_MEMORY))?;
    Ok(db)
}

/// A database that begins as `image`, which nobody else sees.
pub(super) fn from_image(image: &[u8]) -> Result<Connection> {
    let path = Path::new(IN_MEMORY);
    // Of nothing, SQLite would make an empty database.
    if image.is_empty() {
        return Err(Error::bad_file(path, NOT_OURS));
    }
    let mut db = Connection::open_in_memory().map_err(|error| explain(path, &error))?;
    let read = db.deserialize_read_exact("main", image, image.len(), false);
    read.map_err(|error| explain(path, &error))?;
    let sound: String =
        db.pragma_query_value(None, "quick_check", |row| row.get(0)).map_err(|error| explain(path, &error))?;
    if sound != "ok" {
        return Err(Error::bad_file(path, damaged(&sound)));
    }
    prepare(&db, path)?;
    Ok(db)
}

/// What to call the store in errors.
pub(super) fn name_of(path: Option<&Path>) -> &Path {
    path.unwrap_or(Path::new(IN_MEMORY))
}

/// Two programs on one file would show each other's conversations half written.
#[cfg(not(target_arch = "wasm32"))]
fn lock(path: &Path) -> Result<Lock> {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(".lock");
    let lock: PathBuf = path.with_file_name(name);
    let opened = File::options().create(true).truncate(false).write(true).open(&lock);
    let file = opened.map_err(|error| cannot_write("the file", &lock, &error.to_string()))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(Error::Setting(format!(
            "{} is open in another Secateur window: use that one, or close it and try again",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => {
            // Some network file systems know no locks; SQLite still keeps single writes apart.
            tracing::warn!(path = %lock.display(), %error, "the conversations cannot be locked");
            Ok(Lock(file))
        }
    }
}

fn prepare(db: &Connection, path: &Path) -> Result<()> {
    // Whose file it is comes first: to turn on the write-ahead log writes to it.
    let found = check(db, path)?;
    let run = || -> rusqlite::Result<()> {
        db.set_prepared_statement_cache_capacity(STATEMENTS);
        #[cfg(not(target_arch = "wasm32"))]
        db.busy_timeout(Duration::from_secs(2))?;
        db.pragma_update(None, "foreign_keys", true)?;
        #[cfg(not(target_arch = "wasm32"))]
        {
            db.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
            // A commit outlives the process at once, and a power cut from the next checkpoint on; the file stays whole.
            db.pragma_update(None, "synchronous", "normal")?;
            db.pragma_update_and_check(None, "wal_autocheckpoint", MOST_PAGES, |_| Ok(()))?;
        }
        // In KiB: the index of some years of conversations, against SQLite's 2 MiB.
        db.pragma_update(None, "cache_size", -16 * 1024)?;
        // Immediate: a file that cannot be written is told now, not at the first message.
        let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
        for migration in MIGRATIONS.iter().skip(found) {
            transaction.execute_batch(migration)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", version())?;
        transaction.execute("DELETE FROM conversation WHERE deleted < ?1", [super::super::now() - KEPT_DELETED])?;
        transaction.commit()
    };
    run().map_err(|error| explain(path, &error))
}

/// The version of the file, 0 for a new one; refuses files that are not ours.
fn check(db: &Connection, path: &Path) -> Result<usize> {
    let number = |pragma| db.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let read = || -> rusqlite::Result<(i32, i32, i64)> {
        let tables = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok((number("application_id")?, number("user_version")?, tables))
    };
    let (application, found, tables) = read().map_err(|error| explain(path, &error))?;
    let (path, ours) = (path.display(), version());
    if application != APPLICATION_ID && (application != 0 || tables > 0) {
        return Err(Error::Setting(format!(
            "{path} is a database of another program, not Secateur's conversations: move it away"
        )));
    }
    if found > ours {
        return Err(Error::Setting(format!(
            "{path} was written by a newer Secateur (its version is {found}, this one reads up to {ours}): update \
             Secateur, or move the file away to begin a new one"
        )));
    }
    usize::try_from(found).map_err(|_| Error::bad_file(path.to_string(), damaged(&format!("its version is {found}"))))
}

fn damaged(what: &str) -> String {
    format!(
        "the file of conversations is damaged ({what}): put a copy back in its place, or move it away to begin anew"
    )
}

fn cannot_write(what: &str, path: &Path, why: &str) -> Error {
    Error::Setting(format!(
        "{what} {} cannot be written ({why}): make it and its folder writable, conversations are kept there",
        path.display()
    ))
}

/// SQLite's error in words that say what to do.
pub(super) fn explain(path: &Path, error: &rusqlite::Error) -> Error {
    let Some(code) = error.sqlite_error_code() else {
        return Error::Internal(format!("{}: {error}", path.display()));
    };
    let name = path.display();
    match code {
        ErrorCode::DiskFull => Error::Setting(format!(
            "{name} cannot grow, the disk is full: free some space; everything that was kept before is safe"
        )),
        ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied => {
            cannot_write("the file", path, &error.to_string())
        }
        ErrorCode::NotADatabase => Error::bad_file(path, NOT_OURS),
        ErrorCode::DatabaseCorrupt => Error::bad_file(path, damaged(&error.to_string())),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
            Error::Setting(format!("{name} is in use by another program ({error}): close it and try again"))
        }
        ErrorCode::SystemIoFailure => Error::Setting(format!(
            "{name} cannot be read or written ({error}): check that its disk is connected and sound"
        )),
        _ => Error::Internal(format!("{name}: {error}")),
    }
}
