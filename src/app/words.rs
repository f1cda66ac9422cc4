//! Numbers and dates as people read them.

use crate::protocol::{Comparison, Figures};

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

/// Bytes: "98 MB", "1.4 GB".
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes / 1000),
        1_000_000..1_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// Parameters: "135 M", "1.2 B".
pub fn parameters(count: u64) -> String {
    if count < 1_000_000_000 { format!("{} M", count / 1_000_000) } else { format!("{:.1} B", count as f64 / 1e9) }
}

/// The group of the list that a time belongs to. Times in milliseconds since 1970; `offset` is that of local time.
pub fn day(time: i64, now: i64, offset: i64) -> &'static str {
    let day = |time: i64| (time + offset).div_euclid(DAY);
    match day(now) - day(time) {
        ..=0 => "Today",
        1 => "Yesterday",
        2..7 => "This week",
        _ => "Earlier",
    }
}

/// Milliseconds that local time is ahead of UTC, as the page knows it.
#[cfg(target_arch = "wasm32")]
pub fn local_offset() -> i64 {
    -60_000 * js_sys::Date::new_0().get_timezone_offset() as i64
}

/// Milliseconds that local time is ahead of UTC. SQLite is the one part of the program that knows time zones.
#[cfg(not(target_arch = "wasm32"))]
pub fn local_offset() -> i64 {
    let query = "SELECT strftime('%s', 'now', 'localtime') - strftime('%s', 'now')";
    let seconds = rusqlite::Connection::open_in_memory().and_then(|db| db.query_row(query, [], |row| row.get(0)));
    seconds.map_or(0, |seconds: i64| seconds * 1000)
}

/// One line about what an answer took.
pub fn figures(figures: &Figures) -> String {
    let mut parts = Vec::new();
    if figures.prefilled > 0 {
        parts.push(format!("prompt {:.1} tokens/s", figures.prefill_rate()));
    }
    if figures.decoded > 0 {
        parts.push(format!("answer {:.1} tokens/s", figures.decode_rate()));
    }
    if figures.first_token_seconds > 0.0 {
        parts.push(format!("first token after {:.2} s", figures.first_token_seconds));
    }
    let cost = figures.prefill + figures.decode;
    if cost.flops_dense > 0.0 && cost.flops < cost.flops_dense {
        let removed = cost.removed() * 100.0;
        parts.push(match removed {
            0.0.. => format!("{removed:.1} % of FLOPs removed"),
            _ => format!("probes cost {:.1} % more FLOPs than were saved", -removed),
        });
    }
    parts.join("  ·  ")
}

/// What a dense answer took, and what the pruned model makes of it.
pub fn comparison(comparison: &Comparison) -> Vec<String> {
    let mut lines = vec![format!("dense {:.1} tokens/s", comparison.dense_rate)];
    if let Some(rate) = comparison.pruned_rate.filter(|&rate| rate > 0.0) {
        lines[0].push_str(&format!("  ·  pruned {rate:.1} on the same tokens"));
    }
    if let Some(pruned) = comparison.pruned_perplexity {
        let dense = comparison.dense_perplexity;
        lines.push(format!("perplexity of this answer: {dense:.2} dense  ·  {pruned:.2} pruned"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Cost;

    #[test]
    fn sizes_read_as_people_say_them() {
        assert_eq!([bytes(98_362_432), bytes(1_437_000_000), bytes(4_200)], ["98 MB", "1.4 GB", "4 kB"]);
        assert_eq!([parameters(134_515_008), parameters(1_235_814_400)], ["134 M", "1.2 B"]);
    }

    #[test]
    fn days_change_at_local_midnight() {
        let hour = 3_600_000;
        let noon = 20_000 * DAY + 12 * hour;
        let label = |hours: i64| day(noon - hours * hour, noon, 0);
        assert_eq!(
            [label(0), label(12), label(13), label(37), label(24 * 9)],
            ["Today", "Today", "Yesterday", "This week", "Earlier"]
        );
        // Ten hours ahead, it is 22:00 there: 21 hours ago is still today.
        assert_eq!(day(noon - 21 * hour, noon, 10 * hour), "Today");
        assert_eq!(day(noon + hour, noon, 0), "Today");
    }

    #[test]
    fn a_comparison_tells_what_it_has() {
        let mut growing = Comparison { dense_rate: 12.34, dense_perplexity: 1.5, ..Comparison::default() };
        assert_eq!(comparison(&growing), ["dense 12.3 tokens/s"]);
        (growing.pruned_rate, growing.pruned_perplexity) = (Some(15.0), Some(4.25));
        assert_eq!(
            comparison(&growing),
            [
                "dense 12.3 tokens/s  ·  pruned 15.0 on the same tokens",
                "perplexity of this answer: 1.50 dense  ·  4.25 pruned"
            ]
        );
    }

    #[test]
    fn probes_that_cost_more_than_they_save_are_called_that() {
        let cost = |flops_probe| Cost { flops: 90.0, flops_dense: 100.0, flops_probe, ..Cost::default() };
        let line = |flops_probe| figures(&Figures { decode: cost(flops_probe), ..Figures::default() });
        assert_eq!(line(4.0), "6.0 % of FLOPs removed");
        assert_eq!(line(15.0), "probes cost 5.0 % more FLOPs than were saved");
        assert_eq!(figures(&Figures::default()), "");
    }
}
