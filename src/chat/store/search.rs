//! Full-text search: what is indexed, what is asked, what is shown of a match.
//!
//! The index cuts texts at everything that is no letter, mark or digit, and takes case and diacritics away (FTS5's
//! `unicode61`). Chinese, Japanese, Thai and their like are written without spaces: each of their characters is set apart
//! before indexing, and a word of a query becomes the phrase of its characters. So any part of a sentence is found, from one
//! character on; FTS5's `trigram` would find nothing shorter than three, and most Chinese words have two.
//!
//! Invariant: a query cannot be an error. Every word is quoted, so FTS5 reads no syntax in it.

use super::{Found, Store};
use crate::error::Result;
use rusqlite::{Connection, params};
use std::collections::{HashMap, HashSet};
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

const MATCHES: &str = "
SELECT conversation.id, node.id, words.rowid, words.rank, conversation.updated FROM words
LEFT JOIN node ON node.key = words.rowid
JOIN conversation ON conversation.id = coalesce(node.conversation, -words.rowid)
WHERE words MATCH ?1 AND conversation.deleted IS NULL";

const SNIPPET: &str = "SELECT snippet(words, 0, ?3, ?4, '…', ?5) FROM words WHERE words MATCH ?1 AND words.rowid = ?2";

/// Puts a text into the index, in place of the one that was there.
pub(super) fn index(db: &Connection, row: i64, text: &str) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO words (rowid, text) VALUES (?1, ?2)")?
        .execute(params![row, apart(text)])?;
    Ok(())
}

/// One text or title that matches.
struct Hit {
    conversation: i64,
    node: Option<i64>,
    row: i64,
    /// Lower is better.
    rank: f64,
    updated: i64,
}

impl Store {
    /// Conversations whose title or messages hold every word of `query` (the last word may be unfinished), best first.
    /// The words may be spread over several messages; the one with the best match is shown.
    pub fn search(&self, query: &str) -> Result<Vec<Found>> {
        self.read(|db| search(db, query))
    }
}

fn search(db: &Connection, query: &str) -> rusqlite::Result<Vec<Found>> {
    let terms = terms(query);
    if terms.is_empty() {
        return Ok(Vec::new());
    }
    let any = terms.join(" OR ");
    let mut hits = hits(db, &any)?;
    if terms.len() > 1 {
        for term in &terms {
            let holding: HashSet<i64> = self::hits(db, term)?.iter().map(|hit| hit.conversation).collect();
            hits.retain(|hit| holding.contains(&hit.conversation));
        }
    }
    let mut best: HashMap<i64, Hit> = HashMap::new();
    for hit in hits {
        match best.get_mut(&hit.conversation) {
            Some(before) if before.rank <= hit.rank => {}
            Some(before) => *before = hit,
            None => drop(best.insert(hit.conversation, hit)),
        }
    }
    let mut best: Vec<Hit> = best.into_values().collect();
    best.sort_by(|a, b| {
        a.rank.total_cmp(&b.rank).then(b.updated.cmp(&a.updated)).then(b.conversation.cmp(&a.conversation))
    });
    best.truncate(MOST_FOUND);

    let mut snippets = db.prepare_cached(SNIPPET)?;
    let mut found = Vec::with_capacity(best.len());
    for hit in best {
        let (open, close) = (OPEN.to_string(), CLOSE.to_string());
        let snippet: String =
            snippets.query_row(params![any, hit.row, open, close, SNIPPET_TOKENS], |row| row.get(0))?;
        let (snippet, marks) = one_line(&snippet);
        found.push(Found { id: hit.conversation, node: hit.node.map(i64::cast_unsigned), snippet, marks });
    }
    Ok(found)
}

fn hits(db: &Connection, term: &str) -> rusqlite::Result<Vec<Hit>> {
    let mut statement = db.prepare_cached(MATCHES)?;
    let hits = statement.query_map([term], |row| {
        let (conversation, node, row_id) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(Hit { conversation, node, row: row_id, rank: row.get(3)?, updated: row.get(4)? })
    })?;
    hits.collect()
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
