//! A model on disk, whatever its format: configuration, text side and tensors by role.
//!
//! Invariant: once open, every tensor that the configuration needs is there with the shape that it implies, no tensor
//! is left over that would change the result, and every view lies inside a memory map, or in memory where an adapter made it.
//! Nothing copies a tensor.

use super::gguf::Gguf;
use super::mapped::{MappedFile, hex};
use super::names::Convention;
use super::safetensors::Folder;
use super::tensor::{LayerTensor, TensorEntry, TensorRole, TensorType, TensorView};
use crate::config::{ModelConfig, Norms, TextSource};
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// An opened model.
#[derive(Debug)]
pub struct ModelFiles {
    /// The network's shape and constants; validated.
    pub config: ModelConfig,
    /// What the files say about text.
    pub text: TextSource,
    /// The file or folder.
    pub path: PathBuf,
    format: Format,
    files: Vec<MappedFile>,
    /// Tensors in memory, in place of those of the files; their entries' indices go on behind the files'.
    merged: Vec<MappedFile>,
    /// SHA-256 of the adapter whose tensors these are.
    adapter_sha256: Option<String>,
    tensors: BTreeMap<String, TensorEntry>,
}

#[derive(Debug)]
enum Format {
    Gguf { version: u32 },
    HuggingFace { raw_config: Vec<u8> },
}

impl ModelFiles {
    /// Opens a `.gguf` file, a Hugging Face folder, or a folder that holds exactly one `.gguf` file.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be read; [`Error::BadFile`] if one is malformed; [`Error::Unsupported`] if it asks
    /// for what this build cannot do; [`Error::Setting`] for a shape that no kernel runs; [`Error::TensorMissing`] and
    /// [`Error::TensorShape`] if the tensors do not fit the configuration.
    pub fn open(path: &Path) -> Result<ModelFiles> {
        let metadata = fs::metadata(path).map_err(Error::io("open", path))?;
        if metadata.is_dir() {
            return match path.join("config.json").exists() {
                true => Self::from_folder(path),
                false => Self::from_gguf(MappedFile::open(&only_gguf(path)?)?),
            };
        }
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors")) {
            return Err(Error::bad_file(path, "weights alone are no model: give the folder with its config.json"));
        }
        Self::from_gguf(MappedFile::open(path)?)
    }

    /// Opens a GGUF file that is in memory already, as in the browser; `name` stands for its path in errors.
    ///
    /// # Errors
    /// As [`ModelFiles::open`].
    pub fn from_gguf_bytes(name: &str, bytes: Vec<u8>) -> Result<ModelFiles> {
        Self::from_gguf(MappedFile::from_bytes(name, bytes))
    }

    /// Opens a GGUF file of the page, of which only the header is read. Weights come with [`ModelFiles::hold`].
    ///
    /// # Errors
    /// As [`ModelFiles::open`].
    #[cfg(target_arch = "wasm32")]
    pub async fn begin(blob: &crate::origin::blob::Blob) -> Result<ModelFiles> {
        /// Larger than the header of most models, whose vocabulary is the bulk of it.
        const HEAD: u64 = 4 << 20;
        /// No header is that large.
        const MOST: u64 = 256 << 20;
        if usize::try_from(blob.len()).is_err() {
            return Err(Error::Unsupported {
                what: "in a browser, a file of",
                name: format!("{} bytes", blob.len()),
                supported: "files of less than 4 GiB; use the desktop program, or a smaller weight format".into(),
            });
        }
        let mut head = HEAD;
        loop {
            // A header that is cut off reads like a damaged one: only the whole of it tells.
            match Self::from_gguf(MappedFile::begin(blob, head).await?) {
                Err(_) if head < blob.len().min(MOST) => head *= 4,
                made => return made,
            }
        }
    }

    fn from_gguf(file: MappedFile) -> Result<ModelFiles> {
        let gguf = Gguf::parse(file)?;
        let config = gguf.model_config()?;
        let rows = gguf.tensors().get("token_embd.weight").map_or(0, TensorEntry::rows);
        let text = gguf.text_source(rows)?;
        let (format, path) = (Format::Gguf { version: gguf.version() }, gguf.path().to_path_buf());
        let (file, tensors) = gguf.into_parts();
        let files = vec![file];
        let model = ModelFiles { config, text, path, format, files, merged: Vec::new(), adapter_sha256: None, tensors };
        model.check()?;
        Ok(model)
    }

    fn from_folder(path: &Path) -> Result<ModelFiles> {
        let folder = Folder::open(path)?;
        let (config, text) = (folder.config().clone(), folder.text_source()?);
        let (raw_config, files, tensors) = folder.into_parts();
        let format = Format::HuggingFace { raw_config };
        let path = path.to_path_buf();
        let model = ModelFiles { config, text, path, format, files, merged: Vec::new(), adapter_sha256: None, tensors };
        model.check()?;
        Ok(model)
    }

    /// Checks the configuration, then every tensor against it.
    fn check(&self) -> Result<()> {
        self.config.validate()?;
        for role in self.roles() {
            self.place(role)?;
        }
        // Using these by their roles, or leaving them out, gives the model's own result.
        let known: BTreeSet<String> = self
            .roles()
            .chain([TensorRole::Output, TensorRole::RopeFactors])
            .filter_map(|role| self.name(role))
            .collect();
        match self.tensors.keys().find(|&name| !known.contains(name) && !Convention::is_redundant(name)) {
            None => Ok(()),
            Some(name) => {
                let (family, layers) = (self.config.family_name(), self.config.num_hidden_layers);
                let blocks = &self.config.blocks;
                let biases = match (blocks.qkv_bias, blocks.output_bias) {
                    (_, true) => "with biases",
                    (true, false) => "with biases of q, k and v alone",
                    (false, false) => "without biases",
                };
                let supported = format!("the tensors of a dense {family} of {layers} layers {biases}");
                Err(Error::Unsupported { what: "tensor", name: name.clone(), supported })
            }
        }
    }

    /// The format, for people: "GGUF v3", "safetensors, 2 files".
    pub fn format_name(&self) -> String {
        match &self.format {
            Format::Gguf { version } => format!("GGUF v{version}"),
            Format::HuggingFace { .. } if self.files.len() == 1 => "safetensors".into(),
            Format::HuggingFace { .. } => format!("safetensors, {} files", self.files.len()),
        }
    }

    /// The tensor that plays `role`.
    ///
    /// # Errors
    /// [`Error::TensorMissing`] if the files lack it; [`Error::TensorShape`] if its shape is not what the configuration
    /// implies.
    pub fn tensor(&self, role: TensorRole) -> Result<TensorView<'_>> {
        let place = self.place(role)?;
        let file = self.files.iter().chain(&self.merged).nth(place.file);
        let bytes = file.and_then(|file| file.get(place.range.clone()));
        let bytes =
            bytes.ok_or_else(|| Error::Internal(format!("tensor `{}` lies outside of its file", place.name)))?;
        Ok(place.view(bytes))
    }

    /// The name of the tensor that holds `role`.
    pub(super) fn name(&self, role: TensorRole) -> Option<String> {
        self.convention().name(role, self.config.blocks.fused)
    }

    /// Its name and its place in the files.
    fn place(&self, role: TensorRole) -> Result<Place<'_>> {
        let name = self
            .name(role)
            .ok_or_else(|| Error::TensorMissing { name: format!("{role:?}"), path: self.path.clone() })?;
        let (name, entry) =
            self.tensors.get_key_value(&name).ok_or(Error::TensorMissing { name, path: self.path.clone() })?;
        let [rows, cols] = role.shape(&self.config);
        let (before, whole) = self.fused_rows(role).unwrap_or((0, rows));
        if (entry.rows(), entry.cols()) != (whole, cols) {
            let expected = if whole == 1 { vec![cols] } else { vec![whole, cols] };
            return Err(Error::TensorShape { name: name.clone(), expected, found: entry.shape.clone() });
        }
        // The whole tensor is `whole` rows long.
        let row_bytes = entry.range.len() / whole;
        let start = entry.range.start + before * row_bytes;
        Ok(Place { name, kind: entry.kind, rows, cols, file: entry.file, range: start..start + rows * row_bytes })
    }

    /// Rows before `role` in the tensor that it shares with others, and rows of that tensor; `None` where it has its own.
    fn fused_rows(&self, role: TensorRole) -> Option<(usize, usize)> {
        let TensorRole::Layer(layer, tensor) = role else { return None };
        let together: &[LayerTensor] = match tensor {
            LayerTensor::Q | LayerTensor::K | LayerTensor::V => &[LayerTensor::Q, LayerTensor::K, LayerTensor::V],
            LayerTensor::Gate | LayerTensor::Up => &[LayerTensor::Gate, LayerTensor::Up],
            _ => return None,
        };
        let rows = |tensor: &LayerTensor| TensorRole::Layer(layer, *tensor).shape(&self.config)[0];
        let sum = |rows: &mut dyn Iterator<Item = usize>| rows.fold(0usize, usize::saturating_add);
        let before = sum(&mut together.iter().take_while(|other| **other != tensor).map(rows));
        self.config.blocks.fused.then(|| (before, sum(&mut together.iter().map(rows))))
    }

    /// Reads the tensors of these roles out of the page's file; those that the files lack are left out.
    ///
    /// # Errors
    /// Those of reading the file.
    #[cfg(target_arch = "wasm32")]
    pub(super) async fn hold(&self, roles: &[TensorRole]) -> Result<Held<'_>> {
        let mut bytes = Vec::new();
        for &role in roles.iter().filter(|&&role| self.has(role)) {
            let place = self.place(role)?;
            bytes.push((role, self.files[place.file].fetch(place.range).await?));
        }
        Ok(Held { files: self, bytes })
    }

    /// The types of the tensors that the model uses, each with its bytes.
    pub fn types(&self) -> impl Iterator<Item = (TensorType, usize)> {
        self.roles().filter_map(|role| self.place(role).ok()).map(|place| (place.kind, place.range.len()))
    }

    /// Whether the model is a GGUF file, and not a folder.
    pub fn is_gguf(&self) -> bool {
        matches!(self.format, Format::Gguf { .. })
    }

    /// Whether any matrix is of a type that stores blocks.
    pub fn is_quantised(&self) -> bool {
        self.types().any(|(kind, _)| kind.block_elements() > 1)
    }

    /// Whether the files have a tensor for `role` that the model uses: a head that is tied to the embedding is none,
    /// even where the file repeats it.
    pub fn has(&self, role: TensorRole) -> bool {
        let unused = role == TensorRole::Output && self.config.tie_word_embeddings;
        !unused && self.name(role).is_some_and(|name| self.tensors.contains_key(&name))
    }

    /// Every tensor that the model uses, in the order of the forward pass.
    pub fn tensors(&self) -> impl Iterator<Item = TensorView<'_>> {
        // All of them were found when the model was opened.
        self.roles().filter_map(|role| self.tensor(role).ok())
    }

    /// Size of the weight files in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.total() as u64).sum()
    }

    /// SHA-256 of what runs, in lower-case hexadecimal; reads the weights once.
    ///
    /// That of the files ([`ModelFiles::base_sha256`]); with an adapter, that of the lines `<hash>  model\n` and
    /// `<hash>  adapter\n`.
    ///
    /// # Errors
    /// [`Error::BadFile`] if a weight file's name is not UTF-8.
    pub fn sha256(&self) -> Result<String> {
        let base = self.base_sha256()?;
        Ok(match &self.adapter_sha256 {
            None => base,
            Some(adapter) => hex(&Sha256::digest(format!("{base}  model\n{adapter}  adapter\n"))),
        })
    }

    /// SHA-256 of the adapter that the model runs with ([`Adapter::sha256`](super::adapter::Adapter::sha256)), if one.
    pub fn adapter_sha256(&self) -> Option<&str> {
        self.adapter_sha256.as_deref()
    }

    /// SHA-256 of the files, in lower-case hexadecimal, whatever adapter runs with them; reads the weights once.
    ///
    /// Of a GGUF file, that of the file. Of a folder, that of the text that `sha256sum` would print for `config.json`
    /// and the weight files, sorted by name: a line `<hash>  <name>\n` each.
    ///
    /// # Errors
    /// [`Error::BadFile`] if a weight file's name is not UTF-8.
    pub fn base_sha256(&self) -> Result<String> {
        let raw_config = match (&self.format, self.files.as_slice()) {
            (Format::Gguf { .. }, [file]) => return Ok(file.sha256()),
            (Format::Gguf { .. }, files) => {
                return Err(Error::Internal(format!("{} GGUF files in one model", files.len())));
            }
            (Format::HuggingFace { raw_config }, _) => raw_config,
        };
        let mut lines = vec![("config.json", hex(&Sha256::digest(raw_config)))];
        for file in &self.files {
            let name = file.path().file_name().and_then(|name| name.to_str());
            let name = name.ok_or_else(|| Error::bad_file(file.path(), "the file's name is not UTF-8"))?;
            lines.push((name, file.sha256()));
        }
        lines.sort_unstable();
        let list: String = lines.iter().map(|(name, hash)| format!("{hash}  {name}\n")).collect();
        Ok(hex(&Sha256::digest(list)))
    }

    /// The bytes of a folder's `config.json`; `None` of a GGUF file.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn raw_config(&self) -> Option<&[u8]> {
        match &self.format {
            Format::Gguf { .. } => None,
            Format::HuggingFace { raw_config } => Some(raw_config),
        }
    }

    /// Names of all tensors in the files, used or not.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn stored_names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Type, shape and bytes of a tensor in the files, used or not, with what an adapter made of it.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn stored(&self, name: &str) -> Option<(TensorType, &[usize], &[u8])> {
        let entry = self.tensors.get(name)?;
        let file = self.files.iter().chain(&self.merged).nth(entry.file)?;
        Some((entry.kind, &entry.shape, file.get(entry.range.clone())?))
    }

    /// The same model with these tensors of an adapter in place of its own: the name in the files, type and bytes of each.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn with_merged(mut self, merged: Vec<(String, TensorType, Vec<u8>)>, sha256: String) -> ModelFiles {
        for (name, kind, bytes) in merged {
            let (file, range) = (self.files.len() + self.merged.len(), 0..bytes.len());
            self.merged.push(MappedFile::from_bytes(&name, bytes));
            // Shapes stay: an adapter changes values alone.
            if let Some(entry) = self.tensors.get_mut(&name) {
                *entry = TensorEntry { kind, shape: std::mem::take(&mut entry.shape), file, range };
            }
        }
        self.adapter_sha256 = Some(sha256);
        self
    }

    /// The one file of a GGUF model.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn gguf_file(&self) -> Option<&MappedFile> {
        self.files.first().filter(|_| matches!(self.format, Format::Gguf { .. }))
    }

    fn convention(&self) -> Convention {
        match self.format {
            Format::Gguf { .. } => Convention::Gguf,
            Format::HuggingFace { .. } => Convention::of_folder(&self.config),
        }
    }

    /// The roles that this model's configuration needs, in the order of the forward pass.
    pub(super) fn roles(&self) -> impl Iterator<Item = TensorRole> + '_ {
        let layers = (0..self.config.num_hidden_layers)
            .flat_map(|layer| LayerTensor::ALL.into_iter().map(move |tensor| (layer, tensor)))
            .filter(|(_, tensor)| tensor.is_in(&self.config.blocks))
            .map(|(layer, tensor)| TensorRole::Layer(layer, tensor));
        let norms = self.config.blocks.norms;
        let projects = self.config.word_embed_proj_dim.is_some();
        std::iter::once(TensorRole::TokenEmbedding)
            .chain(self.config.position_offset.map(|_| TensorRole::PositionEmbedding))
            .chain(projects.then_some(TensorRole::ProjectIn))
            .chain(self.has(TensorRole::RopeFactors).then_some(TensorRole::RopeFactors))
            .chain(layers)
            // Where norms follow, the last block's is the last of all.
            .chain((norms != Norms::LayerBehind).then_some(TensorRole::OutputNorm))
            .chain((norms == Norms::LayerBefore).then_some(TensorRole::OutputNormBias))
            .chain(projects.then_some(TensorRole::ProjectOut))
            .chain((!self.config.tie_word_embeddings).then_some(TensorRole::Output))
    }
}

/// Where a tensor lies: a whole one of the files, or rows of one.
struct Place<'a> {
    name: &'a str,
    kind: TensorType,
    rows: usize,
    cols: usize,
    /// Index of the file among the model's weight files.
    file: usize,
    /// Bytes within that file.
    range: Range<usize>,
}

impl<'a> Place<'a> {
    fn view(&self, bytes: &'a [u8]) -> TensorView<'a> {
        TensorView { name: self.name, kind: self.kind, rows: self.rows, cols: self.cols, bytes }
    }
}

/// Where a model's tensors come from.
pub(super) trait Tensors {
    /// The tensor that plays `role`.
    fn tensor(&self, role: TensorRole) -> Result<TensorView<'_>>;
}

impl Tensors for ModelFiles {
    fn tensor(&self, role: TensorRole) -> Result<TensorView<'_>> {
        ModelFiles::tensor(self, role)
    }
}

/// Some tensors in memory.
#[cfg(target_arch = "wasm32")]
pub(super) struct Held<'f> {
    files: &'f ModelFiles,
    bytes: Vec<(TensorRole, Vec<u8>)>,
}

#[cfg(target_arch = "wasm32")]
impl Tensors for Held<'_> {
    fn tensor(&self, role: TensorRole) -> Result<TensorView<'_>> {
        let place = self.files.place(role)?;
        let bytes = self.bytes.iter().find(|(held, _)| *held == role).map(|(_, bytes)| bytes);
        let bytes = bytes.ok_or_else(|| Error::Internal(format!("tensor `{}` was not read", place.name)))?;
        Ok(place.view(bytes))
    }
}

/// The one `.gguf` file of a folder.
fn only_gguf(folder: &Path) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) {
            found.push(path);
        }
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(Error::bad_file(folder, "the folder has neither a config.json nor a .gguf file: no model is here")),
        count => Err(Error::bad_file(folder, format!("the folder has {count} .gguf files: name the one to open"))),
    }
}
