//! What a link to the page asks for: a model, settings, a question to begin with.
//!
//! Invariant: a link fills in what the user could have typed, and starts nothing: neither a download nor an answer.

use crate::chat::ChatSettings;
use crate::config::Method;
use crate::error::{Error, Result};
use std::str::FromStr;

/// What a link asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Link {
    /// A model of the catalogue, or one that the page keeps.
    pub model: Option<String>,
    /// The beginning of a question.
    pub prompt: Option<String>,
    /// Settings of the conversation, by name.
    settings: Vec<(String, String)>,
}

impl Link {
    /// Reads the names and values of a link. Other names than these are refused: `model`, `prompt`, `system`, `method`, `ratio`,
    /// `temperature`, `repetition_penalty`, `seed`, `max_tokens`.
    ///
    /// # Errors
    /// [`Error::Setting`] naming what is not understood.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Link> {
        let mut link = Link::default();
        for (name, value) in pairs {
            match name.as_str() {
                "model" => link.model = Some(value),
                "prompt" => link.prompt = Some(value),
                _ => link.settings.push((name, value)),
            }
        }
        link.apply(&mut ChatSettings::default())?;
        Ok(link)
    }

    /// Whether it asks for a conversation of its own.
    pub fn begins(&self) -> bool {
        self.prompt.is_some() || !self.settings.is_empty()
    }

    /// Puts its settings in the place of those there are.
    ///
    /// # Errors
    /// [`Error::Setting`] naming what is not understood, or outside its range.
    pub fn apply(&self, settings: &mut ChatSettings) -> Result<()> {
        for (name, value) in &self.settings {
            match name.as_str() {
                "system" => settings.system.clone_from(value),
                "method" => {
                    let known = Method::ALL.into_iter().find(|method| method.name().eq_ignore_ascii_case(value));
                    settings.prune.method = known.ok_or_else(|| unknown(name, value))?;
                }
                "ratio" => settings.prune.ratio = number(name, value)?,
                "temperature" => settings.sampling.temperature = number(name, value)?,
                "repetition_penalty" => settings.sampling.repetition_penalty = number(name, value)?,
                "seed" => settings.sampling.seed = number(name, value)?,
                "max_tokens" => settings.max_tokens = number::<usize>(name, value)?.max(1),
                _ => return Err(Error::Setting(format!("the link has a part `{name}`, which means nothing here"))),
            }
        }
        settings.prune.validate()?;
        settings.sampling.validate()
    }
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T> {
    value.parse().map_err(|_| unknown(name, value))
}

fn unknown(name: &str, value: &str) -> Error {
    Error::Setting(format!("the link's {name} is `{value}`, which is not understood"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(pairs: &[(&str, &str)]) -> Result<Link> {
        Link::new(pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())))
    }

    #[test]
    fn a_link_fills_in_what_it_names_and_leaves_the_rest() {
        let all = [("model", "smollm2-135m"), ("prompt", "Why?"), ("ratio", "0.4"), ("method", "PP"), ("seed", "7")];
        let link = link(&all).unwrap();
        assert_eq!((link.model.as_deref(), link.prompt.as_deref()), (Some("smollm2-135m"), Some("Why?")));
        let mut settings = ChatSettings { max_tokens: 99, ..ChatSettings::default() };
        link.apply(&mut settings).unwrap();
        assert_eq!((settings.prune.ratio, settings.prune.method), (0.4, Method::Pp));
        assert_eq!((settings.sampling.seed, settings.max_tokens), (7, 99));
        assert!(link.begins());
    }

    #[test]
    fn a_model_alone_begins_no_conversation() {
        assert!(!link(&[("model", "smollm2-135m")]).unwrap().begins());
        assert_eq!(link(&[]).unwrap(), Link::default());
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (name, value) in
            [("ratio", "1.5"), ("ratio", "much"), ("method", "magic"), ("temperature", "-1"), ("colour", "red")]
        {
            let error = link(&[(name, value)]).unwrap_err();
            assert!(error.is_user_fault() && error.to_string().contains(name), "{error}");
        }
    }
}
