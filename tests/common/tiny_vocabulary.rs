//! A byte-level BPE vocabulary small enough for tests: three control tokens, the 256 bytes, a few merges, padding.

use serde_json::{Value, json};

/// Ids of the control tokens.
pub const END_OF_TEXT: u32 = 0;
pub const IM_START: u32 = 1;
pub const IM_END: u32 = 2;
pub const SPECIALS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
/// Ranks in order; a blank is written as byte-level BPE writes it.
pub const MERGES: [&str; 8] = ["t h", "th e", "Ġ the", "i n", "a n", "an d", "Ġ a", "e r"];
/// Tokens without any padding.
pub const MIN_VOCAB: usize = SPECIALS.len() + 256 + MERGES.len();

pub const CHAT_TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n\
    {{ message['content'] }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// The tokens by id, padded to `vocab`.
pub fn tokens(vocab: usize) -> Vec<String> {
    assert!(vocab >= MIN_VOCAB, "a tiny vocabulary has at least {MIN_VOCAB} tokens");
    let specials = SPECIALS.iter().map(|&text| text.to_owned());
    let bytes = (0..=255u8).map(|byte| byte_char(byte).to_string());
    let merged = MERGES.iter().map(|pair| pair.replace(' ', ""));
    let padding = (0..vocab - MIN_VOCAB).map(|index| format!("<|unused_{index}|>"));
    specials.chain(bytes).chain(merged).chain(padding).collect()
}

/// GGUF's kinds by id: 3 control, 1 normal, 5 unused.
pub fn token_types(vocab: usize) -> Vec<i32> {
    (0..vocab).map(|id| if id < SPECIALS.len() { 3 } else { i32::from(id >= MIN_VOCAB) * 4 + 1 }).collect()
}

/// Byte-level BPE shows a byte as a printable character: itself where it is one, else the next free one from 256 on.
pub fn byte_char(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|&other| !printable(other)).count() as u32;
    char::from_u32(256 + rank).expect("a character below 512")
}

/// The same vocabulary as a Hugging Face `tokenizer.json`.
pub fn tokenizer_json(vocab: usize) -> Value {
    let ids: serde_json::Map<String, Value> =
        tokens(vocab).into_iter().enumerate().map(|(id, token)| (token, json!(id))).collect();
    let added: Vec<Value> = SPECIALS
        .iter()
        .enumerate()
        .map(|(id, content)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": ids,
                  "merges": MERGES},
    })
}
