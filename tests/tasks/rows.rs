//! Rows come out the same whatever they are written in; what is damaged is named.

use super::{assert_says, field, fixture, written};
use flate2::Compression;
use flate2::write::GzEncoder;
use secateur::eval::data::TextData;
use secateur::eval::rows::DataFile;
use serde_json::json;
use std::fs;
use std::io::Write;
use std::ops::ControlFlow::{Break, Continue};

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(content).expect("memory");
    packed.finish().expect("memory")
}

#[test]
fn rows_are_the_same_in_every_form() {
    let lines = "{\"text\": \"one\", \"n\": [1, {\"a\": null}]}\n\n{\"text\": \"two\"}\r\n";
    let array = " [ {\"text\": \"one\", \"n\": [1, {\"a\": null}]},\n {\"text\": \"two\"} ]\n";
    // Two members, one after the other, are one gzip file.
    let members = [gzip(b"{\"text\": \"one\"}\n"), gzip(b"{\"text\": \"two\"}\n")].concat();
    for (name, content) in [
        ("a.jsonl", lines.as_bytes().to_vec()),
        ("a.NDJSON", lines.into()),
        ("a.json", lines.into()),
        ("a.json", array.into()),
        ("a.jsonl.gz", gzip(lines.as_bytes())),
        ("c4.00000-of-00008.json.gz", gzip(lines.as_bytes())),
        ("a.json.gz", gzip(array.as_bytes())),
        ("a.json.gz", members),
    ] {
        let (_dir, path) = written(name, content);
        assert_eq!(field(&path, "text").unwrap(), [json!("one"), json!("two")], "{name}");
        assert_eq!(TextData::read(&path, None).unwrap().text, "one\n\ntwo", "{name}");
    }
}

#[test]
fn parquet_keeps_structs_lists_and_kinds() {
    let arc = fixture("arc.snappy.parquet");
    let choices = field(&arc, "choices").unwrap();
    assert_eq!(choices[0], json!({"text": ["fire", "rain", "dust"], "label": ["A", "B", "C"]}));
    assert_eq!(choices[1], json!({"text": ["im Baum", "im Meer"], "label": ["1", "2"]}));
    // The third row lies in the second row group.
    assert_eq!(choices[2]["text"].as_array().unwrap().len(), 4);
    assert_eq!(field(&arc, "question").unwrap()[1], json!("Wo wächst Öl?"));
    assert_eq!(field(&fixture("boolq.zstd.parquet"), "answer").unwrap(), [json!(true), json!(false)]);
    assert_eq!(field(&fixture("piqa.gzip.parquet"), "label").unwrap(), [json!(1)]);
}

#[test]
fn a_text_may_be_parquet_and_is_hashed_as_it_lies() {
    let path = fixture("text.parquet");
    let data = TextData::read(&path, None).unwrap();
    assert_eq!(data.text, "one\n\n\n\ntwo\nlines\n\none\n\none");
    let (_dir, packed) = written("a.txt.gz", gzip("plain\r\n{".as_bytes()));
    let text = TextData::read(&packed, None).unwrap();
    assert_eq!(text.text, "plain\r\n{");
    use sha2::{Digest, Sha256};
    let hash = |path| Sha256::digest(fs::read(path).unwrap()).iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert_eq!((data.sha256, text.sha256), (hash(&path), hash(&packed)));
}

#[test]
fn a_limit_of_characters_spares_the_rows_behind_it() {
    let (_dir, path) = written("a.jsonl", "{\"text\": \"äöü\"}\n{\"text\": \"two\"}\nbroken\n");
    assert_eq!(TextData::read(&path, Some(3)).unwrap().text, "äöü");
    assert_eq!(TextData::read(&path, Some(4)).unwrap().text, "äöü\n");
    assert_eq!(TextData::read(&path, Some(8)).unwrap().text, "äöü\n\ntwo");
    assert_says(TextData::read(&path, Some(9)), &["line 3", "malformed JSON"]);
}

#[test]
fn reading_stops_where_it_is_told_to() {
    for (name, content) in [("a.jsonl", "{}\n{}\nbroken"), ("a.json", "[{}, {}, broken")] {
        let (_dir, path) = written(name, content);
        let mut seen = 0;
        let read = DataFile::read(&path).unwrap().rows(&mut |_| {
            seen += 1;
            Ok(if seen == 2 { Break(()) } else { Continue(()) })
        });
        assert_eq!((read.is_ok(), seen), (true, 2), "{name}");
    }
}

#[test]
fn bad_files_are_named_with_their_place() {
    let cut = |name: &str| {
        let mut bytes = fs::read(fixture(name)).unwrap();
        bytes.truncate(bytes.len() / 2);
        bytes
    };
    let packed = gzip(b"{\"text\": \"one\"}\n");
    let cases: [(&str, Vec<u8>, &[&str]); 11] = [
        ("a.jsonl", "{\"text\": 1}\n{\"text\"".into(), &["a.jsonl", "line 2", "malformed JSON"]),
        ("a.jsonl", "[1]\n".into(), &["line 1", "malformed JSON", "map"]),
        ("a.jsonl", "{\"a\": 1, \"b\": 2}".into(), &["line 1", "no field `text`", "a, b"]),
        ("a.jsonl", b"{\"text\": \"ok\"}\n\xff".to_vec(), &["line 2 is not UTF-8"]),
        ("a.json", "[{\"text\": 1}, 2]".into(), &["row 2", "malformed JSON"]),
        ("a.json", "[{\"text\": 1}, {".into(), &["row 2", "malformed JSON"]),
        ("a.json", "[{\"text\": 1}] x".into(), &["trailing characters"]),
        ("a.json.gz", packed[..packed.len() - 4].to_vec(), &["not whole gzip data", "get the file again"]),
        ("a.jsonl.gz", "{\"text\": 1}".into(), &["not whole gzip data"]),
        ("a.parquet", cut("arc.snappy.parquet"), &["a.parquet", "the file is damaged or no parquet"]),
        ("a.txt", "plain".into(), &["rows are read from", ".parquet"]),
    ];
    for (name, content, parts) in cases {
        let (_dir, path) = written(name, content);
        assert_says(field(&path, "text"), parts);
    }
    assert_says(field(&fixture("missing.jsonl"), "text"), &["cannot open", "missing.jsonl"]);
    let (_dir, path) = written("a.jsonl", "{\"text\": null}\n");
    assert_says(TextData::read(&path, None), &["line 1", "`text` is not a string but null"]);
    let (_dir, path) = written("a.json", "[]");
    assert_says(TextData::read(&path, None), &["holds no text"]);
}

#[test]
fn damaged_parquet_is_an_error_or_other_rows_and_no_crash() {
    let sound = fs::read(fixture("arc.snappy.parquet")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let mut refused = 0;
    for at in 0..sound.len() {
        let mut bent = sound.clone();
        bent[at] ^= 0x55;
        fs::write(&path, &bent).unwrap();
        refused += usize::from(field(&path, "choices").is_err());
    }
    // Bytes of texts and statistics may change unseen; the structure may not.
    assert!(refused > sound.len() / 4, "{refused} of {} changed files were refused", sound.len());
}
