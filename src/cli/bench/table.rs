//! The tables of `secateur bench`, for people.

use super::report::{BenchReport, PeerReport};
use crate::cli::answer::removed;
use crate::cli::output::bytes;
use secateur::bench::per_kernel::{KernelRow, Stage};
use secateur::bench::{Ceilings, Kept, Run, Spread};
use secateur::prune::Flops;

/// All of them.
pub fn text(report: &BenchReport) -> String {
    let mut text = format!(
        "{} ({}) on {} ({}), medians of {} rounds (least to most), {:.0} s\n\n",
        report.model, report.model_format, report.device.adapter, report.device.backend, report.rounds, report.seconds
    );
    text.push_str(&runs(report));
    text.push_str(&choices(report));
    text.push_str(&peers(report));
    text.push_str(&device(report));
    if let Some(rows) = &report.kernels {
        text.push_str(&kernels(rows, &report.ceilings));
    }
    text
}

fn kept(kept: Kept) -> &'static str {
    match kept {
        Kept::All => "all",
        Kept::Chosen => "chosen",
        Kept::Given => "given",
    }
}

/// "0.95 (0.93 to 0.97)".
fn spread(spread: Spread) -> String {
    format!("{:.2} ({:.2} to {:.2})", spread.median, spread.min, spread.max)
}

fn runs(report: &BenchReport) -> String {
    let mut text = format!(
        "{:<8} {:>6} {:>5} {:<10} {:<5} {:<7} {:>8} {:<19} {:<21} {:>7} {:>7}  FLOPs of the layers\n",
        "phase", "prompt", "batch", "method", "ratio", "units", "tokens/s", "", "to dense", "allowed", "reached"
    );
    for run in &report.runs {
        let range = format!("({:.2} to {:.2})", run.tokens_per_second_min, run.tokens_per_second_max);
        let line = format!(
            "{:<8} {:>6} {:>5} {:<10} {:<5} {:<7} {:>8.2} {:<19} ",
            run.phase,
            run.setup.prompt_tokens,
            run.setup.batch,
            run.method.name(),
            run.ratio,
            kept(run.kept),
            run.tokens_per_second,
            range,
        );
        text.push_str(&line);
        if run.kept != Kept::All {
            let flops = Flops { pass: run.flops - run.flops_probe, dense: run.flops_dense, probe: run.flops_probe };
            let (to_dense, allowed) = (spread(run.to_dense), run.allowed());
            let reached = 100.0 * run.reached();
            text.push_str(&format!("{to_dense:<21} {allowed:>7.2} {reached:>5.0} %  {}", removed(flops)));
        }
        text = text.trim_end().to_string() + "\n";
    }
    text
}

fn choices(report: &BenchReport) -> String {
    if report.choices.is_empty() {
        return String::new();
    }
    let mut text = "\nprobe and choice: what units cost that are chosen, and not given\n\
                    phase    prompt batch method     ratio  of the dense time          of the dense FLOPs\n"
        .to_string();
    for choice in &report.choices {
        let Spread { median, min, max } = choice.share_of_dense_time;
        let time = format!("{:.1} % ({:.1} to {:.1})", 100.0 * median, 100.0 * min, 100.0 * max);
        text.push_str(&format!(
            "{:<8} {:>6} {:>5} {:<10} {:<5}  {time:<26} {:.1} %\n",
            choice.phase,
            choice.setup.prompt_tokens,
            choice.setup.batch,
            choice.method.name(),
            choice.ratio,
            100.0 * choice.share_of_dense_flops
        ));
    }
    text
}

fn peers(report: &BenchReport) -> String {
    report.peers.iter().map(|peer| one_peer(report, peer)).collect()
}

fn one_peer(report: &BenchReport, peer: &PeerReport) -> String {
    let record = &peer.record;
    let mut text = format!("\n{}, {} on {}: {}\n", record.name, record.what, record.backends, record.options.join(" "));
    if !record.decodes_behind_the_prompt {
        text.push_str("it knows no --n-depth: its answers start from an empty cache, ours behind the prompt\n");
    }
    text.push_str("phase    prompt  tokens/s  ours to theirs\n");
    for theirs in &peer.runs {
        let (phase, prompt) = (theirs.phase, theirs.setup.prompt_tokens);
        let Spread { median, min, max } = theirs.tokens_per_second;
        text.push_str(&format!("{phase:<8} {prompt:>6} {median:>9.2}  ({min:.2} to {max:.2})\n"));
        let ours = |run: &&Run| run.phase == phase && run.setup == theirs.setup;
        for run in report.runs.iter().filter(ours) {
            let Some(&ratio) = run.to_peers.get(record.name) else { continue };
            let what = format!("{} {} {}", run.method.name(), run.ratio, kept(run.kept));
            text.push_str(&format!("{:>25}  {} {what}\n", "", spread(ratio)));
        }
    }
    text
}

fn device(report: &BenchReport) -> String {
    let Ceilings { copy_bytes_per_second, copy_buffer_bytes, fma_flops_per_second, .. } = report.ceilings;
    let mut text = format!(
        "\ndevice    copies {:.2} GB/s (buffers of {}), computes {:.1} GFLOP/s, a dispatch {:.1} us, a submission {:.1} us\n",
        copy_bytes_per_second / 1e9,
        bytes(copy_buffer_bytes),
        fma_flops_per_second / 1e9,
        1e6 * report.ceilings.empty_dispatch_seconds,
        1e6 * report.ceilings.empty_submit_seconds
    );
    if let (Some(rate), Some(units)) = (report.ceilings.matrix_flops_per_second, &report.matrix_units) {
        let ops = [
            ("matmul_rows", &units.matmul_rows),
            ("gate_up", &units.gate_up),
            ("matmul_columns", &units.matmul_columns),
        ];
        let used = ops.iter().filter(|(_, formats)| !formats.is_empty());
        let used: Vec<String> = used.map(|(op, formats)| format!("{op} of {}", formats.join(", "))).collect();
        let used = if used.is_empty() { "nothing".into() } else { used.join("; ") };
        let (kind, rate) = (&units.kind, rate / 1e9);
        text.push_str(&format!("matrix    units of {kind} compute {rate:.1} GFLOP/s; on them, of prompts: {used}\n"));
    }
    let load = &report.load;
    let peak = load
        .measured
        .peak_resident_bytes
        .map_or(String::new(), |peak| format!("; the process held {} at most", bytes(peak)));
    text.push_str(&format!(
        "memory    {} on the device with the weights alone, {} with all configurations{peak}\n",
        bytes(load.loaded.device_bytes),
        bytes(load.measured.device_bytes)
    ));
    text.push_str(&match load.seconds_read {
        Some(read) => format!(
            "load      {:.2} s, after {read:.2} s of reading the file's {}\n",
            load.seconds_load,
            bytes(report.model_bytes)
        ),
        None => format!("load      {:.2} s for random weights of {}\n", load.seconds_load, bytes(report.model_bytes)),
    });
    if let Some(run) = report.runs.iter().find(|run| run.phase == "decode" && run.kept == Kept::All) {
        text.push_str(&format!(
            "token     {:.0} dispatches in {:.0} submission(s), dense\n",
            run.dispatches_per_pass, run.submissions_per_pass
        ));
    }
    text
}

fn kernels(rows: &[KernelRow], ceilings: &Ceilings) -> String {
    let mut text = String::new();
    let groups = [
        (Stage::Decode, false, "a decoded token, dense"),
        (Stage::Decode, true, "a decoded token, kept units"),
        (Stage::Prompt, false, "a prompt, dense"),
        (Stage::Prompt, true, "a prompt, kept units"),
        (Stage::Choice, true, "a probe of a prompt, and the choice"),
        (Stage::Renewal, true, "a renewal while decoding"),
    ];
    for (stage, pruned, title) in groups {
        let of = |row: &&KernelRow| (row.stage, row.pruned) == (stage, pruned);
        if !rows.iter().any(|row| of(&row)) {
            continue;
        }
        text.push_str(&format!(
            "\n{:<38} {:<32} {:>9} {:>9} {:>9} {:>8} {:>6} {:>10}\n",
            title, "shape", "best us", "median", "floor", "reached", "calls", "ms a pass"
        ));
        let mut sum = 0.0;
        for row in rows.iter().filter(of) {
            let kernel = if row.matrix_units { format!("{} on matrix units", row.kernel) } else { row.kernel.into() };
            let name = if row.role.is_empty() { kernel } else { format!("{kernel} ({})", row.role) };
            let pass = 1e3 * row.best_seconds * row.calls;
            sum += pass;
            text.push_str(&format!(
                "{name:<38} {:<32} {:>9.1} {:>9.1} {:>9.1} {:>6.1} % {:>6} {pass:>10.2}\n",
                row.shape,
                1e6 * row.best_seconds,
                1e6 * row.median_seconds,
                1e6 * row.floor_seconds,
                100.0 * row.reached,
                row.calls
            ));
        }
        text.push_str(&format!("{:<38} {:>88.2}\n", "together", sum));
    }
    let dispatch = 1e6 * ceilings.empty_dispatch_seconds;
    text.push_str(&format!("\nEvery dispatch costs {dispatch:.1} us of these by itself.\n"));
    text
}
