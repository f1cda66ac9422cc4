//! What can be downloaded, and what is here.

use crate::error::Result;
use crate::model::catalogue::{Catalogue, Entry};
#[cfg(not(target_arch = "wasm32"))]
use crate::model::pull;
#[cfg(target_arch = "wasm32")]
use crate::model::shelf;
#[cfg(target_arch = "wasm32")]
pub use shelf::give;

/// A model of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueItem {
    /// What [`crate::protocol::Load::model`] takes.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Parameters of the network.
    pub parameters: u64,
    /// Licence of the weights, as an SPDX expression.
    pub licence: String,
    /// Whether its file is on this machine.
    pub pulled: bool,
    /// Whether it is the one that is meant where none is named.
    pub default: bool,
}

impl CatalogueItem {
    fn new(catalogue: &Catalogue, entry: &Entry, pulled: bool) -> CatalogueItem {
        CatalogueItem {
            name: entry.name.clone(),
            title: entry.title.clone(),
            bytes: entry.bytes,
            parameters: entry.parameters,
            licence: entry.licence.clone(),
            pulled,
            default: entry.name == catalogue.default,
        }
    }
}

impl CatalogueItem {
    /// A file that the user gave the page, and that it keeps.
    pub fn of_file(name: String, bytes: u64) -> CatalogueItem {
        let (title, licence) = (name.clone(), String::new());
        CatalogueItem { name, title, bytes, parameters: 0, licence, pulled: true, default: false }
    }
}

/// Every model of the catalogue.
///
/// # Errors
/// [`crate::Error::Setting`] if the user has no home folder.
#[cfg(not(target_arch = "wasm32"))]
pub fn catalogue() -> Result<Vec<CatalogueItem>> {
    let (catalogue, dir) = (Catalogue::builtin()?, pull::models_dir()?);
    let is_here = |entry: &Entry| std::fs::metadata(dir.join(&entry.file)).is_ok_and(|file| file.len() == entry.bytes);
    Ok(catalogue.models.iter().map(|entry| CatalogueItem::new(&catalogue, entry, is_here(entry))).collect())
}

/// Every model of the catalogue, and behind them the files that the user gave the page.
///
/// # Errors
/// [`crate::Error::Internal`] if the browser does not say what it keeps.
#[cfg(target_arch = "wasm32")]
pub async fn on_the_page() -> Result<Vec<CatalogueItem>> {
    let (catalogue, kept) = (Catalogue::builtin()?, shelf::kept().await?);
    let is_here = |entry: &Entry| kept.iter().any(|(name, bytes)| *name == entry.file && *bytes == entry.bytes);
    let mut items: Vec<CatalogueItem> =
        catalogue.models.iter().map(|entry| CatalogueItem::new(&catalogue, entry, is_here(entry))).collect();
    let other = |name: &String| catalogue.models.iter().all(|entry| entry.file != *name);
    let others = kept.iter().filter(|(name, _)| other(name));
    items.extend(others.map(|(name, bytes)| CatalogueItem::of_file(name.clone(), *bytes)));
    Ok(items)
}
