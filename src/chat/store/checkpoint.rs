//! Moving the write-ahead log into the file, beside the UI thread.
//!
//! SQLite does it in whichever commit fills the log, and waits for the disk there: long enough to be seen, for the probes of
//! one answer are megabytes. Here a thread with a connection of its own does it soon after every write, so a power cut costs
//! some seconds at most, and commits never wait.

use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between a write and the move of the log: a stream of messages then waits for the disk once.
const PAUSE: Duration = Duration::from_secs(2);
/// Pages in the log at which a commit moves them after all, because the thread does not keep up.
pub(super) const MOST_PAGES: u32 = 4096;

/// The thread. Dropping it waits until a move that has begun is done.
pub(super) struct Checkpoints {
    written: SyncSender<()>,
    /// Dropped to end the thread.
    open: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    /// Starts the thread for the file at `path`; `None`, told in the log, where that cannot be: commits then do its work.
    pub(super) fn start(path: &Path) -> Option<Checkpoints> {
        let (written, writes) = sync_channel(1);
        let (open, closed) = sync_channel(0);
        let path = path.to_path_buf();
        let thread = std::thread::Builder::new().name("chat-store".into()).spawn(move || run(path, &writes, &closed));
        let thread =
            thread.inspect_err(|error| tracing::warn!(%error, "the log of conversations has no thread")).ok()?;
        Some(Checkpoints { written, open: Some(open), thread: Some(thread) })
    }

    /// Tells the thread that there is something to move.
    pub(super) fn written(&self) {
        // A full channel means that it knows already.
        let _ = self.written.try_send(());
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.open = None;
        // The thread waits for either channel: one more write lets it see that the other is closed.
        let _ = self.written.try_send(());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::warn!("the thread that moves the log of conversations panicked");
        }
    }
}

fn run(path: PathBuf, writes: &Receiver<()>, closed: &Receiver<()>) {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = match Connection::open_with_flags(&path, flags) {
        Ok(db) => db,
        Err(error) => return tracing::warn!(%error, "the log of conversations cannot be moved aside"),
    };
    while writes.recv().is_ok() {
        if closed.recv_timeout(PAUSE) == Err(RecvTimeoutError::Disconnected) {
            // The connection that closes last moves the rest.
            return;
        }
        let moved = db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = moved {
            tracing::warn!(%error, "the log of conversations was not moved into its file; tried again later");
        }
    }
}
