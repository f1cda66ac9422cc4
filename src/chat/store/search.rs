//! Full-text search: what is indexed, what is asked, what is shown of a match.
//!
//! The index cuts texts at everything that is no letter, mark or digit, and takes case and diacritics away (FTS5's
//! `unicode61`). Chinese, Japanese, Thai and their like are written without spaces: each of their characters is set apart
//! before indexing, and a word of a query becomes the phrase of its characters. So any part of a sentence is found, from one
//! character on; FTS5's `trigram` would find nothing shorter than three, and most Chinese words have two.
//!
//! A row's number says whose it is, see [`row`]: to look that up for ten thousand messages that hold a common word takes
//! longer than to find them.
//!
//! Invariant: a query cannot be an error. Every word is quoted, so FTS5 reads no syntax in it.

use super::{Found, NodeId, Store};
use crate::error::Result;
use rusqlite::{Connection, params};
use std::collections::HashMap;
use std::ops::Range;

/// Conversations in an answer: more than anyone reads.
const MOST_FOUND: usize = 50;
/// Words of a query; those behind are ignored.
const MOST_WORDS: usize = 16;
/// Tokens of a snippet: two lines of a side panel.
const SNIPPET_TOKENS: i64 = 24;

// None of these is left in an indexed text: control characters become spaces there.
const APART: char = '\u{1f}';
const OPEN: char = '\u{2}';
const CLOSE: char = '\u{3}';

/// The plus keeps the index from being asked for each row by itself: an unfinished word is put together anew every time.
const SNIPPETS: &str = "
SELECT words.rowid, snippet(words, 0, ?3, ?4, '…', ?5) FROM words
WHERE words MATCH ?1 AND +words.rowid IN (SELECT value FROM json_each(?2))";

/// Bits of a row's number that are the message's; the tree keeps its numbers below.
const MESSAGE_BITS: u32 = 24;

/// The row of a message in the index; `None` = of the conversation's title. The triggers of the schema know it too.
fn row(conversation: i64, node: Option<NodeId>) -> i64 {
    conversation << MESSAGE_BITS | node.map_or(0, u64::cast_signed)
}

/// Puts a text into the index, in place of the one that was there.
pub(super) fn index(db: &Connection, conversation: i64, node: Option<NodeId>, text: &str) -> rusqlite::Result<()> {
    const INDEX: &str = "INSERT OR REPLACE INTO words (rowid, text) VALUES (?1, ?2)";
    db.prepare_cached(INDEX)?.execute(params![row(conversation, node), apart(text)])?;
    Ok(())
}

impl Store {
    /// Conversations whose title or messages hold every word of `query` (the last word may be unfinished), best first.
    /// The words may be spread over several messages: better is what holds more of them in one place, then a title, then
    /// what changed last.
    pub fn search(&self, query: &str) -> Result<Vec<Found>> {
        self.read(|db| search(db, query))
    }
}

/// What a conversation has of a query; the greatest is shown first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Match {
    /// Words that its best row holds.
    words: u32,
    is_title: bool,
    updated: i64,
    conversation: i64,
    /// Its best row.
    row: i64,
}

fn search(db: &Connection, query: &str) -> rusqlite::Result<Vec<Found>> {
    let terms = terms(query);
    if terms.is_empty() {
        return Ok(Vec::new());
    }
    let mut matches = matches(db, &terms)?;
    matches.sort_unstable_by(|a, b| b.cmp(a));
    matches.truncate(MOST_FOUND);

    let rows: Vec<i64> = matches.iter().map(|found| found.row).collect();
    let mut snippets = snippets(db, &terms.join(" OR "), &rows)?;
    let found = |Match { conversation, is_title, row: at, .. }| {
        let (snippet, marks) = one_line(&snippets.remove(&at)?);
        let node = (!is_title).then_some((at - row(conversation, None)).cast_unsigned());
        Some(Found { id: conversation, node, snippet, marks })
    };
    Ok(matches.into_iter().filter_map(found).collect())
}

/// The conversations in the list that hold every term, in no order.
fn matches(db: &Connection, terms: &[String]) -> rusqlite::Result<Vec<Match>> {
    // By row, a bit for each term that it holds.
    let mut held: HashMap<i64, u32> = HashMap::new();
    for (bit, term) in terms.iter().enumerate() {
        let mut statement = db.prepare_cached("SELECT rowid FROM words WHERE words MATCH ?1")?;
        let mut rows = statement.query([term])?;
        while let Some(row) = rows.next()? {
            *held.entry(row.get(0)?).or_default() |= 1 << bit;
        }
    }
    // By conversation, the terms that it holds and its best row.
    let mut best: HashMap<i64, (u32, Match)> = HashMap::new();
    for (at, terms) in held {
        let conversation = at >> MESSAGE_BITS;
        let is_title = at == row(conversation, None);
        let (all, found) = best.entry(conversation).or_default();
        *all |= terms;
        *found = (*found).max(Match { words: terms.count_ones(), is_title, updated: 0, conversation, row: at });
    }
    let mut statement = db.prepare_cached("SELECT id, updated FROM conversation WHERE deleted IS NULL")?;
    let mut rows = statement.query([])?;
    let mut matches = Vec::new();
    while let Some(row) = rows.next()? {
        match best.get(&row.get(0)?) {
            Some(&(all, found)) if all.count_ones() as usize == terms.len() => {
                matches.push(Match { updated: row.get(1)?, ..found });
            }
            _ => {}
        }
    }
    Ok(matches)
}

/// By row, the words around what `terms` match.
fn snippets(db: &Connection, terms: &str, rows: &[i64]) -> rusqlite::Result<HashMap<i64, String>> {
    let rows = format!("[{}]", rows.iter().map(i64::to_string).collect::<Vec<_>>().join(","));
    let (open, close) = (OPEN.to_string(), CLOSE.to_string());
    let mut statement = db.prepare_cached(SNIPPETS)?;
    let snippets =
        statement.query_map(params![terms, rows, open, close, SNIPPET_TOKENS], |row| Ok((row.get(0)?, row.get(1)?)))?;
    snippets.collect()
}

/// The words of a query as FTS5 strings. The last one is a beginning, unless a space says that it is finished.
fn terms(query: &str) -> Vec<String> {
    let query = query.replace(char::is_control, " ");
    let finished = query.ends_with(char::is_whitespace);
    let words: Vec<&str> = query.split_whitespace().take(MOST_WORDS).collect();
    let last = words.len().saturating_sub(1);
    let term = |(place, word): (usize, &&str)| {
        let beginning = if place == last && !finished { " *" } else { "" };
        format!("\"{}\"{beginning}", apart(word).replace('"', "\"\""))
    };
    // Punctuation alone is no word of the index.
    words.iter().enumerate().filter(|(_, word)| word.contains(char::is_alphanumeric)).map(term).collect()
}

/// The text as it is indexed: control characters are spaces, characters of scripts without spaces stand apart.
fn apart(text: &str) -> String {
    let mut apart = String::with_capacity(text.len());
    let mut after_alone = false;
    for c in text.chars() {
        let alone = is_written_without_spaces(c);
        if alone || after_alone {
            apart.push(APART);
        }
        apart.push(if c.is_control() { ' ' } else { c });
        after_alone = alone;
    }
    apart
}

fn is_written_without_spaces(c: char) -> bool {
    matches!(u32::from(c),
        0x0e00..=0x0eff // Thai, Lao
        | 0x1000..=0x109f // Myanmar
        | 0x1780..=0x17ff // Khmer
        | 0x3005..=0x3007 | 0x3040..=0x30ff | 0x31f0..=0x31ff | 0xff66..=0xff9f // kana
        | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x20000..=0x3ffff) // Han
}

/// A snippet on one line, without the marks, and the byte ranges that were marked.
fn one_line(snippet: &str) -> (String, Vec<Range<usize>>) {
    let (mut line, mut marks, mut open) = (String::with_capacity(snippet.len()), Vec::new(), None);
    for c in snippet.chars() {
        match c {
            APART => {}
            OPEN => open = Some(line.len()),
            CLOSE => marks.extend(open.take().map(|start: usize| start..line.len())),
            _ if c.is_whitespace() => {
                if !line.is_empty() && !line.ends_with(' ') {
                    line.push(' ');
                }
            }
            _ => line.push(c),
        }
    }
    line.truncate(line.trim_end().len());
    (line, marks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_becomes_quoted_words_and_an_open_end() {
        assert_eq!(terms("Hello wor"), ["\"Hello\"", "\"wor\" *"]);
        assert_eq!(terms(" done \t"), ["\"done\""]);
        assert_eq!(terms("a\"b OR NEAR( -x"), ["\"a\"\"b\"", "\"OR\"", "\"NEAR(\"", "\"-x\" *"]);
        assert_eq!(terms("!? ** \"\" \0"), [""; 0]);
        assert_eq!(terms("中文"), ["\"\u{1f}中\u{1f}文\" *"]);
    }

    #[test]
    fn a_snippet_is_one_line_with_its_marks() {
        let (line, marks) = one_line("… two\n\n \u{2}lines\u{3} and\u{1f}\u{2}é\u{3} ");
        assert_eq!(line, "… two lines andé");
        assert_eq!(marks.iter().map(|mark| &line[mark.clone()]).collect::<Vec<_>>(), ["lines", "é"]);
    }
}
