//! Folders whose tokenizer is not a `tokenizer.json`.

use crate::common::tiny_model::{TinySpec, write_hf_folder};
use crate::common::tiny_vocabulary;
use secateur::config::{GgufVocabulary, TokenizerSource};
use secateur::model::ModelFiles;
use secateur::text::{Special, Tokenizer};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// A valid folder with another tokenizer, which `write` puts there.
fn folder(write: impl FnOnce(&Path)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_hf_folder(dir.path(), &TinySpec::default());
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    write(dir.path());
    dir
}

fn write_json(dir: &Path, name: &str, value: &Value) {
    fs::write(dir.join(name), value.to_string()).unwrap();
}

/// The tiny vocabulary in two files, with settings that make byte pairs of GPT-2's kind of it.
fn write_pairs(dir: &Path) {
    let tokens = tiny_vocabulary::tokens(TinySpec::default().vocab);
    let ids: serde_json::Map<String, Value> =
        tokens.into_iter().take(280).zip(0..).map(|(token, id)| (token, id.into())).collect();
    write_json(dir, "vocab.json", &Value::Object(ids));
    fs::write(dir.join("merges.txt"), format!("#version: 0.2\n{}\n", tiny_vocabulary::MERGES.join("\n"))).unwrap();
    let settings = json!({"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|im_start|>", "eos_token": "<|endoftext|>",
        "unk_token": {"content": "<|endoftext|>", "lstrip": false}, "add_bos_token": true, "add_prefix_space": false});
    write_json(dir, "tokenizer_config.json", &settings);
    write_json(dir, "special_tokens_map.json", &json!({"additional_special_tokens": ["<|im_end|>"]}));
    write_json(dir, "added_tokens.json", &json!({"<tool>": 280}));
}

/// A small SentencePiece model (`make_pieces.py`).
fn write_pieces(dir: &Path) {
    fs::write(dir.join("tokenizer.model"), include_bytes!("../fixtures/text/pieces.model")).unwrap();
    write_json(dir, "tokenizer_config.json", &json!({"bos_token": "<s>", "eos_token": "</s>"}));
}

fn tokenizer(dir: &Path) -> Tokenizer {
    Tokenizer::new(&ModelFiles::open(dir).unwrap().text).unwrap()
}

#[test]
fn byte_pairs_of_two_files_are_the_vocabulary_of_one() {
    let whole = tempfile::tempdir().unwrap();
    write_hf_folder(whole.path(), &TinySpec::default());
    let (whole, dir) = (tokenizer(whole.path()), folder(write_pairs));
    let pairs = tokenizer(dir.path());
    for text in ["the weather and then  <|im_start|>in\n<|im_end|>", "", "é😀 1234 they're", "<|endoftext|>"] {
        for special in [Special::Text, Special::Parse] {
            assert_eq!(pairs.encode(text, special).unwrap(), whole.encode(text, special).unwrap(), "{text:?}");
        }
    }
    assert_eq!((pairs.bos(), pairs.eos_ids()), (Some(tiny_vocabulary::IM_START), [0, 2].as_slice()));
    let opened = pairs.encode_with_bos("the", Special::Text).unwrap();
    assert_eq!((opened[0], opened.len()), (tiny_vocabulary::IM_START, 2));
    // A token that was added stands for itself, and is text.
    assert_eq!(pairs.encode("<tool>", Special::Text).unwrap(), [280]);
    assert!(!pairs.is_special(280) && pairs.is_special(tiny_vocabulary::IM_END));
}

#[test]
fn pieces_give_the_ids_of_sentencepiece() {
    let dir = folder(write_pieces);
    let t = tokenizer(dir.path());
    // As `make_pieces.py` prints them.
    let cases: [(&str, &[u32]); 5] = [
        ("abc", &[266, 264]),
        ("abcabc ab", &[266, 264, 265, 267]),
        ("cabc  a", &[259, 262, 265, 259, 266]),
        ("éab\n", &[259, 198, 172, 263, 13]),
        ("<s>a</s>", &[259, 63, 118, 65, 260, 63, 50, 118, 65]),
    ];
    for (text, ids) in cases {
        assert_eq!(t.encode(text, Special::Text).unwrap(), ids, "{text:?}");
        assert_eq!(t.decode(ids, false).unwrap(), text);
    }
    assert_eq!((t.bos(), t.wants_bos(), t.is_end(2)), (Some(1), true, true));
    assert_eq!(t.encode("<s>abc", Special::Parse).unwrap(), [1, 266, 264]);
    // The settings may add tokens behind the pieces.
    let more = |dir: &Path| {
        write_pieces(dir);
        let added = json!({"280": {"content": "<|im_end|>", "special": true, "lstrip": false, "rstrip": false}});
        write_json(dir, "tokenizer_config.json", &json!({"bos_token": "<s>", "added_tokens_decoder": added}));
    };
    let dir = folder(more);
    let t = tokenizer(dir.path());
    assert_eq!(t.encode("abc<|im_end|>", Special::Parse).unwrap(), [266, 264, 280]);
    assert!(t.is_special(280) && t.is_end(280) && t.encode("<|im_end|>", Special::Text).unwrap().len() > 3);
}

#[test]
fn a_folder_that_leaves_its_tokenizer_open_is_refused() {
    let said = |write: &dyn Fn(&Path)| ModelFiles::open(folder(write).path()).unwrap_err().to_string();
    let pairs = |change: &dyn Fn(&Path)| said(&|dir: &Path| (write_pairs(dir), change(dir)).1);
    let settings = |value: Value| pairs(&|dir: &Path| write_json(dir, "tokenizer_config.json", &value));
    let pieces = |damage: &dyn Fn(&mut Vec<u8>)| {
        said(&|dir: &Path| {
            write_pieces(dir);
            let mut bytes = fs::read(dir.join("tokenizer.model")).unwrap();
            damage(&mut bytes);
            fs::write(dir.join("tokenizer.model"), bytes).unwrap();
        })
    };
    let spec = |number: u8, bytes: &[u8]| [&[number << 3 | 2, bytes.len() as u8], bytes].concat();
    let cases = [
        (said(&|_| {}), "no tokenizer.json: a tokenizer is tokenizer.json, or vocab.json and merges.txt, or"),
        (pairs(&|dir| fs::remove_file(dir.join("merges.txt")).unwrap()), "vocab.json, but no merges.txt"),
        (pairs(&|dir| fs::remove_file(dir.join("tokenizer_config.json")).unwrap()), "do not say how text is split"),
        (settings(json!({"tokenizer_class": "BloomTokenizer"})), "`BloomTokenizer` is not supported"),
        (settings(json!({"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": true})), "add_prefix_space is true"),
        (
            settings(json!({"tokenizer_class": "GPT2Tokenizer", "added_tokens_decoder": {"3": {"content": "<a>"}}})),
            "both have id 3",
        ),
        (
            settings(json!({"tokenizer_class": "GPT2Tokenizer",
                "added_tokens_decoder": {"287": {"content": "<|unused_20|>", "rstrip": true}}})),
            "takes white space around it",
        ),
        (pairs(&|dir| write_json(dir, "added_tokens.json", &json!({"<a>": 4_000_000}))), "has id 4000000"),
        (pairs(&|dir| write_json(dir, "added_tokens.json", &json!({"<a>": 288}))), "but the embedding has 288 rows"),
        (pairs(&|dir| fs::write(dir.join("vocab.json"), "[]").unwrap()), "malformed JSON"),
        (pairs(&|dir| fs::write(dir.join("merges.txt"), [0xff]).unwrap()), "merges.txt: not UTF-8"),
        (pieces(&|bytes| bytes.clear()), "without pieces"),
        (pieces(&|bytes| bytes.truncate(bytes.len() - 1)), "damaged or truncated"),
        (pieces(&|bytes| *bytes = b"{}".to_vec()), "damaged or truncated"),
        // A field that comes again counts as it comes last.
        (pieces(&|bytes| bytes.extend(spec(2, &[3 << 3, 1]))), "`Unigram` is not supported; supported: BPE"),
        (
            pieces(&|bytes| bytes.extend(spec(3, b"\x0a\x04nfkc\x12\x01x"))),
            "`nfkc` is not supported; supported: identity",
        ),
        (pieces(&|bytes| bytes.extend(spec(3, &[4 << 3, 1]))), "remove_extra_whitespaces = true"),
        (pieces(&|bytes| bytes.extend(spec(1, b"\x0a\x01x\x18\x04"))), "`user-defined (`x`)` is not supported"),
        (pieces(&|bytes| bytes.extend(spec(1, b"\x0a\x01\xff"))), "is not UTF-8"),
    ];
    for (found, expected) in cases {
        assert!(found.contains(expected), "`{found}` lacks `{expected}`");
    }
    // What is wrong with the merges themselves is found where the tokenizer is made.
    let dir = folder(|dir| (write_pairs(dir), fs::write(dir.join("merges.txt"), "th zz\n").unwrap()).1);
    let error = Tokenizer::new(&ModelFiles::open(dir.path()).unwrap().text).unwrap_err().to_string();
    assert!(error.contains("needs `zz`"), "{error}");
}

/// OPT's own files, in the tiny folder of another model: what they are read as does not depend on its weights.
#[test]
fn opt_is_read_as_gpt2_with_its_own_opening() {
    let Some(opt) = crate::shared("tokenizers/opt") else { return };
    let spec = TinySpec { layers: 1, vocab: 50_272, ..TinySpec::default() };
    let dir = tempfile::tempdir().unwrap();
    write_hf_folder(dir.path(), &spec);
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    for name in ["vocab.json", "merges.txt"] {
        fs::copy(opt.join(name), dir.path().join(name)).unwrap();
    }
    let mut config = spec.hf_config();
    (config["bos_token_id"], config["eos_token_id"]) = (2.into(), 2.into());
    // The class decides what the weights are, the type what the tokenizer is.
    config["model_type"] = "opt".into();
    write_json(dir.path(), "config.json", &config);
    let names = json!({"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"});
    let mut settings = names.clone();
    settings["tokenizer_class"] = "GPT2Tokenizer".into();
    settings["add_bos_token"] = true.into();
    for written in [false, true] {
        if written {
            write_json(dir.path(), "special_tokens_map.json", &names);
            write_json(dir.path(), "tokenizer_config.json", &settings);
        }
        let text = ModelFiles::open(dir.path()).unwrap().text;
        assert_eq!((text.bos_token_id, text.add_bos_token), (Some(2), Some(true)));
        let TokenizerSource::Gguf(GgufVocabulary { model, pre, tokens, .. }) = &text.tokenizer else {
            panic!("not pairs")
        };
        assert_eq!((model.as_str(), pre.as_str(), tokens.len()), ("gpt2", "gpt-2", 50_265));
        let t = Tokenizer::new(&text).unwrap();
        let fixture: Value = serde_json::from_str(include_str!("../fixtures/text/ids.json")).unwrap();
        let expected = &fixture["opt"]["ids"];
        for (index, text) in fixture["texts"].as_array().unwrap().iter().enumerate() {
            let text = text.as_str().unwrap();
            let ids: Vec<u32> = serde_json::from_value(expected[index].clone()).unwrap();
            assert_eq!(t.encode(text, Special::Text).unwrap(), ids, "{text:?}");
            assert_eq!(t.encode_with_bos(text, Special::Text).unwrap(), [&[2], ids.as_slice()].concat(), "{text:?}");
            assert_eq!(t.decode(&ids, true).unwrap(), text);
            if let Ok(parsed) = serde_json::from_value::<Vec<u32>>(fixture["opt"]["parsed"][index.to_string()].clone())
            {
                // Nothing but the settings names the padding.
                let right = written || !parsed.contains(&1);
                assert_eq!(t.encode(text, Special::Parse).unwrap() == parsed, right, "{text:?}");
            }
        }
    }
}
