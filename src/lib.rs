//! Secateur: LLaMA and OPT models and relatives of LLaMA on any GPU through WebGPU, pruned by what each input needs.
//!
//! # The map
//!
//! | module | owns | may import |
//! |---|---|---|
//! | [`error`] | the library's error enum | - |
//! | [`origin`] | what the browser keeps: files of the page's origin, downloads by range, picked files, locks between tabs (wasm32) | `error` |
//! | `random` | random numbers from a seed | - |
//! | [`config`] | settings of model, pruning, sampling; what a model's files say about text | `error` |
//! | [`gpu`] | device, shader resolver, pipelines, buffers and the textures that stand in for them on software adapters, the recorded list of commands, read-back | `error` |
//! | [`mod@format`] | weight formats: bytes of a file, planes on the GPU, the WGSL that decodes them | `gpu`, `error` |
//! | [`kernels`] | one file an op: parameters, dispatch, naive CPU twin; one registry | `format`, `gpu`, `error` |
//! | [`text`] | tokenizer, chat template, streaming decoder | `config`, `error` |
//! | [`model`] | GGUF and safetensors files, LoRA adapters, the catalogue and its pull, conversion to other formats, upload of weights | `origin`, `kernels`, `format`, `gpu`, `config`, `error` |
//! | [`prune`] | which units run: plan, probe, history, score, masks; calibrations and sets of units on disk | `model`, `kernels`, `format`, `gpu`, `config`, `error` |
//! | [`engine`] | the forward pass, generation, scoring, sampling: token ids in, logits out | `prune`, `model`, `kernels`, `format`, `gpu`, `config`, `random`, `error` |
//! | `llama` | LLaMA's parts in burn: its device, layers, head, their weights (feature `burn`) | `model`, `format`, `gpu`, `config`, `error` |
//! | `peers` | the same weights in other programs' ways, to measure against (feature `burn`) | `llama`, `model`, `format`, `gpu`, `config`, `error` |
//! | [`mod@bench`] | the instrument: speed end to end and by kernel, ceilings of the device, memory, other engines beside | `peers`, `engine`, `prune`, `model`, `kernels`, `format`, `gpu`, `config`, `error` |
//! | `tune` | pruning that needs gradients: LLM-Pruner, LoRAPrune, LoRA's training, in burn (feature `burn`) | `llama`, `prune`, `model`, `gpu`, `config`, `random`, `error` |
//! | [`eval`] | data sets, perplexity, tasks, reports | `engine`, `prune`, `text`, `config`, `random`, `error` |
//! | [`protocol`] | plain data between a face and an engine at work: commands, events, probes | `text`, `config`, `error` |
//! | [`session`] | an engine at work on a thread of its own, in a browser a task; the loop that writes an answer | `engine`, `prune`, `model`, `gpu`, `text`, `protocol`, `config`, `error` |
//! | [`chat`] | conversations: the tree of messages, the store, files for other programs | `protocol`, `text`, `config`, `error` |
//! | [`app`] | the window: state, panels, theme | `origin`, `session`, `chat`, `protocol`, `text`, `config`, `error` |
//! | `cli`, `main` | arguments and wiring, one file a subcommand | all |
//! | `page` | the same wiring in a browser: the window on a canvas (wasm32) | all |
//!
//! `tests/architecture.rs` holds the arrows.
//!
//! # Life of a token
//!
//! [`app`] sends a [`protocol::Command`] to a [`session`] and draws the [`protocol::Event`]s that come back; `cli` goes the
//! same way on one thread. The conversation is rendered with [`text`], its ids go to an [`engine::Sequences`]. Its forward
//! pass is one list of kernel calls (`engine/forward.rs`). Before each half of a block it asks a [`prune::Selector`] which
//! units to compute, and shows it the activations after; a method of pruning is one selector. Norms of the residual stream,
//! which a probe is chosen by, fall out of the norm kernel. Kept *counts* are known on the CPU before anything runs; *which*
//! units are kept is decided on the GPU, and the one read-back of a pass is of its logits, or of the token drawn from them:
//! then the next pass is submitted before the token is known. Where somebody watches, choices follow on a read-back of their
//! own that nothing waits for.
//!
//! # Invariants
//!
//! 1. A prunable unit is a row of every weight that has it: down and o lie transposed.
//! 2. Nothing is read back between the first layer and the logits.
//! 3. `forward` knows no method; methods do not edit `forward`.
//! 4. Every buffer fits one binding of the device: larger tensors are cut by outputs.
//! 5. Every shader is checked for Vulkan, Metal, DX12 and browsers alike, and has a CPU twin.
#![warn(missing_docs)]

pub mod app;
#[cfg(not(target_arch = "wasm32"))]
pub mod bench;
pub mod chat;
pub mod config;
pub mod engine;
pub mod error;
#[cfg(not(target_arch = "wasm32"))]
pub mod eval;
pub mod format;
pub mod gpu;
pub mod kernels;
#[cfg(all(feature = "burn", not(target_arch = "wasm32")))]
mod llama;
pub mod model;
pub mod origin;
#[cfg(all(feature = "burn", not(target_arch = "wasm32")))]
pub mod peers;
pub mod protocol;
pub mod prune;
mod random;
pub mod session;
pub mod text;
#[cfg(all(feature = "burn", not(target_arch = "wasm32")))]
pub mod tune;

pub use error::{Error, Result};
