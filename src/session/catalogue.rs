//! What can be downloaded, and what is here.

use crate::error::Result;
use crate::model::catalogue::Catalogue;
use crate::model::pull;

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

/// Every model of the catalogue.
///
/// # Errors
/// [`crate::Error::Setting`] if the user has no home folder.
pub fn catalogue() -> Result<Vec<CatalogueItem>> {
    let (catalogue, dir) = (Catalogue::builtin()?, pull::models_dir()?);
    let item = |entry: &crate::model::catalogue::Entry| CatalogueItem {
        name: entry.name.clone(),
        title: entry.title.clone(),
        bytes: entry.bytes,
        parameters: entry.parameters,
        licence: entry.licence.clone(),
        pulled: std::fs::metadata(dir.join(&entry.file)).is_ok_and(|file| file.len() == entry.bytes),
        default: entry.name == catalogue.default,
    };
    Ok(catalogue.models.iter().map(item).collect())
}
