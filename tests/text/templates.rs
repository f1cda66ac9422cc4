//! Chat templates of our own, which use what the models' templates use, against what transformers makes of them
//! (`tests/fixtures/text/make_templates.py`, which also holds the templates).

use super::vocabularies::*;
use secateur::config::TextSource;
use secateur::text::{ChatTemplate, Message, Tokenizer};
use serde_json::Value;

#[test]
fn templates_render_as_transformers_renders_them() {
    let fixture: Value = serde_json::from_str(include_str!("../fixtures/text/templates.json")).expect("the fixture");
    let talks: Vec<Vec<(String, String)>> =
        serde_json::from_value(fixture["conversations"].clone()).expect("conversations");
    let t = Tokenizer::new(&gguf(piece_vocabulary())).expect("a sound vocabulary");
    let mut wrong = String::new();
    for case in fixture["cases"].as_array().expect("cases") {
        let source = TextSource {
            chat_template: case["template"].as_str().map(str::to_owned),
            bos_token_id: Some(1),
            eos_token_ids: vec![2],
            ..gguf(piece_vocabulary())
        };
        let template = ChatTemplate::new(&source, &t).unwrap_or_else(|error| panic!("{}: {error}", case["name"]));
        for (talk, expected) in talks.iter().zip(case["rendered"].as_array().expect("renderings")) {
            let messages: Vec<Message> = talk.iter().map(|(role, content)| Message::new(role, content)).collect();
            let found = template.render(&messages, true).map_err(|error| error.to_string());
            let right = match (&found, expected["text"].as_str()) {
                (Ok(found), Some(expected)) => found == expected,
                // What a template says itself is said again; other errors have words of their own.
                (Err(found), None) => {
                    let message = expected["error"].as_str().expect("a message");
                    !case["template"].as_str().unwrap_or_default().contains("raise_exception")
                        || found.contains(message)
                }
                _ => false,
            };
            if !right {
                wrong += &format!("{} of {talk:?}:\n  {found:?}\n  {expected}\n", case["name"]);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn errors_name_the_file_and_the_line() {
    let t = Tokenizer::new(&gguf(piece_vocabulary())).expect("a sound vocabulary");
    let errors = |template: &str, file: Option<&str>| {
        let source = TextSource {
            chat_template: Some(template.into()),
            chat_template_file: file.map(str::to_owned),
            ..gguf(piece_vocabulary())
        };
        let made = ChatTemplate::new(&source, &t);
        made.and_then(|made| made.render(&[Message::new("user", "x")], true)).unwrap_err().to_string()
    };
    let file = Some("models/x/chat_template.jinja");
    let broken = errors("{% for m in messages %}\n{{ m.role }\n{% endfor %}", file);
    assert!(broken.starts_with("the chat template (models/x/chat_template.jinja) is not valid"), "{broken}");
    assert!(broken.contains("chat_template:2"), "{broken}");
    let refused = errors("a\nb\n{{ raise_exception('no') }}", file);
    assert!(refused.starts_with("the chat template (models/x/chat_template.jinja) refuses"), "{refused}");
    assert!(refused.contains("no (in chat_template:3)"), "{refused}");
    assert!(errors("{{", None).starts_with("the chat template is not valid"));
}
