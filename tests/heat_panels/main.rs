//! The panels of the pruning view, used as a person or a screen reader does: by names, keys and the pointer.

mod costs;
mod made;
mod maps;
mod settings;
mod times;
