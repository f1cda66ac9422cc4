//! The library's one error type. Every variant names the thing that failed, the numbers, and what to do about it;
//! [`Error::is_user_fault`] decides the exit code of the binary (2 for the user's fault, 1 for ours).

use std::path::PathBuf;

/// Everything that can go wrong in the library.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be opened, read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "open", "read", "write", "create".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A model, tokenizer or data file is malformed, truncated or hostile.
    #[error("{}: {what}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, with the numbers.
        what: String,
    },
    /// A tensor that the architecture needs is not in the file.
    #[error("tensor `{name}` is missing from {}: the file is incomplete or of another architecture", path.display())]
    TensorMissing {
        /// The tensor's name in the file's own convention.
        name: String,
        /// The file or folder.
        path: PathBuf,
    },
    /// A tensor has another shape than the configuration implies.
    #[error("tensor `{name}` has shape {found:?}, but the model's configuration needs {expected:?}")]
    TensorShape {
        /// The tensor's name.
        name: String,
        /// Rows then columns, as the configuration implies.
        expected: Vec<usize>,
        /// What the file says.
        found: Vec<usize>,
    },
    /// A tensor holds values that are not finite.
    #[error("tensor `{name}` holds a value that is not finite ({value}) at element {index}: the file is damaged")]
    TensorNotFinite {
        /// The tensor's name.
        name: String,
        /// Flat index of the first offending element.
        index: usize,
        /// The value (NaN or an infinity).
        value: f32,
    },
    /// Something the file asks for that this build cannot do: an architecture, a tensor type, a rope scaling.
    #[error("{what} `{name}` is not supported; supported: {supported}")]
    Unsupported {
        /// The kind of thing: "architecture", "tensor type", "rope scaling".
        what: &'static str,
        /// Its name.
        name: String,
        /// What would work.
        supported: String,
    },
    /// A setting outside its range, or settings that contradict each other.
    #[error("{0}")]
    Setting(String),
    /// The prompt does not fit into the context window.
    #[error(
        "the prompt has {prompt_tokens} tokens but the context holds {context}: shorten the prompt or raise --context (the model was trained on {trained})"
    )]
    PromptTooLong {
        /// Tokens of the prompt, template included.
        prompt_tokens: usize,
        /// Tokens of the context window.
        context: usize,
        /// The model's own limit.
        trained: usize,
    },
    /// No usable GPU adapter.
    #[error(
        "no GPU adapter was found{detail}: install a Vulkan driver (Debian/Ubuntu: `apt install mesa-vulkan-drivers` gives a software one), or see `secateur devices`"
    )]
    NoAdapter {
        /// What was asked for, or empty.
        detail: String,
    },
    /// The device allows less than a tensor or a batch needs.
    #[error("{what} needs {needed} but the device `{adapter}` allows {available} ({limit})")]
    DeviceLimit {
        /// What needs it.
        what: String,
        /// Needed amount, in the unit of the limit.
        needed: u64,
        /// The device's limit.
        available: u64,
        /// The limit's name in WebGPU.
        limit: &'static str,
        /// The adapter's name.
        adapter: String,
    },
    /// A model needs more memory than the device has free; found out before anything is uploaded.
    #[error("the model needs {needed} of the memory of `{adapter}` ({parts}), where {available} are free: {advice}")]
    ModelTooLarge {
        /// What it needs in all, with its unit.
        needed: String,
        /// What makes it up, in words.
        parts: String,
        /// The adapter's name.
        adapter: String,
        /// What is free, with its unit.
        available: String,
        /// What would fit.
        advice: String,
    },
    /// The device ran out of memory while something was allocated.
    #[error(
        "the device `{adapter}` has no memory left for {what} ({bytes} bytes, {allocated} bytes already allocated): use a smaller --context, a smaller batch or a smaller weight format"
    )]
    OutOfMemory {
        /// What was being allocated.
        what: String,
        /// Its size in bytes.
        bytes: u64,
        /// What the process holds on the device already, in bytes.
        allocated: u64,
        /// The adapter's name.
        adapter: String,
    },
    /// The device was lost, or refused a command.
    #[error("the GPU device failed: {0}")]
    Device(String),
    /// A download failed, or what came is not what the catalogue names.
    #[error("{0}")]
    Download(String),
    /// A tokenizer or a chat template could not be built or applied.
    #[error("{0}")]
    Text(String),
    /// Something was ended early because it was asked to.
    #[error("cancelled")]
    Cancelled,
    /// A defect of the program itself.
    #[error("internal error: {0}; please report it")]
    Internal(String),
}

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the user can mend it (exit code 2) or it is ours or the machine's (exit code 1).
    pub fn is_user_fault(&self) -> bool {
        !matches!(self, Error::Device(_) | Error::OutOfMemory { .. } | Error::Internal(_))
    }

    /// An [`Error::Io`] for `path`, for use with `map_err`.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { action, path, source }
    }

    /// An [`Error::BadFile`] for `path`.
    pub fn bad_file(path: impl Into<PathBuf>, what: impl Into<String>) -> Error {
        Error::BadFile { path: path.into(), what: what.into() }
    }
}
