//! The arrows between modules, and the size of files. Cargo does not enforce them inside one package, so this reads the
//! source: every path from the crate's root, or up to it, must lead along an arrow of [`MAY_IMPORT`].

use std::path::{Path, PathBuf};

/// What each module of the library may name. The root, the binary and its subcommands may name everything.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("random", &[]),
    ("origin", &["error"]),
    ("config", &["error"]),
    ("gpu", &["error"]),
    ("format", &["gpu", "error"]),
    ("kernels", &["format", "gpu", "error"]),
    ("text", &["config", "error"]),
    ("protocol", &["text", "config", "error"]),
    ("chat", &["protocol", "text", "config", "error"]),
    ("model", &["origin", "kernels", "format", "gpu", "config", "error"]),
    ("prune", &["model", "kernels", "format", "gpu", "config", "error"]),
    ("engine", &["prune", "model", "kernels", "format", "gpu", "config", "random", "error"]),
    ("llama", &["model", "format", "gpu", "config", "error"]),
    ("peers", &["llama", "model", "format", "gpu", "config", "error"]),
    ("bench", &["peers", "engine", "prune", "model", "kernels", "format", "gpu", "config", "error"]),
    ("session", &["engine", "prune", "model", "gpu", "text", "protocol", "config", "error"]),
    ("tune", &["llama", "prune", "model", "gpu", "config", "random", "error"]),
    ("eval", &["engine", "prune", "text", "config", "random", "error"]),
    ("app", &["origin", "session", "chat", "protocol", "text", "config", "error"]),
];
const FREE: &[&str] = &["lib", "main", "bin", "cli", "page"];
const LONGEST_FILE: usize = 600;

/// A file's text without comments, and with strings and characters emptied.
fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let starts = |at: usize, with: &str| with.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let raw_hashes = chars[at..].iter().skip(1).take_while(|&&c| c == '#').count();
        let word_before = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
        if starts(at, "//") {
            at += chars[at..].iter().take_while(|&&c| c != '\n').count();
        } else if starts(at, "/*") {
            let mut depth = 0;
            loop {
                depth += i32::from(starts(at, "/*")) - i32::from(starts(at, "*/"));
                at += if starts(at, "/*") || starts(at, "*/") { 2 } else { 1 };
                if depth == 0 || at >= chars.len() {
                    break;
                }
            }
        } else if chars[at] == 'r' && !word_before && chars.get(at + 1 + raw_hashes) == Some(&'"') {
            let close: String = std::iter::once('"').chain(std::iter::repeat_n('#', raw_hashes)).collect();
            at += 2 + raw_hashes;
            while at < chars.len() && !starts(at, &close) {
                at += 1;
            }
            at += close.len();
            code += "\"\"";
        } else if chars[at] == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
            code += "\"\"";
        } else if chars[at] == '\'' && (starts(at + 1, "\\") || chars.get(at + 2) == Some(&'\'')) {
            // A character, not a lifetime.
            at += if starts(at + 1, "\\") { 3 } else { 2 };
            while at < chars.len() && chars[at] != '\'' {
                at += 1;
            }
            at += 1;
            code += "''";
        } else {
            code.push(chars[at]);
            at += 1;
        }
    }
    code
}

/// Words and punctuation; `::` is one token.
fn tokens(code: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut word = false;
    for c in code.chars() {
        let continues = c.is_alphanumeric() || c == '_';
        match tokens.last_mut() {
            Some(last) if continues && word => last.push(c),
            Some(last) if c == ':' && last == ":" => last.push(c),
            _ if !c.is_whitespace() => tokens.push(c.to_string()),
            _ => {}
        }
        word = continues;
    }
    tokens
}

/// The first words of what follows a `::`: one, or all of a group in braces.
fn heads(tokens: &[String]) -> Vec<String> {
    if tokens.first().is_none_or(|token| token != "{") {
        return tokens.first().cloned().into_iter().collect();
    }
    let mut heads = Vec::new();
    let (mut depth, mut fresh) = (0, false);
    for token in tokens {
        match token.as_str() {
            "{" => (depth, fresh) = (depth + 1, depth == 0),
            "}" => depth -= 1,
            "," => fresh = depth == 1,
            _ if fresh => {
                heads.push(token.clone());
                fresh = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

/// What a file names at the crate's root, where the file is the module `path` (of one name at least).
fn named_at_root(path: &[&str], text: &str) -> Vec<String> {
    let tokens = tokens(&code_only(text));
    let mut named = Vec::new();
    // Braces that are open, and which of them belong to modules inside the file.
    let (mut braces, mut inner) = (0usize, Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let is = |offset: usize, token: &str| tokens.get(at + offset).is_some_and(|found| found == token);
        if is(0, "mod") && is(2, "{") {
            inner.push(braces);
        }
        if is(0, "{") {
            braces += 1;
        } else if is(0, "}") {
            braces = braces.saturating_sub(1);
            inner.pop_if(|open| *open == braces);
        }
        let ups =
            tokens[at..].chunks(2).take_while(|pair| pair[0] == "super" && pair.get(1).is_some_and(|t| t == "::"));
        let ups = ups.count();
        if is(0, "crate") && is(1, "::") {
            named.extend(heads(&tokens[at + 2..]));
        } else if ups > 0 && ups == path.len() + inner.len() {
            named.extend(heads(&tokens[at + 2 * ups..]));
        }
        at += (2 * ups).max(1);
    }
    named
}

/// Complaints about the arrows of one file; `file` is its path under `src`, with slashes.
fn forbidden(file: &str, text: &str) -> Vec<String> {
    let path: Vec<&str> = file.trim_end_matches(".rs").trim_end_matches("/mod").split('/').collect();
    let module = path[0];
    if FREE.contains(&module) {
        return Vec::new();
    }
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
        return vec![format!("{file}: the module `{module}` has no line in the table")];
    };
    let mut complaints = Vec::new();
    for name in named_at_root(&path, text) {
        // The root re-exports these two of `error`.
        let name = if ["Error", "Result"].contains(&name.as_str()) { "error" } else { &name };
        if name != module && !allowed.contains(&name) {
            complaints.push(format!("{file}: `{module}` may not import `{name}`, only {allowed:?}"));
        }
    }
    complaints
}

/// Every Rust file under `src`: its path there, with slashes, and its text.
fn sources() -> Vec<(String, String)> {
    fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => collect(&path, files),
                false => files.push(path),
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a source");
        let parts = path.strip_prefix(&root).expect("a path under src").components();
        let parts: Vec<String> = parts.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        (parts.join("/"), text)
    };
    files.into_iter().map(read).collect()
}

#[test]
fn modules_import_along_the_arrows() {
    let complaints: Vec<String> = sources().iter().flat_map(|(file, text)| forbidden(file, text)).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn files_can_be_read_in_one_sitting() {
    let lengths = sources().into_iter().map(|(file, text)| (text.lines().count(), file));
    let long: Vec<(usize, String)> = lengths.filter(|(lines, _)| *lines > LONGEST_FILE).collect();
    assert!(long.is_empty(), "longer than {LONGEST_FILE} lines: {long:?}");
}

#[test]
fn the_table_has_no_cycle() {
    for (line, (module, allowed)) in MAY_IMPORT.iter().enumerate() {
        let earlier = |name: &&str| MAY_IMPORT[..line].iter().any(|(other, _)| other == name);
        assert!(allowed.iter().all(earlier), "`{module}` may import only what is listed before it");
    }
}

#[test]
fn a_forbidden_arrow_is_found_however_it_is_written() {
    let imports = |file: &str, text: &str| {
        let only = |complaint: &String| complaint.split('`').nth(3).unwrap_or("").to_string();
        forbidden(file, text).iter().map(only).collect::<Vec<_>>()
    };
    for text in [
        "use crate::engine::Forward;",
        "use crate::{error::Error, engine};",
        "use crate::{\n    error::{Error, Result},\n    engine::{self, Cache},\n};",
        "fn run() -> crate :: engine::Cache { todo!() }",
        "use super::super::engine;",
        "use super::super::{engine::Cache, error};",
        "mod tests { use super::super::super::engine; }",
        "mod tests { fn f() {} } use super::super::engine;",
        "fn f<'a>(c: &'a str) { g('\"', '\\'', r#\"\"\"#); crate::engine::h() }",
    ] {
        assert_eq!(imports("kernels/rope_append.rs", text), ["engine"], "{text}");
    }
    assert_eq!(imports("kernels/mod.rs", "use super::engine;"), ["engine"]);
    assert_eq!(imports("model/gguf/reader.rs", "use super::super::super::text::Spm;"), ["text"]);
    assert_eq!(forbidden("newcomer.rs", ""), ["newcomer.rs: the module `newcomer` has no line in the table"]);
}

#[test]
fn what_is_allowed_is_not_complained_about() {
    for (file, text) in [
        ("kernels/rope_append.rs", "use crate::gpu::Buffer; use super::lanes; use crate::{Error, Result};"),
        (
            "kernels/rope_append.rs",
            "// crate::engine\n/* crate::engine /* nested */ crate::engine */ /// [`crate::engine`]",
        ),
        ("kernels/rope_append.rs", "const TEXT: &str = \"use crate::engine \\\" crate::engine\";"),
        ("kernels/rope_append.rs", "mod tests { use super::*; use super::super::engine_of_kernels; }"),
        ("model/gguf/reader.rs", "use super::super::tensor::TensorType; pub(in crate::model) fn f() {}"),
        ("main.rs", "use secateur::engine; fn main() { crate::cli::run() }"),
        ("cli/chat.rs", "use crate::app; use crate::engine;"),
    ] {
        assert_eq!(forbidden(file, text), [""; 0], "{text}");
    }
}
