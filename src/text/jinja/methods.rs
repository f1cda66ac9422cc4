//! Methods that Python's strings have: those of `minijinja_contrib`, and here those that it lacks or has another way.

use minijinja::value::{Value, from_args};
use minijinja::{Error, State};

/// Calls `name` on `value`, for minijinja's hook for methods that it does not know.
///
/// # Errors
/// What is wrong with the arguments, or that there is no such method.
pub(super) fn call(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        match name {
            "rsplit" => {
                let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
                return Ok(split_from_behind(text, separator, most.and_then(|most| usize::try_from(most).ok())));
            }
            "removeprefix" => {
                let (prefix,): (&str,) = from_args(args)?;
                return Ok(text.strip_prefix(prefix).unwrap_or(text).into());
            }
            "removesuffix" => {
                let (suffix,): (&str,) = from_args(args)?;
                return Ok(text.strip_suffix(suffix).unwrap_or(text).into());
            }
            "title" if args.is_empty() => return Ok(title(text).into()),
            _ => {}
        }
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

/// A capital behind everything that is no letter, apostrophes too.
fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        match inside {
            true => titled.extend(c.to_lowercase()),
            false => titled.extend(c.to_uppercase()),
        }
        inside = c.is_lowercase() || c.is_uppercase();
    }
    titled
}

/// `text` cut at `separator`, or at white space without one, `most` times at most, counted from the end.
fn split_from_behind(text: &str, separator: Option<&str>, most: Option<usize>) -> Value {
    let count = most.map_or(usize::MAX, |most| most.saturating_add(1));
    let mut parts = Vec::new();
    match separator {
        Some(separator) => parts.extend(text.rsplitn(count, separator)),
        None => {
            let mut rest = text.trim_end();
            while !rest.is_empty() && parts.len() + 1 < count {
                let start = rest.char_indices().rev().find(|(_, c)| c.is_whitespace());
                let start = start.map_or(0, |(at, c)| at + c.len_utf8());
                parts.push(&rest[start..]);
                rest = rest[..start].trim_end();
            }
            parts.extend(Some(rest).filter(|rest| !rest.is_empty()));
        }
    }
    parts.into_iter().rev().map(Value::from).collect()
}
