//! What transformers adds to Jinja, for minijinja: `raise_exception`, `strftime_now`, Python's `tojson`, the
//! `generation` tags, and Python's methods on strings and maps.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::io;

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
    env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    env.add_function("raise_exception", raise_exception);
    env.add_function("strftime_now", strftime_now);
    env.add_filter("tojson", to_json);
    env.add_template_owned(NAME, without_generation_tags(template))?;
    Ok(env)
}

fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.to_string()))
}

/// Python's `json.dumps(value, ensure_ascii=False)`, with its spaces. Unlike Jinja's own filter it escapes nothing for
/// HTML.
fn to_json(_: &State, value: &Value, indent: Option<usize>, options: Kwargs) -> Result<String, Error> {
    let named: Option<usize> = options.get("indent")?;
    // These have one sensible value here and are accepted for the sake of templates that spell it out.
    let _: Option<bool> = options.get("ensure_ascii")?;
    let _: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    let mut bytes = Vec::new();
    let written = match named.or(indent) {
        // Beyond any use, and an easy way to fill memory.
        Some(width) if width > 64 => {
            return Err(Error::new(ErrorKind::InvalidOperation, format!("tojson: an indent of {width} is too wide")));
        }
        Some(width) => {
            let width = " ".repeat(width);
            let formatter = PrettyFormatter::with_indent(width.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut bytes, PythonFormatter)),
    };
    written.map_err(|e| Error::new(ErrorKind::BadSerialization, "tojson failed").with_source(e))?;
    String::from_utf8(bytes).map_err(|e| Error::new(ErrorKind::BadSerialization, "tojson failed").with_source(e))
}

/// JSON on one line with a space behind commas and colons, as Python writes it.
struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn begin_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
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

/// The present time (UTC), formatted as Python's `strftime` does.
fn strftime_now(format: &str) -> Result<String, Error> {
    let seconds = unix_time().ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "this machine has no clock"))?;
    strftime(format, seconds).map_err(|e| Error::new(ErrorKind::InvalidOperation, e))
}

/// Seconds since 1970, or nothing where the platform has no clock.
fn unix_time() -> Option<u64> {
    // In a browser the standard library's clock panics.
    if cfg!(all(target_arch = "wasm32", target_os = "unknown")) {
        return None;
    }
    web_time::SystemTime::now().duration_since(web_time::UNIX_EPOCH).ok().map(|time| time.as_secs())
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

fn strftime(format: &str, seconds: u64) -> Result<String, String> {
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day, year_day) = civil(days);
    let weekday = DAYS[(days % 7 + 4) as usize % 7];
    let month_name = MONTHS[month as usize - 1];
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let mut text = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let mut code = chars.next();
        let bare = code == Some('-');
        if bare {
            code = chars.next();
        }
        let number = |value: u64, width: usize| if bare { value.to_string() } else { format!("{value:0width$}") };
        text.push_str(&match code {
            Some('Y') => year.to_string(),
            Some('y') => number(year % 100, 2),
            Some('m') => number(month, 2),
            Some('d') => number(day, 2),
            Some('e') => format!("{day:2}"),
            Some('j') => number(year_day, 3),
            Some('H') => number(hour, 2),
            Some('I') => number((hour + 11) % 12 + 1, 2),
            Some('M') => number(minute, 2),
            Some('S') => number(second, 2),
            Some('p') => (if hour < 12 { "AM" } else { "PM" }).to_string(),
            Some('B') => month_name.to_string(),
            Some('b' | 'h') => month_name[..3].to_string(),
            Some('A') => weekday.to_string(),
            Some('a') => weekday[..3].to_string(),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('Z') => "UTC".to_string(),
            Some('z') => "+0000".to_string(),
            Some('%') => "%".to_string(),
            other => {
                let other = other.map(String::from).unwrap_or_default();
                return Err(format!("strftime_now: `%{other}` in `{format}` is not supported"));
            }
        });
    }
    Ok(text)
}

/// Year, month (1 to 12), day of the month and day of the year (from 1) of a day counted from 1 January 1970.
fn civil(days: u64) -> (u64, u64, u64, u64) {
    let leap = |year: u64| (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    // 400 years are 146,097 days whatever year they begin in; what is left takes at most 400 steps.
    let mut year = 1970 + days / 146_097 * 400;
    let mut left = days % 146_097;
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let year_day = left + 1;
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1, year_day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // Against Python's datetime.utcfromtimestamp(...).strftime(...).
        let cases = [
            (0, "1970-01-01 Thu 001 12 AM"),
            (951_782_400, "2000-02-29 Tue 060 12 AM"),
            (1_735_689_599, "2024-12-31 Tue 366 11 PM"),
            (4_107_542_400, "2100-03-01 Mon 060 12 AM"),
            (1_795_305_600, "2026-11-22 Sun 326 12 AM"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(strftime("%Y-%m-%d %a %j %I %p", seconds).as_deref(), Ok(expected));
        }
        assert_eq!(strftime("%-d %B %y, %H:%M:%S %%", 951_782_461).as_deref(), Ok("29 February 00, 00:01:01 %"));
        assert!(strftime("%Q", 0).is_err_and(|e| e.contains("%Q")));
    }

    #[test]
    fn generation_tags_become_blocks() {
        let template = "a{%- generation -%}b{% endgeneration +%}{% if generation %}{%";
        assert_eq!(without_generation_tags(template), "a{%- if true -%}b{% endif +%}{% if generation %}{%");
    }
}
