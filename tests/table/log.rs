//! Interruption and resumption, with work that remembers.

use super::*;
use secateur::Error;
use secateur::eval::table::{Activity, Ended, Log, PARTIAL, Progress, Step, Watch, Work, check_out, run};
use std::cell::Cell;
use std::fs;
use std::path::Path;

/// The arms whose results depend on their batches before.
const FOLLOWING: [usize; 2] = [5, 6];

/// Scores depend on the batches since the start, for some arms.
struct Fake {
    /// By arm: the data set it was started on, and what it remembers.
    states: Vec<Option<(usize, f64)>>,
    runs: Vec<(usize, usize, usize)>,
    /// Added to what is scored: a device that changed.
    drift: f64,
    /// Fails at this run.
    fails_at: usize,
}

impl Fake {
    fn new() -> Fake {
        Fake { states: vec![None; arms().len()], runs: Vec::new(), drift: 0.0, fails_at: usize::MAX }
    }
}

impl Work for Fake {
    fn follows(&self, arm: usize) -> bool {
        FOLLOWING.contains(&arm)
    }

    fn start(&mut self, arm: usize, data: usize) -> secateur::Result<()> {
        self.states[arm] = Some((data, 0.0));
        Ok(())
    }

    fn run(&mut self, arm: usize, data: usize, batch: usize) -> secateur::Result<BatchResult> {
        if self.runs.len() == self.fails_at {
            return Err(Error::Device("lost".into()));
        }
        self.runs.push((arm, data, batch));
        let (started, memory) = self.states[arm].as_mut().expect("started");
        assert_eq!(*started, data);
        let result = result(arm, data, batch, *memory + self.drift);
        if FOLLOWING.contains(&arm) {
            *memory = *memory * 0.9 + (batch + 1) as f64 / 3.0;
        }
        Ok(result)
    }
}

/// Stops after so many batches that count.
#[derive(Default)]
struct Seen {
    stop_after: Option<usize>,
    asked: Cell<usize>,
    progress: Vec<Progress>,
}

impl Watch for Seen {
    fn progress(&mut self, at: Progress) {
        self.progress.push(at);
    }

    fn asked_to_stop(&self) -> bool {
        let counted = self.progress.iter().filter(|at| at.activity == Activity::Batch).count();
        self.asked.set(self.asked.get() + 1);
        self.stop_after.is_some_and(|stop| counted >= stop)
    }
}

fn begin(out: &Path, work: &mut Fake, watch: &mut Seen) -> secateur::Result<(Ended, Vec<BatchLine>)> {
    let mut log = Log::create(out, &fingerprint())?;
    let ended = run(&schedule(), &mut log, work, watch)?;
    Ok((ended, log.lines().to_vec()))
}

fn resume(out: &Path, work: &mut Fake, watch: &mut Seen) -> secateur::Result<(Ended, Vec<BatchLine>)> {
    let mut log = Log::resume(out, &fingerprint(), &schedule())?;
    let ended = run(&schedule(), &mut log, work, watch)?;
    Ok((ended, log.lines().to_vec()))
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn whole() -> Vec<BatchLine> {
    let out = folder();
    let (ended, lines) = begin(out.path(), &mut Fake::new(), &mut Seen::default()).unwrap();
    assert_eq!(ended, Ended::Whole);
    lines
}

#[test]
fn every_arm_runs_every_batch_in_the_order_of_the_schedule() {
    let (out, mut work, mut seen) = (folder(), Fake::new(), Seen::default());
    let (_, lines) = begin(out.path(), &mut work, &mut seen).unwrap();
    let of = |step: Step| schedule().order(step).into_iter().map(move |arm| (step, arm));
    let want: Vec<_> = schedule().steps().into_iter().flat_map(of).collect();
    assert_eq!(lines.iter().map(|line| (line.step(), line.arm)).collect::<Vec<_>>(), want);
    // Each arm once more on each data set, before anything of it counts.
    let warm: Vec<_> = seen.progress.iter().filter(|at| at.activity == Activity::WarmUp).collect();
    assert_eq!((warm.len(), work.runs.len()), (2 * arms().len(), lines.len() + 2 * arms().len()));
    assert!(seen.progress.iter().all(|at| at.activity != Activity::Again && at.total == lines.len()));
    assert_eq!(seen.progress.last().unwrap().done, lines.len() - 1);
}

#[test]
fn memory_begins_anew_with_every_data_set_and_round() {
    let lines = whole();
    let scores = |round, batch| {
        let found = lines.iter().find(|l| (l.round, l.data, l.batch, l.arm) == (round, 0, batch, FOLLOWING[0]));
        found.unwrap().result.scores[0]
    };
    assert_eq!(scores(0, 0), scores(1, 0));
    assert_eq!(scores(0, 3), scores(1, 3));
    let fresh = result(FOLLOWING[0], 0, 3, 0.0).scores[0];
    assert_ne!(scores(0, 3), fresh, "batches are followed");
}

#[test]
fn a_run_that_was_stopped_anywhere_goes_on_to_the_same_results() {
    let want = whole();
    for stop in [0, 1, 8, 9, 10, 22, 35, 36, 40, 53, 54, 60, 90, 107] {
        let out = folder();
        let mut seen = Seen { stop_after: Some(stop), ..Seen::default() };
        let (ended, _) = begin(out.path(), &mut Fake::new(), &mut seen).unwrap();
        let steps = stop / arms().len();
        assert_eq!(ended, Ended::Stopped { steps, of: 12 }, "stopped after {stop}");
        let (mut work, mut seen) = (Fake::new(), Seen::default());
        let (ended, lines) = resume(out.path(), &mut work, &mut seen).unwrap();
        assert_eq!((ended, &lines), (Ended::Whole, &want), "stopped after {stop}");
        // What is run again: the batches before of the arms that follow them, in this data set and round.
        let again = seen.progress.iter().filter(|at| at.activity == Activity::Again).count();
        let batch = schedule().steps()[steps].batch;
        assert_eq!(again, FOLLOWING.len() * batch, "stopped after {stop}");
    }
}

#[test]
fn a_whole_log_has_nothing_left_to_run() {
    let out = folder();
    let (_, want) = begin(out.path(), &mut Fake::new(), &mut Seen::default()).unwrap();
    let mut work = Fake::new();
    let (ended, lines) = resume(out.path(), &mut work, &mut Seen::default()).unwrap();
    assert_eq!((ended, lines, work.runs.len()), (Ended::Whole, want, 0));
}

#[test]
fn an_error_leaves_what_was_known() {
    let out = folder();
    let mut work = Fake { fails_at: 30, ..Fake::new() };
    assert!(matches!(begin(out.path(), &mut work, &mut Seen::default()), Err(Error::Device(_))));
    let (_, lines) = resume(out.path(), &mut Fake::new(), &mut Seen::default()).unwrap();
    assert_eq!(lines, whole());
}

/// A log that was stopped in the middle of the third step: its folder and its text.
fn stopped() -> (tempfile::TempDir, String) {
    let out = folder();
    begin(out.path(), &mut Fake::new(), &mut Seen { stop_after: Some(22), ..Seen::default() }).unwrap();
    let text = fs::read_to_string(out.path().join(PARTIAL)).unwrap();
    assert_eq!(text.lines().count(), 1 + 22);
    (out, text)
}

#[test]
fn a_line_that_was_cut_short_is_dropped_with_its_step() {
    let want = whole();
    let (out, text) = stopped();
    for cut in [1, 2, 100, 400] {
        fs::write(out.path().join(PARTIAL), &text[..text.len() - cut]).unwrap();
        let log = Log::resume(out.path(), &fingerprint(), &schedule()).unwrap();
        let whole_steps = (22 - cut / 300) / 9 * 9;
        assert_eq!(log.lines(), &want[..whole_steps], "{cut} bytes cut");
        drop(log);
        // The file itself ends there too.
        let rest = fs::read_to_string(out.path().join(PARTIAL)).unwrap();
        assert_eq!((rest.lines().count(), rest.ends_with('\n')), (1 + whole_steps, true));
    }
    fs::write(out.path().join(PARTIAL), format!("{text}\0\0\0")).unwrap();
    assert_eq!(resume(out.path(), &mut Fake::new(), &mut Seen::default()).unwrap().1, want);
}

#[test]
fn a_log_that_is_damaged_elsewhere_is_refused_with_the_line() {
    let (out, text) = stopped();
    let refused = |text: String| {
        fs::write(out.path().join(PARTIAL), text).unwrap();
        let error = Log::resume(out.path(), &fingerprint(), &schedule()).unwrap_err();
        assert!(error.is_user_fault(), "{error}");
        error.to_string()
    };
    let mut lines: Vec<&str> = text.lines().collect();
    lines[4] = "{\"round\":0,";
    assert!(refused(lines.join("\n") + "\n").contains("line 5 is damaged"));
    let mut lines: Vec<&str> = text.lines().collect();
    lines.swap(3, 4);
    assert!(refused(lines.join("\n") + "\n").contains("line 4 is of round 0"));
    assert!(refused(String::new()).contains("first line"));
    assert!(refused(text.replacen("\"format\":1", "\"format\":9", 1)).contains("format 9"));
}

#[test]
fn what_changed_is_named() {
    let (out, _) = stopped();
    let refused = |change: &dyn Fn(&mut Fingerprint)| {
        let mut other = fingerprint();
        change(&mut other);
        Log::resume(out.path(), &other, &schedule()).unwrap_err().to_string()
    };
    for (change, words) in [
        (
            &(|f: &mut Fingerprint| f.protocol.model.model_sha256 = "99".into()) as &dyn Fn(&mut Fingerprint),
            "protocol.model_sha256 (\"11aa\" then, \"99\" now)",
        ),
        (&|f| f.data[1].data_sha256 = "99".into(), "data[1].data_sha256"),
        (&|f| f.arms[3].prune.tile = 32, "arms[3].prune.tile (64 then, 32 now)"),
        (&|f| f.arms[3].prune.ema = 0.5, "arms[3].prune.ema (0.9 then, 0.5 now)"),
        (&|f| f.arms.truncate(4), "arms (9 then, 4 now)"),
        (&|f| f.protocol.version = "9.9.9".into(), "protocol.version (\"0.0.0\" then, \"9.9.9\" now)"),
        (&|f| f.protocol.device.driver = "other".into(), "protocol.driver"),
        (&|f| f.protocol.seed = 8, "protocol.seed (7 then, 8 now)"),
        (&|f| f.protocol.calibration = None, "protocol.calibration"),
    ] {
        let error = refused(change);
        assert!(error.contains(words) && error.contains(PARTIAL), "`{error}` lacks `{words}`");
    }
    // The same bytes may lie elsewhere.
    let mut moved = fingerprint();
    moved.protocol.model.model = "elsewhere/model.gguf".into();
    moved.protocol.calibration.as_mut().unwrap().data = "elsewhere/c4.jsonl".into();
    Log::resume(out.path(), &moved, &schedule()).unwrap();
}

#[test]
fn a_device_that_scores_otherwise_ends_the_run() {
    let (out, _) = stopped();
    let mut work = Fake { drift: 1e-9, ..Fake::new() };
    let error = resume(out.path(), &mut work, &mut Seen::default()).unwrap_err().to_string();
    assert!(error.contains("batch 0 of arm 5") && error.contains("--out"), "{error}");
}

#[test]
fn a_log_is_neither_overwritten_nor_made_up_nor_shared() {
    let (out, text) = stopped();
    let error = Log::create(out.path(), &fingerprint()).unwrap_err();
    assert!(error.is_user_fault() && error.to_string().contains("--resume"), "{error}");
    assert_eq!(fs::read_to_string(out.path().join(PARTIAL)).unwrap(), text);
    let log = Log::resume(out.path(), &fingerprint(), &schedule()).unwrap();
    let error = Log::resume(out.path(), &fingerprint(), &schedule()).unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    let closed = log.close().unwrap();
    assert!(closed.exists() && !out.path().join(PARTIAL).exists());
    // What a finished table leaves.
    fs::write(out.path().join("table.json"), "{}").unwrap();
    for resume in [false, true] {
        let error = check_out(out.path(), resume).unwrap_err();
        assert!(error.is_user_fault() && error.to_string().contains("table.json"), "{error}");
    }
    let error = Log::resume(folder().path(), &fingerprint(), &schedule()).unwrap_err();
    assert!(error.is_user_fault() && error.to_string().contains("nothing to resume"), "{error}");
}
