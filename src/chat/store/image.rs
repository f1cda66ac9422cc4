//! A store as one block of bytes, for where there is no file that SQLite could write to: a browser keeps the block.

use super::{Store, open};
use crate::error::{Error, Result};

impl Store {
    /// A store that begins with what [`Store::image`] gave.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] or [`crate::Error::BadFile`], each with what to do: the bytes belong to a newer version, or are
    /// no database.
    pub fn from_image(image: &[u8]) -> Result<Store> {
        Ok(Store::of(open::from_image(image)?))
    }

    /// Everything that is kept now, of this moment.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] if SQLite fails.
    pub fn image(&mut self) -> Result<Vec<u8>> {
        let image = self.db.serialize("main");
        let image = image.map_err(|error| Error::Internal(format!("the conversations cannot be copied: {error}")))?;
        Ok(image.to_vec())
    }

    /// A number that grows with every change.
    pub fn revision(&self) -> u64 {
        self.db.total_changes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{ChatSettings, Role};

    #[test]
    fn a_store_goes_on_from_its_image() {
        let mut store = Store::in_memory().unwrap();
        let (before, mut conversation) = (store.revision(), store.create("title", &ChatSettings::default()).unwrap());
        let id = conversation.add(None, Role::User, "words".into());
        store.save_node(conversation.id, conversation.node(id).unwrap()).unwrap();
        store.save(&conversation).unwrap();
        assert!(store.revision() > before);

        let again = Store::from_image(&store.image().unwrap()).unwrap();
        assert_eq!(again.load(conversation.id).unwrap(), conversation);
        assert_eq!(again.search("words").unwrap().len(), 1);
        again.create("another", &ChatSettings::default()).unwrap();
        assert_eq!(again.headers().unwrap().len(), 2);
        assert_eq!(store.headers().unwrap().len(), 1, "the two are apart");
    }

    #[test]
    fn bytes_that_are_no_store_are_refused() {
        for bytes in [&b""[..], b"no database at all", &[0; 4096]] {
            assert!(Store::from_image(bytes).is_err(), "{} bytes", bytes.len());
        }
        let mut image = Store::in_memory().unwrap().image().unwrap();
        image.truncate(image.len() / 2);
        assert!(Store::from_image(&image).is_err(), "cut short");
    }
}
