//! Messages and their probes, as rows.

use super::{Store, json, now, read_json, search};
use crate::chat::{Node, NodeId, Role, heat_codec};
use crate::error::Result;
use crate::protocol::Heat;
use rusqlite::{Connection, OptionalExtension, params};
use serde::de::DeserializeOwned;
use std::sync::Arc;

const UPSERT: &str = "
INSERT INTO node (conversation, id, parent, role, text, created, error, figures, stop, comparison, left_out, prompt)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
ON CONFLICT (conversation, id) DO UPDATE SET
    parent = excluded.parent, role = excluded.role, text = excluded.text, created = excluded.created,
    error = excluded.error, figures = excluded.figures, stop = excluded.stop, comparison = excluded.comparison,
    left_out = excluded.left_out, prompt = excluded.prompt";

const LOAD: &str = "
SELECT id, parent, role, text, created, error, figures, stop, comparison, left_out, prompt FROM node
WHERE conversation = ?1 ORDER BY id";

const SAVE_HEAT: &str = "
INSERT INTO heat (node, place, data) SELECT key, ?3, ?4 FROM node WHERE conversation = ?1 AND id = ?2
ON CONFLICT (node, place) DO UPDATE SET data = excluded.data";

const HEATS: &str = "
SELECT data FROM heat WHERE node = (SELECT key FROM node WHERE conversation = ?1 AND id = ?2) ORDER BY place";

/// A message as its columns.
pub(super) struct Row<'a> {
    node: &'a Node,
    figures: Option<String>,
    stop: Option<String>,
    comparison: Option<String>,
    left_out: Option<String>,
    prompt: Option<String>,
}

impl Row<'_> {
    /// The columns of `node`.
    pub(super) fn of(node: &Node) -> Result<Row<'_>> {
        let list = |empty: bool, json: Result<String>| if empty { Ok(None) } else { json.map(Some) };
        Ok(Row {
            node,
            figures: node.figures.as_ref().map(json).transpose()?,
            stop: node.stop.as_ref().map(json).transpose()?,
            comparison: node.comparison.as_ref().map(json).transpose()?,
            left_out: list(node.left_out.is_empty(), json(&node.left_out))?,
            prompt: list(node.prompt.is_empty(), json(&node.prompt))?,
        })
    }
}

impl Store {
    /// Keeps a message, new or changed, and moves its conversation to the top of the list. Its parent must be kept before.
    pub fn save_node(&self, conversation: i64, node: &Node) -> Result<()> {
        const TOUCH: &str = "UPDATE conversation SET updated = ?2 WHERE id = ?1";
        let row = Row::of(node)?;
        let touched = self.write(|db| {
            let touched = db.prepare_cached(TOUCH)?.execute(params![conversation, now()])?;
            if touched > 0 {
                upsert(db, conversation, &row)?;
            }
            Ok(touched)
        })?;
        self.expect(touched, || format!("the conversation {conversation}"))
    }

    /// Keeps a probe of an answer; its place is `heat.index`.
    pub fn save_heat(&self, conversation: i64, node: NodeId, heat: &Heat) -> Result<()> {
        let data = heat_codec::encode(heat)?;
        let saved = self.write(|db| {
            db.prepare_cached(SAVE_HEAT)?.execute(params![conversation, node.cast_signed(), heat.index as i64, data])
        })?;
        self.expect(saved, || format!("message {node} of the conversation {conversation}"))
    }

    /// The probes of an answer, in order. One that cannot be read is left out: the heatmap shows what there is.
    pub fn heats(&self, conversation: i64, node: NodeId) -> Result<Vec<Arc<Heat>>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(HEATS)?;
            let mut rows = statement.query(params![conversation, node.cast_signed()])?;
            let mut heats = Vec::new();
            while let Some(row) = rows.next()? {
                match heat_codec::decode(row.get_ref(0)?.as_blob()?) {
                    Ok(heat) => heats.push(Arc::new(heat)),
                    Err(error) => tracing::warn!(conversation, node, error, "a probe cannot be read and is left out"),
                }
            }
            Ok(heats)
        })
    }
}

/// Writes a message, and its words where they are new: an answer is kept once more for every figure beside it.
pub(super) fn upsert(db: &Connection, conversation: i64, row: &Row<'_>) -> rusqlite::Result<()> {
    const SAME: &str = "SELECT text = ?3 FROM node WHERE conversation = ?1 AND id = ?2";
    let node = row.node;
    let same = params![conversation, node.id.cast_signed(), node.text];
    let same = db.prepare_cached(SAME)?.query_row(same, |row| row.get(0)).optional()?;
    db.prepare_cached(UPSERT)?.execute(params![
        conversation,
        node.id.cast_signed(),
        node.parent.map(u64::cast_signed),
        node.role.name(),
        node.text,
        node.created,
        node.error,
        row.figures,
        row.stop,
        row.comparison,
        row.left_out,
        row.prompt
    ])?;
    if same == Some(true) { Ok(()) } else { search::index(db, conversation, Some(node.id), &node.text) }
}

/// Every message of a conversation, oldest first.
pub(super) fn load(db: &Connection, conversation: i64) -> rusqlite::Result<Vec<Node>> {
    let mut statement = db.prepare_cached(LOAD)?;
    let mut rows = statement.query([conversation])?;
    let mut nodes = Vec::new();
    while let Some(row) = rows.next()? {
        nodes.push(Node {
            id: row.get::<_, i64>(0)?.cast_unsigned(),
            parent: row.get::<_, Option<i64>>(1)?.map(i64::cast_unsigned),
            role: if row.get_ref(2)?.as_str()? == Role::User.name() { Role::User } else { Role::Assistant },
            text: row.get(3)?,
            created: row.get(4)?,
            error: row.get(5)?,
            figures: parsed(row, 6)?,
            stop: parsed(row, 7)?,
            comparison: parsed(row, 8)?,
            left_out: parsed(row, 9)?.unwrap_or_default(),
            prompt: parsed(row, 10)?.unwrap_or_default(),
        });
    }
    Ok(nodes)
}

/// A JSON column. Its text is borrowed: a prompt is large, and only what it holds is wanted.
fn parsed<T: DeserializeOwned>(row: &rusqlite::Row, column: usize) -> rusqlite::Result<Option<T>> {
    Ok(row.get_ref(column)?.as_str_or_null()?.and_then(read_json))
}
