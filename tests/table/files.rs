//! JSON, CSV, Markdown and SVG.

use super::*;
use secateur::eval::table::{Row, Table, csv, json, markdown, rows, write_all};
use std::collections::{BTreeMap, HashMap};
use std::fs;

fn table() -> Vec<Row> {
    rows(&fingerprint(), &lines(), &kept(), &[&Text, &Task]).unwrap()
}

/// All files by name.
fn files(rows: &[Row]) -> BTreeMap<String, String> {
    let out = tempfile::tempdir().expect("a folder");
    let written = write_all(out.path(), rows).unwrap();
    let left = fs::read_dir(out.path()).unwrap().count();
    assert_eq!(left, written.len(), "nothing half-written is left");
    let name = |path: &std::path::Path| path.file_name().unwrap().to_string_lossy().into_owned();
    written.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn json_is_the_table_to_the_last_bit() {
    let rows = table();
    let read: Table = serde_json::from_str(&json(&rows).unwrap()).unwrap();
    assert_eq!((read.format, read.rows), (1, rows));
}

#[test]
fn csv_has_the_names_and_numbers_of_the_json() {
    let rows = table();
    let values: Value = serde_json::from_str(&json(&rows).unwrap()).unwrap();
    let text = csv(&rows).unwrap();
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    let names = reader.headers().unwrap().clone();
    let records: Vec<HashMap<String, String>> = reader.deserialize().map(|record| record.unwrap()).collect();
    assert_eq!(records.len(), rows.len());
    assert_eq!(names.iter().take(4).collect::<Vec<_>>(), ["name", "series", "method", "ratio"]);
    for (record, row) in records.iter().zip(values["rows"].as_array().unwrap()) {
        for (name, value) in row.as_object().unwrap() {
            match value {
                Value::Null => assert_eq!(record[name], "", "{name}"),
                Value::Number(number) => assert_eq!(record[name], number.to_string(), "{name}"),
                Value::String(text) => assert_eq!(&record[name], text, "{name}"),
                Value::Array(items) => {
                    let items: Vec<String> = items.iter().map(Value::to_string).collect();
                    assert_eq!(record[name], items.join(" "), "{name}");
                }
                Value::Object(members) => {
                    let has =
                        |path: String| record.keys().any(|key| *key == path || key.starts_with(&format!("{path}.")));
                    assert!(members.keys().all(|member| has(format!("{name}.{member}"))), "{name}");
                }
                Value::Bool(flag) => assert_eq!(record[name], flag.to_string(), "{name}"),
            }
        }
    }
    assert_eq!(records[1]["prune.ema"], "0.9", "a setting is written as it was given");
    assert_eq!(records[0]["calibration.samples"], "64");
}

/// The cells of a Markdown table under a title.
fn cells(text: &str, title: &str) -> Vec<Vec<String>> {
    let section = text.split("## ").find(|section| section.starts_with(title)).expect("the section");
    let bars = section.replace("\\|", "¦");
    let lines = bars.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---"));
    lines.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect()).collect()
}

#[test]
fn markdown_has_methods_by_data_sets() {
    let rows = table();
    let text = markdown(&rows);
    assert!(text.starts_with("# tiny\\|model"));
    let quality = cells(&text, "Quality");
    assert_eq!(quality[0], ["ratio", "method", "wikitext2, perplexity ↓", "piqa, acc, % ↑", "piqa, acc_norm, % ↑"]);
    assert!(quality.iter().all(|line| line.len() == 5));
    let methods: Vec<&str> = quality[1..].iter().map(|line| line[1].as_str()).collect();
    assert_eq!(methods.len(), 9);
    assert_eq!(
        (methods[0], methods[1], methods[4], methods[5]),
        ("dense", "full-batch", "pp \\<no history>", "full-batch")
    );
    let of = |name: &str| rows.iter().find(|row| row.name == name).unwrap();
    assert_eq!(quality[1][2], format!("{:.2}", of("dense").quality.value));
    // A later arm of the made-up results is always the worse.
    assert_eq!(quality[2][2], format!("**{:.2}**", of("full-batch 0.2").quality.value));
    assert_eq!(quality[5][2], format!("{:.2}", of("pp <no history> 0.2").quality.value));
    let runtime = cells(&text, "Runtime");
    assert_eq!((&runtime[0][2..], runtime.len()), (&["wikitext2".to_string(), "piqa".into()][..], 9));
    let prr = cells(&text, "Performance to runtime");
    assert_eq!(prr[1][2], format!("{:.1}", of("full-batch 0.2").prr.unwrap()));
    for word in ["11aa", "22bb", "33cc", "44dd", "10200 scored tokens", "made-up", "0.0.0"] {
        assert!(text.contains(word), "{word}");
    }
}

#[test]
fn markdown_has_a_mean_over_tasks_and_dashes_where_nothing_was_saved() {
    let mut rows = table();
    for row in rows.clone().into_iter().filter(|row| row.quality.quality == QualityName::Acc) {
        let mut other = row;
        other.data.data = "boolq".into();
        other.quality.value += 0.1;
        other.prr = None;
        rows.push(other);
    }
    let text = markdown(&rows);
    let quality = cells(&text, "Quality");
    assert_eq!(quality[0].last().unwrap(), "mean acc, % ↑");
    let acc = rows.iter().find(|row| row.quality.quality == QualityName::Acc).unwrap().quality.value;
    assert_eq!(*quality[1].last().unwrap(), format!("{:.1}", 100.0 * acc + 5.0));
    assert!(cells(&text, "Performance to runtime")[1..].iter().all(|line| line.last().unwrap() == "-"));
}

/// Advance widths of DejaVu Sans, the widest of the usual fonts, from the space on, in thousandths of its size.
const ADVANCES: [u32; 95] = [
    318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337, 636, 636, 636, 636, 636, 636, 636,
    636, 636, 636, 337, 337, 838, 838, 838, 531, 1000, 684, 686, 698, 770, 632, 575, 775, 752, 295, 295, 656, 557, 863,
    748, 787, 603, 787, 695, 635, 611, 732, 684, 989, 685, 611, 685, 390, 337, 390, 838, 500, 500, 613, 635, 550, 635,
    615, 352, 635, 634, 278, 278, 579, 278, 974, 634, 612, 635, 635, 411, 521, 392, 634, 592, 818, 592, 592, 525, 636,
    337, 636, 838,
];

/// The left, right, upper and lower end of a text, by the metrics of that font.
fn extent(node: &roxmltree::Node<'_, '_>) -> (f64, f64, f64, f64) {
    let number = |name: &str| node.attribute(name).and_then(|text| text.parse::<f64>().ok()).expect("a number");
    let title = node.attribute("class").is_some_and(|class| class.contains("title"));
    let (size, weight) = if title { (16.0, 1.13) } else { (12.0, 1.0) };
    let advance = |c: char| ADVANCES.get((c as usize).wrapping_sub(32)).copied().unwrap_or(1000);
    let width = node.text().unwrap_or("").chars().map(advance).sum::<u32>() as f64 / 1000.0 * size * weight;
    let (x, y) = (number("x"), number("y"));
    let left = match node.attribute("text-anchor") {
        Some("middle") => -width / 2.0,
        Some("end") => -width,
        _ => 0.0,
    };
    match node.attribute("transform") {
        Some(turn) => {
            assert!(turn.starts_with("rotate(-90"), "{turn}");
            (x - size, x + 3.0, y - width / 2.0, y + width / 2.0)
        }
        None => (x + left, x + left + width, y - size, y + 3.0),
    }
}

#[track_caller]
fn check_picture(name: &str, text: &str) {
    let tree = roxmltree::Document::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let view: Vec<f64> =
        tree.root_element().attribute("viewBox").unwrap().split(' ').map(|part| part.parse().unwrap()).collect();
    for node in tree.descendants().filter(|node| node.has_tag_name("text")) {
        let (left, right, top, bottom) = extent(&node);
        let inside = left >= 0.0 && right <= view[2] && top >= 0.0 && bottom <= view[3];
        assert!(inside, "{name}: `{}` leaves the picture: {left} to {right}, {top} to {bottom}", node.text().unwrap());
    }
    for node in tree.descendants().filter(|node| node.is_element()) {
        for attribute in ["x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height"] {
            let value = node.attribute(attribute).map_or(0.0, |text| text.parse::<f64>().unwrap());
            assert!(
                value.is_finite() && (0.0..=view[2].max(view[3])).contains(&value),
                "{name}: {attribute} is {value}"
            );
        }
    }
}

fn texts(svg: &str) -> Vec<String> {
    let tree = roxmltree::Document::parse(svg).unwrap();
    let of = |node: roxmltree::Node<'_, '_>| node.text().unwrap_or("").to_string();
    tree.descendants().filter(|node| node.has_tag_name("text")).map(of).collect()
}

#[test]
fn plots_hold_every_arm_within_their_bounds() {
    let files = files(&table());
    let plots: Vec<&str> = files.keys().filter(|name| name.ends_with(".svg")).map(String::as_str).collect();
    let want = [
        "kept.svg",
        "piqa.acc.ratio.svg",
        "piqa.acc.runtime.svg",
        "piqa.acc_norm.ratio.svg",
        "piqa.acc_norm.runtime.svg",
        "wikitext2.perplexity.ratio.svg",
        "wikitext2.perplexity.runtime.svg",
    ];
    assert_eq!(plots, want);
    for name in plots {
        check_picture(name, &files[name]);
    }
    for name in ["wikitext2.perplexity.ratio.svg", "wikitext2.perplexity.runtime.svg"] {
        let texts = texts(&files[name]);
        for series in ["full-batch", "pp", "pp <no history>"] {
            assert_eq!(texts.iter().filter(|text| *text == series).count(), 1, "{series} in {name}: {texts:?}");
        }
        let tree = roxmltree::Document::parse(&files[name]).unwrap();
        let tips: Vec<&str> =
            tree.descendants().filter(|node| node.has_tag_name("title")).filter_map(|node| node.text()).collect();
        for arm in arms() {
            assert!(tips.iter().any(|tip| tip.starts_with(&format!("{}: ", arm.name))), "{} in {tips:?}", arm.name);
        }
        assert!(
            texts.iter().any(|text| text.contains("log scale")) && files[name].contains("prefers-color-scheme:dark")
        );
    }
    let tree = roxmltree::Document::parse(&files["kept.svg"]).unwrap();
    let cells = tree.descendants().filter(|node| node.attribute("class") == Some("unit") && node.has_children());
    // Two strips an arm, and the legend.
    assert_eq!(cells.count(), 2 * LAYERS * (arms().len() - 1) + 5);
}

#[test]
fn plots_stay_sound_at_the_edges() {
    let edited = |edit: &dyn Fn(&mut Row)| {
        let mut rows = table();
        rows.iter_mut().for_each(edit);
        files(&rows)
    };
    type Case<'a> = (&'a str, &'a dyn Fn(&mut Row));
    let cases: [Case<'_>; 6] = [
        ("all alike", &|row| (row.quality.value, row.runtime) = (40.0, 1.0)),
        ("not finite", &|row| row.quality.value = if row.ratio > 0.3 { f64::INFINITY } else { 50.0 }),
        ("none finite", &|row| row.quality.value = f64::NAN),
        ("enormous", &|row| row.quality.value = 10f64.powf(1.0 + 40.0 * row.ratio)),
        ("slower than dense", &|row| {
            (row.runtime, row.runtime_low, row.runtime_high) = (1.0 + row.ratio, 1.0, 9.0);
        }),
        ("long names", &|row| {
            row.data.data = "a data set with quite a long name, and more ".repeat(4);
            row.protocol.model.model = "/a/folder/deep/down".repeat(12);
            row.series = format!("{} {}", "method with its options: ".repeat(3), row.series);
            row.name = format!("{} {}", row.series, row.ratio);
        }),
    ];
    for (case, edit) in cases {
        for (name, text) in edited(edit).iter().filter(|(name, _)| name.ends_with(".svg")) {
            check_picture(&format!("{case}: {name}"), text);
        }
    }
}

#[test]
fn labels_of_many_lines_do_not_lie_on_each_other() {
    let mut rows = table();
    let extra: Vec<Row> = rows.iter().filter(|row| row.ratio > 0.0).cloned().collect();
    for (index, mut row) in extra.into_iter().enumerate() {
        row.series = format!("{} again {}", row.series, index % 2);
        row.name = format!("{} {}", row.series, row.ratio);
        row.quality.value *= 1.001;
        rows.push(row);
    }
    let files = files(&rows);
    let tree = roxmltree::Document::parse(&files["wikitext2.perplexity.ratio.svg"]).unwrap();
    let labels = tree.descendants().filter(|node| {
        node.has_tag_name("text") && node.attribute("class").is_some_and(|class| class.starts_with('f'))
    });
    let mut heights: Vec<f64> = labels.map(|node| node.attribute("y").unwrap().parse().unwrap()).collect();
    heights.sort_by(f64::total_cmp);
    assert!(heights.len() >= 8, "{heights:?}");
    assert!(heights.windows(2).all(|pair| pair[1] - pair[0] > 12.0), "{heights:?}");
}
