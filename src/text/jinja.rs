//! What transformers adds to Jinja, for minijinja: `raise_exception`, `strftime_now`, Python's `tojson`, the
//! `generation` tags, and Python's methods on strings and maps. Filters and tests that differ from Python's Jinja, which
//! templates are written for, are replaced.

mod date;
mod json;
mod methods;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind};

/// The name under which the model's template is kept.
pub(super) const NAME: &str = "chat_template";

/// Instructions a rendering may take: thousands of times what a long conversation needs, and a second or so at most. A
/// hostile template ends with an error instead of never.
const FUEL: u64 = 50_000_000;

/// An environment that reads `template` as transformers would.
///
/// # Errors
/// The template's syntax error.
pub(super) fn environment(template: &str) -> Result<Environment<'static>, Error> {
    let mut env = Environment::new();
    env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    env.set_fuel(Some(FUEL));
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_unknown_method_callback(methods::call);
    env.add_function("raise_exception", raise_exception);
    env.add_function("strftime_now", date::strftime_now);
    env.add_filter("tojson", json::to_json);
    env.add_filter("e", escape);
    env.add_filter("escape", escape);
    env.add_filter("length", length);
    env.add_filter("count", length);
    env.add_test("iterable", is_iterable);
    env.add_test("sequence", is_sequence);
    env.add_template_owned(NAME, without_generation_tags(template))?;
    Ok(env)
}

fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.to_string()))
}

/// In Python what is not defined has a length of 0; `none` has none.
fn length(value: &Value) -> Result<Value, Error> {
    if value.is_undefined() {
        return Ok(Value::from(0));
    }
    minijinja::filters::length(value).map(Value::from)
}

/// As in Python: what is not defined can be walked through, `none` cannot.
fn is_iterable(value: &Value) -> bool {
    value.is_undefined() || (!value.is_none() && value.try_iter().is_ok())
}

/// As in Python's Jinja: whatever has a length and elements, strings and maps too.
fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map)
}

/// The characters that HTML gives a meaning to, by Python's names for them.
fn escape(text: &Value) -> String {
    let mut escaped = String::new();
    for c in text.to_string().chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&#34;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// `{% generation %}` marks an answer for training. For rendering it is a block that always runs; written as one, it
/// keeps its effect on white space.
fn without_generation_tags(template: &str) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        text.push_str(before);
        let Some(end) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let inner = &tag[2..end];
        let name = inner.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        match name {
            "generation" | "endgeneration" => {
                let statement = if name == "generation" { " if true " } else { " endif " };
                let sign = |c: Option<char>| c.filter(|c| *c == '-' || *c == '+');
                text.push_str("{%");
                text.extend(sign(inner.chars().next()));
                text.push_str(statement);
                text.extend(sign(inner.chars().next_back()));
                text.push_str("%}");
            }
            _ => text.push_str(&tag[..end + 2]),
        }
        rest = &tag[end + 2..];
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_become_blocks() {
        let template = "a{%- generation -%}b{% endgeneration +%}{% if generation %}{%";
        assert_eq!(without_generation_tags(template), "a{%- if true -%}b{% endif +%}{% if generation %}{%");
    }
}
