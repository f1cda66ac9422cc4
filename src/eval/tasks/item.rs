//! From a row of a data set to what is asked: one small description a task, after lm-eval's `tasks/*/*.yaml`.

use super::TaskName;
use crate::error::{Error, Result};
use crate::eval::rows::Row;
use serde_json::Value;

/// One answer, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What stands before the ending.
    pub context: String,
    /// What is scored, its leading blank included.
    pub ending: String,
    /// Characters (Unicode scalar values) of the answer as the data set writes it: what `acc_norm` divides by.
    pub chars: usize,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The answers, in the data set's order.
    pub choices: Vec<Choice>,
    /// Index of the right one.
    pub gold: usize,
}

impl Item {
    /// Reads a row of `task`, by the names that Hugging Face's data sets give their fields.
    ///
    /// # Errors
    /// [`Error::BadFile`] with the row's place: a field is missing or of another kind, the answer is not given or none of
    /// those there are, or there are fewer than two.
    pub fn read(task: TaskName, row: &Row<'_>) -> Result<Item> {
        let item = match task {
            TaskName::BoolQ => boolq(row),
            TaskName::Piqa => piqa(row),
            TaskName::HellaSwag => hellaswag(row),
            TaskName::WinoGrande => winogrande(row),
            TaskName::ArcEasy | TaskName::ArcChallenge => {
                lettered(row, format!("Question: {}\nAnswer:", row.text("question")?))
            }
            TaskName::OpenBookQa => lettered(row, row.text("question_stem")?.to_owned()),
        }?;
        match item.choices.len() {
            0 | 1 => Err(row.error(format!("{} answers: a question needs at least two", item.choices.len()))),
            _ => Ok(item),
        }
    }

    /// The question as an example: with its right answer behind it.
    pub fn solved(&self) -> String {
        self.choices.get(self.gold).map_or_else(String::new, |choice| format!("{}{}", choice.context, choice.ending))
    }

    /// The question behind solved examples, a blank line after each.
    pub fn behind<'a>(&self, examples: impl IntoIterator<Item = &'a Item>) -> Item {
        let shown: String = examples.into_iter().map(|example| example.solved() + "\n\n").collect();
        let mut item = self.clone();
        for choice in &mut item.choices {
            choice.context.insert_str(0, &shown);
        }
        item
    }

    /// One context, several endings.
    fn endings(context: &str, answers: &[impl AsRef<str>], gold: usize) -> Item {
        let choice = |answer: &str| Choice {
            context: context.to_owned(),
            ending: format!(" {answer}"),
            chars: answer.chars().count(),
        };
        Item { choices: answers.iter().map(|answer| choice(answer.as_ref())).collect(), gold }
    }
}

/// google/boolq has `answer`, SuperGLUE has `label`.
fn boolq(row: &Row<'_>) -> Result<Item> {
    let context = format!("{}\nQuestion: {}?\nAnswer:", row.text("passage")?, row.text("question")?);
    let gold = match row.has("answer") {
        true => match row.get("answer")? {
            Value::Bool(answer) => usize::from(*answer),
            Value::Null => return Err(unanswered(row, "answer")),
            _ => return Err(row.error("the field `answer` is neither true nor false")),
        },
        false => index(row, "label", 0, 2)?,
    };
    Ok(Item::endings(&context, &["no", "yes"], gold))
}

fn piqa(row: &Row<'_>) -> Result<Item> {
    let context = format!("Question: {}\nAnswer:", row.text("goal")?);
    Ok(Item::endings(&context, &[row.text("sol1")?, row.text("sol2")?], index(row, "label", 0, 2)?))
}

/// As the data set has it, or prepared: `query` and `choices`.
fn hellaswag(row: &Row<'_>) -> Result<Item> {
    let (query, endings) = match row.has("query") {
        true => (row.text("query")?.to_owned(), row.texts("choices")?),
        false => {
            let (start, end) = (row.text("ctx_a")?, capitalised(row.text("ctx_b")?));
            let query = prepared(&format!("{}: {start} {end}", row.text("activity_label")?));
            (query, row.texts("endings")?.iter().map(|ending| prepared(ending)).collect())
        }
    };
    let gold = index(row, "label", 0, endings.len())?;
    Ok(Item::endings(&query, &endings, gold))
}

/// Partial scoring: the option stands in the context, and what follows the gap is scored.
fn winogrande(row: &Row<'_>) -> Result<Item> {
    let sentence = row.text("sentence")?;
    let (before, after) =
        sentence.split_once('_').ok_or_else(|| row.error("the field `sentence` has no gap, written `_`"))?;
    let ending = format!(" {}", after.trim_matches(is_space));
    let choice = |option: &str| {
        let context = format!("{before}{option}");
        Choice { chars: context.chars().count(), context, ending: ending.clone() }
    };
    let choices = vec![choice(row.text("option1")?), choice(row.text("option2")?)];
    Ok(Item { choices, gold: index(row, "answer", 1, 2)? })
}

/// `choices` of `text` and `label`; `answerKey` is one of the labels.
fn lettered(row: &Row<'_>, context: String) -> Result<Item> {
    let choices = row.get("choices")?;
    let part = |name: &str| {
        let part = choices.get(name);
        row.texts_of(&format!("choices.{name}"), part.unwrap_or(&Value::Null))
    };
    let (texts, labels) = (part("text")?, part("label")?);
    if texts.len() != labels.len() {
        let (texts, labels) = (texts.len(), labels.len());
        return Err(row.error(format!("the field `choices` has {texts} texts but {labels} labels")));
    }
    let key = row.get("answerKey")?.as_str().unwrap_or_default().trim_start_matches(is_space);
    if key.is_empty() {
        return Err(unanswered(row, "answerKey"));
    }
    let gold = labels.iter().position(|label| label == key).ok_or_else(|| {
        row.error(format!("the field `answerKey` is `{key}`, which is none of the labels {}", labels.join(", ")))
    })?;
    Ok(Item::endings(&context, &texts, gold))
}

/// The answer's index: a number, or one written as a string, that counts from `first`.
fn index(row: &Row<'_>, field: &str, first: i64, count: usize) -> Result<usize> {
    let value = row.get(field)?;
    let number = match value {
        Value::Null => return Err(unanswered(row, field)),
        Value::String(text) if text.trim().is_empty() => return Err(unanswered(row, field)),
        Value::String(text) => text.trim().parse().ok(),
        value => value.as_i64(),
    };
    match number {
        Some(-1) => Err(unanswered(row, field)),
        Some(number) if number >= first && number - first < count as i64 => Ok((number - first) as usize),
        _ => {
            let last = first + count as i64 - 1;
            Err(row.error(format!("the field `{field}` is {value}, but the answers are {first} to {last}")))
        }
    }
}

fn unanswered(row: &Row<'_>, field: &str) -> Error {
    let what = format!("the row has no answer (`{field}` is hidden): use a split that has them, such as validation");
    row.error(what)
}

/// HellaSwag's text without the traces of its origin, as lm-eval's `preprocess`.
fn prepared(text: &str) -> String {
    let text = text.trim_matches(is_space).replace(" [title]", ". ");
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(open) = rest.find('[') {
        let (before, bracket) = rest.split_at(open);
        kept.push_str(before);
        // A remark ends on its own line; a bracket that nothing closes there stays.
        match bracket.find([']', '\n']) {
            Some(close) if bracket[close..].starts_with(']') => rest = &bracket[close + 1..],
            _ => {
                kept.push('[');
                rest = &bracket[1..];
            }
        }
    }
    kept.push_str(rest);
    kept.replace("  ", " ")
}

/// Python's `str.capitalize`: the first letter large, all others small.
fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return String::new() };
    // What stands for one letter may be several, of which only the first is large: "ß" becomes "Ss".
    let mut large = first.to_uppercase();
    let head: String = large.next().into_iter().chain(large.flat_map(char::to_lowercase)).collect();
    head + &chars.as_str().to_lowercase()
}

/// Python's `str.isspace`, which knows four separators more than Unicode's White_Space.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The expectations are what Python gives for lm-eval's own function and for `str.capitalize`.
    #[test]
    fn hellaswag_is_prepared_as_by_lm_eval() {
        for (text, expected) in [
            (" [header] How to [title] Do [step] it  well ", " How to. Do it well"),
            ("a [b\nc] d [e] [", "a [b\nc] d ["),
            ("[[a] b] c", " b] c"),
            ("one   two    three", "one  two  three"),
        ] {
            assert_eq!(prepared(text), expected, "{text:?}");
        }
    }

    #[test]
    fn capitalising_makes_the_rest_small() {
        for (text, expected) in [("he SAYS Hi", "He says hi"), ("", ""), ("ßa", "Ssa"), ("éÀ", "Éà"), ("1A", "1a")]
        {
            assert_eq!(capitalised(text), expected);
        }
    }
}
