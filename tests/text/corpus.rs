//! Awkward texts and thousands of random ones, in every vocabulary, against the ids that Python's tokenizers give
//! (`tests/fixtures/text/make_ids.py`, which also holds the texts).

use super::vocabularies::*;
use secateur::config::{TextSource, TokenizerSource};
use secateur::text::{Special, Tokenizer};
use serde_json::Value;

fn strings(value: &Value) -> Vec<String> {
    serde_json::from_value(value.clone()).expect("strings")
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).expect("ids")
}

/// The random texts, and whether each is read with its special tokens: as the script makes them, with splitmix64.
pub fn random_texts(atoms: &[String], count: usize) -> Vec<(String, Special)> {
    let mut state = 20_240_229_u64;
    let mut draw = |below: usize| {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % below as u64) as usize
    };
    let text = |index: usize| {
        let length = draw(24);
        let text: String = (0..length).map(|_| atoms[draw(atoms.len())].as_str()).collect();
        (text, if index % 4 == 3 { Special::Parse } else { Special::Text })
    };
    (0..count).map(text).collect()
}

/// FNV-1a of 32 bits over ids and an end behind each text.
fn digest(texts: &[Vec<u32>]) -> String {
    let ids = texts.iter().flat_map(|ids| ids.iter().chain([&u32::MAX]));
    let hash = ids
        .flat_map(|id| id.to_le_bytes())
        .fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:08x}")
}

/// Compares the tokenizer of `source` with everything that the fixture holds of the vocabulary `name`.
pub fn compare(fixture: &Value, name: &str, source: &TextSource) {
    let t = Tokenizer::new(source).expect("a sound vocabulary");
    let expected = &fixture[name];
    let texts = strings(&fixture["texts"]);
    for (index, text) in texts.iter().enumerate() {
        let exact = ids(&expected["ids"][index]);
        assert_eq!(t.encode(text, Special::Text).unwrap(), exact, "{name}: {text:?}");
        let opening = t.bos().filter(|_| t.wants_bos());
        let opened: Vec<u32> = opening.into_iter().chain(exact.iter().copied()).collect();
        assert_eq!(t.encode_with_bos(text, Special::Text).unwrap(), opened, "{name}: {text:?}");
        let decoded = expected["decoded"][index.to_string()].as_str().unwrap_or(text);
        assert_eq!(streamed(&t, &exact), (decoded.to_string(), decoded.to_string()), "{name}: {text:?}");
        if expected["parses"] == true {
            let parsed = match &expected["parsed"][index.to_string()] {
                Value::Null => exact,
                parsed => ids(parsed),
            };
            assert_eq!(t.encode(text, Special::Parse).unwrap(), parsed, "{name}: {text:?}");
        }
    }
    let digests = expected["random"].as_str().expect("digests");
    let group = fixture["group"].as_u64().expect("a number") as usize;
    let texts = random_texts(&strings(&fixture["atoms"]), digests.len() / 8 * group);
    assert!(texts.len() >= 4096 && texts.iter().any(|(text, _)| text.len() > 100));
    for (index, texts) in texts.chunks(group).enumerate() {
        let special = |special: &Special| if expected["parses"] == true { *special } else { Special::Text };
        let found: Vec<Vec<u32>> = texts.iter().map(|(text, how)| t.encode(text, special(how)).expect("ids")).collect();
        assert_eq!(digest(&found), digests[8 * index..8 * index + 8], "{name}: one of {texts:#?}, now {found:?}");
        for ((text, _), ids) in texts.iter().zip(&found) {
            let (stream, whole) = streamed(&t, ids);
            assert_eq!(stream, whole, "{name}: {text:?}");
        }
    }
}

#[test]
fn every_vocabulary_gives_the_ids_of_its_maker() {
    let fixture: Value = serde_json::from_str(include_str!("../fixtures/text/ids.json")).expect("the fixture");
    let from_json = |name: &str| Some(source(TokenizerSource::Json(shared_json(name)?)));
    let sources: [(&str, &dyn Fn() -> Option<TextSource>); 12] = [
        ("gpt2", &|| from_json("gpt2")),
        ("gpt2", &|| by_rules("gpt2", "gpt-2")),
        ("gpt2 by smollm rules", &|| by_rules("gpt2", "smollm")),
        ("gpt2 by qwen2 rules", &|| by_rules("gpt2", "qwen2")),
        ("gpt2 by tekken rules", &|| by_rules("gpt2", "tekken")),
        ("gpt2 by default rules", &|| by_rules("gpt2", "default")),
        ("opt", &opt),
        ("llama2", &|| from_json("llama2")),
        ("llama2 by scores", &llama2_by_scores),
        ("llama3", &|| from_json("llama3")),
        ("llama3", &|| by_rules("llama3", "llama-bpe")),
        ("llama3 by smaug rules", &|| by_rules("llama3", "smaug-bpe")),
    ];
    for (name, source) in sources {
        if let Some(source) = source() {
            compare(&fixture, name, &source);
            // And as a conversion writes it.
            if matches!(source.tokenizer, TokenizerSource::Json(_)) {
                compare(&fixture, name, &super::exported(&source));
            }
        }
    }
}
