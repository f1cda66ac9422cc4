//! `secateur convert`: a model into one GGUF file of another format. Needs no GPU.

use super::interrupt::{self, Work};
use super::load::adapted;
use super::output::{JsonOption, bytes, note, print, say};
use super::progress::{Unit, bar};
use anyhow::Result;
use clap::Args;
use secateur::Error;
use secateur::eval::report::LoraRecord;
use secateur::model::convert::{self, Conversion, Kind, Permissions, Recipe, Words};
use secateur::model::{ModelFiles, pull};
use secateur::text;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

/// Arguments of `secateur convert`.
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// A Hugging Face folder, a GGUF file, or the name of a pulled model
    model: String,
    /// F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL, Q2_K to Q6_K: all matrices alike; Q3_K_M, Q4_K_S, Q4_K_M, Q5_K_S,
    /// Q5_K_M: mixtures, with more bits for the output head and where llama.cpp's have them
    #[arg(long, short, value_name = "FORMAT")]
    format: String,
    /// Merge the LoRA adapter in FOLDER, in the form of Hugging Face's PEFT, into the weights
    #[arg(long, value_name = "FOLDER")]
    lora: Option<PathBuf>,
    /// The file to write
    #[arg(long, short, value_name = "FILE.gguf")]
    out: PathBuf,
    /// Quantise again what is quantised already; it loses more than from the original floats
    #[arg(long, visible_alias = "allow-requantize")]
    requantise: bool,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    json: JsonOption,
}

#[derive(Serialize)]
struct Converted {
    model: String,
    #[serde(flatten)]
    lora: LoraRecord,
    format: &'static str,
    path: String,
    source_bytes: u64,
    bytes: u64,
    parameters: u64,
    bits_per_weight: f64,
    seconds: f64,
    tensors: Vec<Kind>,
    remarks: Vec<String>,
    version: &'static str,
}

/// Converts a model.
pub fn run(args: &ConvertArgs) -> Result<()> {
    let recipe = Recipe::by_name(&args.format)?;
    let may = Permissions { requantise: args.requantise, overwrite: args.force };
    let json = args.json.open()?;
    let files = ModelFiles::open(&pull::resolve(&args.model, &pull::models_dir()?)?)?;
    convert::check_target(&files, &args.out, may)?;
    let files = adapted(files, args.lora.as_deref())?;
    let exported = text::export(&files.text, files.config.vocab_size)?;
    let words = Words { vocabulary: &exported.vocabulary, text: &files.text, adds_bos: exported.adds_bos };
    let conversion = Conversion::new(&files, recipe, &words, may)?;
    let (total, target) = (conversion.bytes(), args.out.display());
    let room = convert::room(&args.out).map_or(String::new(), |room| format!("; {} are free there", bytes(room)));
    say(&format!(
        "{} ({}) to {target}: {} as {}{room}",
        args.model,
        bytes(files.total_bytes()),
        bytes(total),
        recipe.name
    ));
    exported.remarks.iter().for_each(|remark| note(remark));

    interrupt::install()?;
    let (work, bar, started) = (Work::start(), bar("converting", total, Unit::Bytes), Instant::now());
    let written = conversion.write(&args.out, &mut |done, _| {
        bar.set_position(done);
        if work.asked_to_stop() { Err(Error::Cancelled) } else { Ok(()) }
    });
    bar.finish_and_clear();
    let tensors = written?;
    let parameters: u64 = tensors.iter().map(|kind| kind.parameters).sum();
    let converted = Converted {
        model: args.model.clone(),
        lora: LoraRecord {
            lora: args.lora.as_ref().map(|lora| lora.display().to_string()),
            lora_sha256: files.adapter_sha256().map(str::to_owned),
        },
        format: recipe.name,
        path: target.to_string(),
        source_bytes: files.total_bytes(),
        bytes: total,
        parameters,
        bits_per_weight: 8.0 * tensors.iter().map(|kind| kind.bytes).sum::<u64>() as f64 / parameters as f64,
        seconds: started.elapsed().as_secs_f64(),
        tensors,
        remarks: exported.remarks,
        version: env!("CARGO_PKG_VERSION"),
    };
    if !json.takes_stdout() {
        print(&summary(&converted))?;
    }
    json.write(&converted)
}

fn summary(converted: &Converted) -> String {
    let mut text = format!(
        "{}: {} to {}, {:.2} bits a weight, in {:.1} s\n",
        converted.path,
        bytes(converted.source_bytes),
        bytes(converted.bytes),
        converted.bits_per_weight,
        converted.seconds
    );
    for kind in &converted.tensors {
        let formats: Vec<String> = kind.formats.iter().map(|(format, count)| format!("{count} {format}")).collect();
        let error = match kind.relative_rms_error {
            0.0 => "exact".into(),
            error => format!("relative RMS error {:.3} %", 100.0 * error),
        };
        text += &format!("{:<15}{:<22}{:>9}  {error}\n", kind.kind, formats.join(", "), bytes(kind.bytes));
    }
    text
}
