//! An adapter's folder: `adapter_config.json` and `adapter_model.safetensors`.

use super::{Adapter, Factors, FactorsByMatrix, Module, config, modules};
use crate::error::{Error, Result};
use crate::format::WeightFormat;
use crate::model::convert::{Part, known};
use crate::model::mapped::{MappedFile, read_small};
use crate::model::safetensors::{read_header, tensor_type};
use crate::model::{LayerTensor, ModelFiles};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::ops::Range;
use std::path::Path;

const SETTINGS: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// What PEFT's names have in front of the model's own.
const PREFIX: &str = "base_model.model.";
const MAX_SETTINGS_BYTES: u64 = 1 << 20;
/// Name of our record in the metadata of the tensors.
const RECORD: &str = "secateur";

/// What the metadata of an adapter of this program holds, as JSON.
#[derive(Serialize, Deserialize)]
struct Record {
    /// SHA-256 of the model that it was made for.
    model_sha256: String,
}

/// The name of a factor.
fn factor(module: &Module, which: char) -> String {
    format!("{PREFIX}{}.lora_{which}.weight", module.name)
}

impl Adapter {
    /// Reads a folder in PEFT's form for a model. Values are kept as F32.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::BadFile`] for a folder that is no adapter, is damaged, or was made for another model;
    /// [`Error::Unsupported`] for a setting or a type that is not read; [`Error::TensorMissing`] for half a pair;
    /// [`Error::TensorShape`] for one that fits another model; [`Error::TensorNotFinite`].
    pub fn open(folder: &Path, files: &ModelFiles) -> Result<Adapter> {
        if !fs::metadata(folder).map_err(Error::io("open", folder))?.is_dir() {
            let what = format!("not a folder: an adapter is a folder with {SETTINGS} and {WEIGHTS}, as PEFT writes it");
            return Err(Error::bad_file(folder, what));
        }
        let path = folder.join(SETTINGS);
        let settings = read_small(&path, MAX_SETTINGS_BYTES)?.ok_or_else(|| {
            Error::bad_file(folder, format!("the folder has no {SETTINGS}: not an adapter of PEFT's form"))
        })?;
        let settings = config::parse(&settings, &path)?;
        let path = folder.join(WEIGHTS);
        if !path.exists() {
            let what = format!(
                "the folder has no {WEIGHTS}; weights in pickle files (adapter_model.bin) are not read: PEFT's `save_pretrained` writes them as safetensors"
            );
            return Err(Error::bad_file(folder, what));
        }
        let tensors = Tensors::open(&path)?;
        if let Some(record) = tensors.record()? {
            let found = files.base_sha256()?;
            if record.model_sha256 != found {
                let made_for = record.model_sha256;
                let what = format!("this adapter is of another model (SHA-256 {made_for}; this model's is {found})");
                return Err(tensors.bad(what));
            }
        }
        let modules = modules(&files.config);
        let factors = tensors.factors(&modules, settings.r, files)?;
        let root = settings.use_rslora == Some(true);
        let adapter = Adapter { rank: settings.r, alpha: settings.lora_alpha, root, factors, modules };
        adapter.check(&files.config)?;
        Ok(adapter)
    }

    /// Writes the folder, which is made where it is not there: each file is whole under its name or not there, and where the
    /// disk is full neither is. `base` is the model's name, `model_sha256` its hash ([`ModelFiles::base_sha256`]).
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Setting`] where another process is writing there.
    pub fn save(&self, folder: &Path, base: &str, model_sha256: &str) -> Result<()> {
        let made = !folder.exists();
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        self.write(folder, base, model_sha256).inspect_err(|_| {
            if made {
                // Where something else is in it by now, it stays.
                let _ = fs::remove_dir(folder);
            }
        })
    }

    fn write(&self, folder: &Path, base: &str, model_sha256: &str) -> Result<()> {
        let mut weights = Part::create(&folder.join(WEIGHTS))?;
        let mut settings = Part::create(&folder.join(SETTINGS))?;
        weights.append(&self.tensors(model_sha256)?)?;
        settings.append(config::write(self, base).as_bytes())?;
        settings.sync()?;
        weights.finish()?;
        settings.finish()
    }

    /// Whether a matrix has factors.
    pub(super) fn has(&self, layer: usize, tensor: LayerTensor) -> bool {
        self.factors.contains_key(&(layer, tensor))
    }

    /// The safetensors file.
    fn tensors(&self, model_sha256: &str) -> Result<Vec<u8>> {
        let internal = |error: String| Error::Internal(format!("an adapter: {error}"));
        let mut tensors: BTreeMap<String, ([usize; 2], Vec<u8>)> = BTreeMap::new();
        let bytes = |values: &[f32]| bytemuck::cast_slice::<f32, u8>(values).to_vec();
        for module in &self.modules {
            let parts: Vec<Option<&Factors>> =
                module.parts.iter().map(|&(tensor, _)| self.factors.get(&(module.layer, tensor))).collect();
            let Some(first) = parts.iter().flatten().next() else { continue };
            // What is one matrix in the folder has one `a`.
            if parts.iter().any(|part| part.is_none_or(|part| part.a != first.a)) {
                return Err(Error::Unsupported {
                    what: "in an adapter's file",
                    name: format!("factors of their own for parts of `{}`", module.name),
                    supported: "one pair of factors for the whole matrix".into(),
                });
            }
            let b: Vec<u8> = parts.iter().flatten().flat_map(|part| bytes(&part.b)).collect();
            tensors.insert(factor(module, 'A'), ([self.rank, module.cols], bytes(&first.a)));
            tensors.insert(factor(module, 'B'), ([module.rows(), self.rank], b));
        }
        let record = Record { model_sha256: model_sha256.to_owned() };
        let record = serde_json::to_string(&record).map_err(|error| internal(error.to_string()))?;
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned()), (RECORD.to_owned(), record)]);
        let views = tensors.iter().map(|(name, (shape, bytes))| {
            let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes);
            Ok((name, view.map_err(|error| internal(error.to_string()))?))
        });
        let views = views.collect::<Result<Vec<_>>>()?;
        safetensors::serialize(views, Some(metadata)).map_err(|error| internal(error.to_string()))
    }
}

/// The tensors of an adapter's file.
struct Tensors {
    file: MappedFile,
    data: usize,
    metadata: Metadata,
}

impl Tensors {
    fn open(path: &Path) -> Result<Tensors> {
        let file = MappedFile::open(path)?;
        let (data, metadata) = read_header(&file)?;
        Ok(Tensors { file, data, metadata })
    }

    fn bad(&self, what: impl Into<String>) -> Error {
        Error::bad_file(self.file.path(), what)
    }

    /// What this program wrote beside the tensors, if it did.
    fn record(&self) -> Result<Option<Record>> {
        let text = self.metadata.metadata().as_ref().and_then(|metadata| metadata.get(RECORD));
        text.map(|text| serde_json::from_str(text))
            .transpose()
            .map_err(|error| self.bad(format!("its metadata has no sound `{RECORD}`: {error}")))
    }

    /// Every pair, checked.
    fn factors(&self, modules: &[Module], rank: usize, files: &ModelFiles) -> Result<FactorsByMatrix> {
        let known: BTreeMap<String, (&Module, char)> = modules
            .iter()
            .flat_map(|module| ['A', 'B'].map(|which| (factor(module, which), (module, which))))
            .collect();
        let mut factors = FactorsByMatrix::new();
        for name in self.metadata.offset_keys() {
            let Some(&(module, which)) = known.get(&name) else { return Err(self.unknown(&name, modules, files)) };
            // A pair is read where its first half stands.
            if which == 'B' && self.metadata.info(&factor(module, 'A')).is_some() {
                continue;
            }
            let a = self.values(&factor(module, 'A'), [rank, module.cols])?;
            let b = self.values(&factor(module, 'B'), [module.rows(), rank])?;
            let mut rest = b.as_slice();
            for &(tensor, rows) in &module.parts {
                let (own, behind) = rest.split_at(rows * rank);
                factors.insert((module.layer, tensor), Factors { a: a.clone(), b: own.to_vec() });
                rest = behind;
            }
        }
        match factors.is_empty() {
            true => Err(self.bad("the file has no factors")),
            false => Ok(factors),
        }
    }

    fn unknown(&self, name: &str, modules: &[Module], files: &ModelFiles) -> Error {
        let (family, layers) = (files.config.family_name(), files.config.num_hidden_layers);
        let example = modules.first().map_or_else(String::new, |module| factor(module, 'A'));
        self.bad(format!(
            "tensor `{name}` is no LoRA factor of a matrix in the {layers} layers of this {family}, whose factors have names like `{example}`"
        ))
    }

    /// The values of a tensor of this shape.
    fn values(&self, name: &str, shape: [usize; 2]) -> Result<Vec<f32>> {
        let missing = || Error::TensorMissing { name: name.to_owned(), path: self.file.path().to_path_buf() };
        let info = self.metadata.info(name).ok_or_else(missing)?;
        let kind = tensor_type(info.dtype, name)?;
        if info.shape != shape {
            return Err(Error::TensorShape { name: name.into(), expected: shape.into(), found: info.shape.clone() });
        }
        let range: Range<usize> = info.data_offsets.0 + self.data..info.data_offsets.1 + self.data;
        let bytes =
            self.file.get(range).ok_or_else(|| self.bad(format!("tensor `{name}` lies outside of the file")))?;
        let format: WeightFormat = known(kind, name)?;
        if let Some((index, value)) = format.first_not_finite(bytes) {
            return Err(Error::TensorNotFinite { name: name.into(), index, value });
        }
        Ok(format.dequantise(bytes))
    }
}
