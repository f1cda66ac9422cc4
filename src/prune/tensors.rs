//! Tensors and a recipe in one safetensors file: what calibrations, sets of units and training runs are kept in.
//!
//! Invariants: a file appears under its name at once and whole; whatever is read has been checked for its size.

use crate::error::{Error, Result};
use crate::model::MappedFile;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// Name of the recipe in the file's metadata: JSON.
const RECIPE: &str = "secateur";

/// Tensors in a file, or in memory where there is no file yet.
#[derive(Debug)]
pub(crate) struct Tensors {
    file: MappedFile,
}

impl Tensors {
    pub fn open(path: &Path) -> Result<Tensors> {
        let tensors = Tensors { file: MappedFile::open(path)? };
        tensors.view()?;
        Ok(tensors)
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    pub fn bytes(&self) -> u64 {
        self.file.len() as u64
    }

    /// The recipe; `what` names the kind of file that was expected.
    pub fn recipe<T: DeserializeOwned>(&self, what: &str) -> Result<T> {
        let (_, metadata) = SafeTensors::read_metadata(&self.file).map_err(|error| self.bad(&error.to_string()))?;
        let text = metadata.metadata().as_ref().and_then(|metadata| metadata.get(RECIPE));
        let text = text.ok_or_else(|| self.bad(&format!("this is not {what}: its metadata has no `{RECIPE}`")))?;
        serde_json::from_str(text).map_err(|error| self.bad(&format!("this is not {what}: {error}")))
    }

    pub fn has(&self, name: &str) -> Result<bool> {
        Ok(self.view()?.tensor(name).is_ok())
    }

    /// Refuses a tensor that is missing or of another shape.
    pub fn check(&self, name: &str, shape: &[usize]) -> Result<()> {
        let view = self.view()?;
        let found = view.tensor(name).map_err(|_| self.missing(name))?;
        match found.shape() == shape {
            true => Ok(()),
            false => Err(Error::TensorShape {
                name: name.to_string(),
                expected: shape.to_vec(),
                found: found.shape().to_vec(),
            }),
        }
    }

    /// The values of an F32 tensor, all finite.
    pub fn floats(&self, name: &str) -> Result<Vec<f32>> {
        let values: Vec<f32> = self.words(name, Dtype::F32)?.into_iter().map(f32::from_le_bytes).collect();
        match values.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(Error::TensorNotFinite { name: name.to_string(), index, value: values[index] }),
            None => Ok(values),
        }
    }

    /// The values of a U32 tensor.
    pub fn integers(&self, name: &str) -> Result<Vec<u32>> {
        Ok(self.words(name, Dtype::U32)?.into_iter().map(u32::from_le_bytes).collect())
    }

    fn words(&self, name: &str, dtype: Dtype) -> Result<Vec<[u8; 4]>> {
        let view = self.view()?;
        let tensor = view.tensor(name).map_err(|_| self.missing(name))?;
        if tensor.dtype() != dtype {
            return Err(self.bad(&format!("tensor `{name}` is {:?}, it was to be {dtype:?}", tensor.dtype())));
        }
        let (words, _) = tensor.data().as_chunks::<4>();
        Ok(words.to_vec())
    }

    /// Writes everything to `path`: beside it first, so that whatever is found there is whole.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut beside = OsString::from(path.as_os_str());
        beside.push(".writing");
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&beside)?;
            file.write_all(&self.file)?;
            file.sync_all()?;
            fs::rename(&beside, path)
        };
        write().map_err(|error| {
            // What could not be written whole is of no use to anyone.
            let _ = fs::remove_file(&beside);
            Error::io("write", path)(error)
        })
    }

    fn view(&self) -> Result<SafeTensors<'_>> {
        SafeTensors::deserialize(&self.file)
            .map_err(|error| self.bad(&format!("no sound safetensors file (cut short?): {error}")))
    }

    fn missing(&self, name: &str) -> Error {
        Error::TensorMissing { name: name.to_string(), path: self.path().to_path_buf() }
    }

    /// What is wrong with the file.
    pub fn bad(&self, what: &str) -> Error {
        Error::bad_file(self.path(), what)
    }
}

/// Collects tensors.
#[derive(Default)]
pub(crate) struct TensorsWriter {
    tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)>,
}

impl TensorsWriter {
    pub fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensors.push((name.to_string(), Dtype::F32, shape.to_vec(), bytes));
    }

    pub fn integers(&mut self, name: &str, values: &[u32]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensors.push((name.to_string(), Dtype::U32, vec![values.len()], bytes));
    }

    /// Everything in memory; `label` stands for the path.
    pub fn finish(self, label: &str, recipe: &impl Serialize) -> Result<Tensors> {
        let internal = |error: String| Error::Internal(format!("{label}: {error}"));
        let recipe = serde_json::to_string(recipe).map_err(|error| internal(error.to_string()))?;
        let views = self.tensors.iter().map(|(name, dtype, shape, bytes)| {
            Ok((name, TensorView::new(*dtype, shape.clone(), bytes).map_err(|error| internal(error.to_string()))?))
        });
        let views = views.collect::<Result<Vec<_>>>()?;
        let metadata = HashMap::from([(RECIPE.to_string(), recipe)]);
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(|error| internal(error.to_string()))?;
        Ok(Tensors { file: MappedFile::from_bytes(label, bytes) })
    }
}
