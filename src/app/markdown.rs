//! Answers as Markdown, while they grow.
//!
//! A text is cut into blocks at blank lines. A block that is finished is never looked for again, and one that is out of
//! sight is not parsed: a long answer costs no more per frame than what is on the screen. Fenced code is a block of its own,
//! with its language and a button that copies it.

use super::theme::{self, SPACE};
use eframe::egui::{self, Frame, Margin, RichText, ScrollArea, TextStyle, Ui, Vec2};
use egui_commonmark::{CommonMarkCache, CommonMarkViewer};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Prose,
    /// The language as the fence names it, and the lines between the fences.
    Code(String, Range<usize>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    range: Range<usize>,
    kind: Kind,
}

/// The blocks of one text.
#[derive(Debug, Default)]
struct Blocks {
    /// Blocks that no further text can change.
    finished: Vec<Block>,
    /// The last block; it grows.
    last: Vec<Block>,
    /// Width and height at which each was drawn last, in points.
    drawn: Vec<Vec2>,
}

/// All texts that are on the screen.
#[derive(Default)]
pub struct Markdown {
    cache: CommonMarkCache,
    texts: HashMap<u64, Blocks>,
}

impl Markdown {
    /// Forgets all texts.
    pub fn clear(&mut self) {
        self.texts.clear();
    }

    /// Draws a text. `key` is its own; under one key a text may only grow, or be replaced by a shorter one.
    pub fn show(&mut self, ui: &mut Ui, key: u64, text: &str) {
        let blocks = self.texts.entry(key).or_default();
        blocks.update(text);
        // Rows of text are no controls: numbers of a list stand on the line of its words.
        ui.spacing_mut().interact_size.y = ui.text_style_height(&TextStyle::Body);
        let width = ui.available_width();
        blocks.drawn.resize(blocks.finished.len() + blocks.last.len(), Vec2::ZERO);
        for (place, block) in blocks.finished.iter().chain(&blocks.last).enumerate() {
            let drawn = &mut blocks.drawn[place];
            let finished = place < blocks.finished.len();
            let there = egui::Rect::from_min_size(ui.cursor().min, *drawn);
            if finished && drawn.x == width && !ui.is_rect_visible(there) {
                ui.allocate_space(*drawn);
                continue;
            }
            let before = ui.cursor().min.y;
            ui.push_id((key, place), |ui| match &block.kind {
                Kind::Prose => {
                    let prose = hard_breaks(text[block.range.clone()].trim_end());
                    CommonMarkViewer::new().show(ui, &mut self.cache, &prose);
                }
                Kind::Code(language, lines) => code(ui, language, text[lines.clone()].trim_end_matches('\n')),
            });
            *drawn = Vec2::new(width, ui.cursor().min.y - before - ui.spacing().item_spacing.y);
        }
    }
}

/// The same text with the ends of its lines kept: models mean them, and people expect to see them.
fn hard_breaks(prose: &str) -> Cow<'_, str> {
    // Code inside of a list keeps its lines anyway, and is copied as it is.
    if !prose.contains('\n') || prose.contains("```") || prose.contains("~~~") {
        return Cow::Borrowed(prose);
    }
    // Items, headings, quotes and rows of a table have lines of their own, and what is ruled is no line of text.
    let plain = |line: &str| {
        let line = line.trim_start();
        let item = line.trim_start_matches(|c: char| c.is_ascii_digit());
        let numbered = item.len() < line.len() && item.starts_with(['.', ')']);
        let marked = ["- ", "* ", "+ ", "#", ">", "|"].iter().any(|mark| line.starts_with(mark));
        let ruled = line.chars().all(|c| matches!(c, '-' | '*' | '_' | '='));
        !line.is_empty() && !marked && !ruled && !numbered
    };
    let mut kept = String::with_capacity(prose.len() + 16);
    let mut lines = prose.lines().peekable();
    while let Some(line) = lines.next() {
        kept.push_str(line.trim_end());
        if let Some(next) = lines.peek() {
            kept.push_str(if plain(next) && !line.trim().is_empty() { "  \n" } else { "\n" });
        }
    }
    Cow::Owned(kept)
}

/// Lines of code under their language, with a button that copies them.
fn code(ui: &mut Ui, language: &str, lines: &str) {
    let frame = Frame::new().fill(ui.visuals().extreme_bg_color).stroke(ui.visuals().window_stroke);
    frame.corner_radius(8.0).inner_margin(Margin::symmetric(12, 8)).show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.horizontal(|ui| {
            theme::aside(ui, if language.is_empty() { "code" } else { language });
            theme::from_the_right(ui, |ui| {
                if theme::quiet(ui, "Copy code").clicked() {
                    ui.copy_text(lines.to_string());
                }
            });
        });
        ui.add_space(-SPACE / 2.0);
        ScrollArea::horizontal().show(ui, |ui| {
            let text = RichText::new(lines).text_style(TextStyle::Monospace);
            ui.add(egui::Label::new(text).selectable(true).extend());
        });
    });
}

impl Blocks {
    /// Cuts what is new.
    fn update(&mut self, text: &str) {
        let mut start = self.finished.last().map_or(0, |block| block.range.end);
        // Another text under the same key.
        if start > text.len() || !text.is_char_boundary(start) {
            *self = Blocks::default();
            start = 0;
        }
        let mut found = cut(text, start);
        // All but the last have a block behind them and are whole.
        let last = found.split_off(found.len().saturating_sub(1));
        self.finished.append(&mut found);
        self.last = last;
    }
}

/// The blocks of `text` from `start`, which is the beginning of one.
fn cut(text: &str, start: usize) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut begin, mut at) = (start, start);
    let mut blank = false;
    let mut fence: Option<Fence> = None;
    for line in text[start..].split_inclusive('\n') {
        let end = at + line.len();
        match &fence {
            Some(open) if open.is_closed_by(line) => {
                blocks.push(Block { range: begin..end, kind: Kind::Code(open.language.clone(), open.lines..at) });
                (begin, fence, blank) = (end, None, false);
            }
            Some(_) => {}
            None => {
                let opens = Fence::open(line, end);
                // A line that is indented may belong to the list above it.
                let fresh = blank && !line.trim().is_empty() && !line.starts_with([' ', '\t']);
                if (fresh || opens.is_some()) && !text[begin..at].trim().is_empty() {
                    blocks.push(Block { range: begin..at, kind: Kind::Prose });
                    begin = at;
                }
                blank = line.trim().is_empty();
                if opens.is_some() {
                    begin = at;
                }
                fence = opens;
            }
        }
        at = end;
    }
    match fence {
        Some(open) => {
            let lines = open.lines.min(text.len())..text.len();
            blocks.push(Block { range: begin..text.len(), kind: Kind::Code(open.language, lines) });
        }
        None if !text[begin..].trim().is_empty() => {
            blocks.push(Block { range: begin..text.len(), kind: Kind::Prose });
        }
        None => {}
    }
    blocks
}

/// Fenced code that is open.
#[derive(Debug)]
struct Fence {
    mark: char,
    count: usize,
    language: String,
    /// Where its lines begin.
    lines: usize,
}

impl Fence {
    /// The fence that `line` opens, whose code begins at `lines`. Inside lists fences are indented, and left to the
    /// Markdown of the list.
    fn open(line: &str, lines: usize) -> Option<Fence> {
        let mark = line.chars().next().filter(|&mark| mark == '`' || mark == '~')?;
        let count = line.chars().take_while(|&c| c == mark).count();
        let language = line[count..].trim();
        // A line such as ```code``` is inline code.
        (count >= 3 && !(mark == '`' && language.contains('`'))).then(|| Fence {
            mark,
            count,
            language: language.to_string(),
            lines,
        })
    }

    fn is_closed_by(&self, line: &str) -> bool {
        let line = line.trim();
        line.chars().count() >= self.count && line.chars().all(|c| c == self.mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<String> {
        let part = |block: &Block| match &block.kind {
            Kind::Prose => text[block.range.clone()].trim_end().to_string(),
            Kind::Code(language, lines) => format!("<{language}>{}", &text[lines.clone()]),
        };
        cut(text, 0).iter().map(part).collect()
    }

    #[test]
    fn blank_lines_and_fences_cut_a_text() {
        let text = "One\ntwo\n\n\nThree\n```rust\nfn f() {}\n\nfn g() {}\n```\nFour";
        assert_eq!(parts(text), ["One\ntwo", "Three", "<rust>fn f() {}\n\nfn g() {}\n", "Four"]);
    }

    #[test]
    fn the_ends_of_lines_are_kept_where_they_mean_something() {
        assert_eq!(hard_breaks("Roses are red,\nviolets are blue."), "Roses are red,  \nviolets are blue.");
        assert_eq!(hard_breaks("Flour:\n**200 g**"), "Flour:  \n**200 g**");
        assert_eq!(hard_breaks("1. a\n   more\n2. b\n   - c"), "1. a  \n   more\n2. b\n   - c");
        for kept in [
            "one line",
            "- a\n\n  more",
            "| a | b |\n|---|---|\n| 1 | 2 |",
            "1. Run\n   ```sh\n   ls\n   ```",
            "Title\n---",
        ] {
            assert_eq!(hard_breaks(kept), kept);
        }
    }

    #[test]
    fn what_is_indented_stays_with_its_list() {
        assert_eq!(parts("- a\n\n  more of a\n\n- b"), ["- a\n\n  more of a", "- b"]);
    }

    #[test]
    fn a_fence_that_is_open_holds_everything() {
        assert_eq!(parts("~~~\n```\n\nx"), ["<>```\n\nx"]);
        assert_eq!(parts("```"), ["<>"]);
        assert_eq!(parts("```inline``` text"), ["```inline``` text"]);
        assert_eq!(parts(""), [""; 0]);
    }

    #[test]
    fn a_text_that_grows_by_characters_has_the_same_blocks() {
        let text = "Intro\n\n1. one\n\n2. zwei – ö\n\n```py\nprint(1)\n\n```\n\nEnd 字\n\nof it";
        let mut blocks = Blocks::default();
        for (end, _) in text.char_indices() {
            blocks.update(&text[..end]);
        }
        blocks.update(text);
        let all: Vec<Block> = blocks.finished.iter().chain(&blocks.last).cloned().collect();
        let ends = |blocks: &[Block]| blocks.iter().map(|block| block.kind.clone()).collect::<Vec<_>>();
        assert_eq!(ends(&all), ends(&cut(text, 0)));
        blocks.update("Other");
        assert_eq!((blocks.finished.len(), blocks.last.len()), (0, 1));
    }
}
