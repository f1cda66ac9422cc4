//! What the user asks for: as options of the command line, or as a TOML or JSON file where arms have options of their
//! own.

use super::tuned::{TunedRecord, TunedSpec};
use crate::config::{Method, PruneConfig, PrunePhases};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A table that is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spec {
    /// The methods; dense is always there.
    pub methods: Vec<MethodSpec>,
    /// Wished mean pruning ratios, in (0, 1), of methods that name none.
    pub ratios: Vec<f64>,
    /// Units of files, with adapters.
    pub tuned: Vec<TunedSpec>,
    /// Texts for perplexity, each `FILE` or `NAME=FILE`.
    pub data: Vec<String>,
    /// Multiple-choice tasks.
    pub tasks: Vec<TaskSpec>,
    /// Use only the first so many characters of each text.
    pub max_chars: Option<usize>,
    /// Use only the first so many questions of each task.
    pub limit: Option<usize>,
    /// Tokens of a chunk of text.
    pub seq_len: usize,
    /// Chunks of a batch, or requests of one.
    pub batch: usize,
    /// Batches of each text.
    pub batches: usize,
    /// Passes over all data sets, for more timings.
    pub rounds: usize,
    /// Seed of the order in which arms take turns.
    pub seed: u64,
    /// Text that statistics of activations are made from.
    pub calibration: Option<PathBuf>,
    /// Chunks of it.
    pub calibration_samples: usize,
    /// Settings of pruning for all methods, by their names in results (`probe_tokens`, `ema`, ...).
    pub options: Map<String, Value>,
}

impl Default for Spec {
    fn default() -> Spec {
        Spec {
            methods: [Method::FullBatch, Method::Pp].map(MethodSpec::from).to_vec(),
            ratios: vec![0.2, 0.4],
            tuned: Vec::new(),
            data: Vec::new(),
            tasks: Vec::new(),
            max_chars: None,
            limit: None,
            seq_len: 256,
            batch: 10,
            batches: 4,
            rounds: 1,
            seed: 0,
            calibration: None,
            calibration_samples: 64,
            options: Map::new(),
        }
    }
}

/// A task and its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskSpec {
    /// Name of the task.
    pub name: String,
    /// Its rows.
    pub data: PathBuf,
}

/// A method: its name alone, or a table with options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "MethodForm")]
pub struct MethodSpec {
    /// Which units are computed.
    pub method: Method,
    /// What it is called in the table; the method's name where left out.
    pub name: Option<String>,
    /// Its ratios, where they are not those of the table.
    pub ratios: Option<Vec<f64>>,
    /// Settings of pruning, over those for all methods.
    pub options: Map<String, Value>,
}

/// How a method may be written.
#[derive(Deserialize)]
#[serde(untagged)]
enum MethodForm {
    Name(Method),
    Table {
        method: Method,
        name: Option<String>,
        ratios: Option<Vec<f64>>,
        #[serde(flatten)]
        options: Map<String, Value>,
    },
}

impl From<Method> for MethodSpec {
    fn from(method: Method) -> MethodSpec {
        MethodSpec { method, name: None, ratios: None, options: Map::new() }
    }
}

impl From<MethodForm> for MethodSpec {
    fn from(form: MethodForm) -> MethodSpec {
        match form {
            MethodForm::Name(method) => method.into(),
            MethodForm::Table { method, name, ratios, options } => MethodSpec { method, name, ratios, options },
        }
    }
}

/// One method at one ratio: what takes turns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// Unique within the table: the series and the ratio.
    pub name: String,
    /// The method's name in the table; arms that differ by their ratio alone share it.
    pub series: String,
    /// All settings.
    pub prune: PruneConfig,
    /// The files that it runs, where it runs those of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuned: Option<TunedRecord>,
}

/// Refuses two arms of one name.
///
/// # Errors
/// [`Error::Setting`] with the name.
pub fn check_names(arms: &[Arm]) -> Result<()> {
    let mut names = HashSet::new();
    match arms.iter().find(|arm| !names.insert(arm.name.as_str())) {
        None => Ok(()),
        Some(twice) => {
            let what = format!("two arms are called `{}`: give one of their methods a `name`", twice.name);
            Err(Error::Setting(what))
        }
    }
}

impl Spec {
    /// Reads a `.json` file as JSON, any other as TOML.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::BadFile`] with the place of what is wrong.
    pub fn read(path: &Path) -> Result<Spec> {
        let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
        let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let spec = if is_json {
            serde_json::from_str(&text).map_err(|error| error.to_string())
        } else {
            toml::from_str(&text).map_err(|error| error.to_string().trim_end().replace('\n', " "))
        };
        spec.map_err(|what| Error::bad_file(path, format!("this is no description of a table: {what}")))
    }

    /// Refuses counts of zero and a table without data.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the option.
    pub fn validate(&self) -> Result<()> {
        for (name, value) in [("batch", self.batch), ("batches", self.batches), ("rounds", self.rounds)] {
            if value == 0 {
                return Err(Error::Setting(format!("--{name} is 0; it must be at least 1")));
            }
        }
        if self.data.is_empty() && self.tasks.is_empty() {
            let what = "a table needs data: name texts with --data FILE or tasks with --task NAME=FILE";
            return Err(Error::Setting(what.into()));
        }
        Ok(())
    }

    /// The arms over the settings `base`, dense first. A batch is always pruned as a prefill.
    ///
    /// # Errors
    /// [`Error::Setting`] for a ratio or a setting outside its range, a setting that does not exist, or two arms of one
    /// name.
    pub fn arms(&self, base: &PruneConfig) -> Result<Vec<Arm>> {
        let phases = PrunePhases { prefill: true, decode: false };
        let base = overlaid(base, &self.options, "options")?;
        let dense = PruneConfig { method: Method::Dense, ratio: 0.0, phases, ..base.clone() };
        dense.validate()?;
        let mut arms = vec![Arm { name: "dense".into(), series: "dense".into(), prune: dense, tuned: None }];
        let pruned = self.methods.iter().filter(|spec| spec.method != Method::Dense);
        for spec in pruned {
            if spec.method == Method::Masks {
                let what = "`masks` runs the units of a file, and a table names its files: use --tuned FILE";
                return Err(Error::Setting(what.into()));
            }
            let series = spec.name.clone().unwrap_or_else(|| spec.method.name().to_string());
            let settings = overlaid(&base, &spec.options, &series)?;
            let ratios = spec.ratios.as_ref().unwrap_or(&self.ratios);
            if ratios.is_empty() {
                return Err(Error::Setting(format!("`{series}` has no ratio: name some with --ratios")));
            }
            for &ratio in ratios {
                if !(ratio > 0.0 && ratio < 1.0) {
                    let what =
                        format!("a ratio of `{series}` is {ratio}; it must lie in (0, 1): dense is always there");
                    return Err(Error::Setting(what));
                }
                let prune = PruneConfig { method: spec.method, ratio, phases, ..settings.clone() };
                prune.validate()?;
                arms.push(Arm { name: format!("{series} {ratio}"), series: series.clone(), prune, tuned: None });
            }
        }
        check_names(&arms)?;
        Ok(arms)
    }

    /// The texts: a name, which is the file's without its ending where none is given, and the file.
    pub fn texts(&self) -> Vec<(String, PathBuf)> {
        self.data.iter().map(|given| named(given)).collect()
    }
}

/// A data set's name and file from `FILE` or `NAME=FILE`; a file that exists as it is written is one.
pub(super) fn named(given: &str) -> (String, PathBuf) {
    match given.split_once('=').filter(|_| !Path::new(given).exists()) {
        Some((name, path)) if !name.is_empty() => (name.to_string(), PathBuf::from(path)),
        _ => {
            let path = PathBuf::from(given);
            let stem = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            (stem, path)
        }
    }
}

/// `base` with some of its settings replaced, by name.
fn overlaid(base: &PruneConfig, options: &Map<String, Value>, whose: &str) -> Result<PruneConfig> {
    let refused = |what: String| Error::Setting(format!("settings of `{whose}`: {what}"));
    if options.is_empty() {
        return Ok(base.clone());
    }
    let Ok(Value::Object(mut settings)) = serde_json::to_value(base) else {
        return Err(Error::Internal("settings of pruning are no object".into()));
    };
    // What a table decides by itself.
    for name in ["method", "ratio", "phases"] {
        settings.remove(name);
    }
    for (name, value) in options {
        let Some(setting) = settings.get_mut(name) else {
            let known: Vec<&str> = settings.keys().map(String::as_str).collect();
            return Err(refused(format!("there is no `{name}`; there are {}", known.join(", "))));
        };
        *setting = value.clone();
    }
    let own = [
        ("method", serde_json::to_value(base.method)),
        ("ratio", serde_json::to_value(base.ratio)),
        ("phases", serde_json::to_value(base.phases)),
    ];
    for (name, value) in own {
        settings.insert(name.into(), value.map_err(|error| Error::Internal(error.to_string()))?);
    }
    serde_json::from_value(Value::Object(settings)).map_err(|error| refused(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = r#"
        ratios = [0.2, 0.4]
        data = ["wiki.txt", "c4=sub/c4.jsonl"]
        tasks = [{ name = "piqa", data = "piqa.jsonl" }]
        methods = ["full-batch", { method = "pp", name = "wide probe", probe_tokens = 1.0, ratios = [0.4] }]
        [options]
        tile = 16
        ema = 0.9
    "#;

    fn of(toml: &str) -> Spec {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn arms_are_methods_by_ratios_with_their_own_settings_over_all_others() {
        let base = PruneConfig { dense_layers: 1, tile: 32, ..PruneConfig::default() };
        let arms = of(TOML).arms(&base).unwrap();
        let names: Vec<&str> = arms.iter().map(|arm| arm.name.as_str()).collect();
        assert_eq!(names, ["dense", "full-batch 0.2", "full-batch 0.4", "wide probe 0.4"]);
        let wide = &arms[3];
        assert_eq!((wide.series.as_str(), wide.prune.method, wide.prune.ratio), ("wide probe", Method::Pp, 0.4));
        assert_eq!((wide.prune.probe_tokens, arms[1].prune.probe_tokens), (1.0, base.probe_tokens));
        for arm in &arms {
            assert_eq!((arm.prune.tile, arm.prune.ema, arm.prune.dense_layers), (16, 0.9, 1), "{}", arm.name);
            assert_eq!(arm.prune.phases, PrunePhases { prefill: true, decode: false });
        }
        assert_eq!((arms[0].prune.method, arms[0].prune.ratio), (Method::Dense, 0.0));
    }

    #[test]
    fn json_says_the_same_as_toml() {
        let dir = tempfile::tempdir().unwrap();
        let spec = of(TOML);
        let path = dir.path().join("spec.json");
        fs::write(
            &path,
            r#"{"ratios": [0.2, 0.4], "data": ["wiki.txt", "c4=sub/c4.jsonl"],
                "tasks": [{"name": "piqa", "data": "piqa.jsonl"}],
                "methods": ["full-batch", {"method": "pp", "name": "wide probe", "probe_tokens": 1.0, "ratios": [0.4]}],
                "options": {"tile": 16, "ema": 0.9}}"#,
        )
        .unwrap();
        assert_eq!(Spec::read(&path).unwrap(), spec);
        let path = dir.path().join("spec.toml");
        fs::write(&path, TOML).unwrap();
        assert_eq!(Spec::read(&path).unwrap(), spec);
    }

    #[test]
    fn names_of_texts_are_given_or_the_files() {
        let names = of(TOML).texts();
        assert_eq!(names[0], ("wiki".to_string(), PathBuf::from("wiki.txt")));
        assert_eq!(names[1], ("c4".to_string(), PathBuf::from("sub/c4.jsonl")));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let refused = |toml: &str| {
            let spec = of(toml);
            let error = spec.validate().and_then(|()| spec.arms(&PruneConfig::default()).map(drop)).unwrap_err();
            assert!(error.is_user_fault());
            error.to_string()
        };
        let with = |rest: &str| format!("data = [\"a\"]\n{rest}");
        assert!(refused("").contains("--data"));
        assert!(refused(&with("rounds = 0")).contains("--rounds is 0"));
        assert!(refused(&with("ratios = [0.0]")).contains("(0, 1)"));
        assert!(refused(&with("ratios = []")).contains("no ratio"));
        assert!(refused(&with("methods = [\"pp\", \"pp\"]")).contains("`pp 0.2`"));
        assert!(refused(&with("options = { tiles = 3 }")).contains("no `tiles`; there are blocks"));
        assert!(refused(&with("methods = [\"masks\"]")).contains("`masks`"));
        assert!(refused(&with("options = { ratio = 0.3 }")).contains("no `ratio`"));
        assert!(refused(&with("methods = [{ method = \"pp\", tile = \"x\" }]")).contains("`pp`"));
        assert!(refused(&with("methods = [{ method = \"pp\", probe_tokens = 2 }]")).contains("--probe-tokens is 2"));
    }

    #[test]
    fn a_file_that_is_no_spec_is_refused_with_the_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spec.toml");
        fs::write(&path, "seq_len = 12\nbatchs = 3\n").unwrap();
        let error = Spec::read(&path).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("batchs") && error.contains("spec.toml"), "{error}");
    }
}
