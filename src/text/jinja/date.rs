//! `strftime_now`, which templates write today's date with.

use minijinja::{Error, ErrorKind};

/// The present time (UTC), formatted as Python's `strftime` does.
pub(super) fn strftime_now(format: &str) -> Result<String, Error> {
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
}
