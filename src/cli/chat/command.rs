//! What a line of the chat means.

use secateur::Error;
use secateur::config::Method;
use std::path::PathBuf;

/// The commands, for people.
pub const HELP: &str = "\
/ratio R       prune at this mean ratio, 0 = dense; the FLOPs really removed are shown after every answer
/method M      dense, full-batch or pp
/system TEXT   what the model is told before the conversation; without TEXT: nothing
/retry         answer the last question again
/clear         forget the conversation
/stats         context, masks, cost and memory so far
/save FILE     write the conversation: Markdown for .md, else JSON
/quit          leave (also Ctrl-D)
Ctrl-C stops an answer; a second time, it leaves.";

/// A line, understood.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// An empty line.
    Nothing,
    /// Something for the model.
    Say(String),
    /// Another answer to the last question.
    Retry,
    /// Show the commands.
    Help,
    /// Forget the conversation.
    Clear,
    /// Prune at this ratio.
    Ratio(f64),
    /// Prune by this method.
    Method(Method),
    /// Set the system message; empty = none.
    System(String),
    /// Show figures.
    Stats,
    /// Write the conversation to a file.
    Save(PathBuf),
    /// Leave.
    Quit,
}

impl Command {
    /// Understands a line without blanks around it.
    ///
    /// # Errors
    /// [`Error::Setting`] for a command that there is not, or an argument that it cannot take.
    pub fn parse(line: &str) -> Result<Command, Error> {
        let Some(command) = line.strip_prefix('/') else {
            return Ok(if line.is_empty() { Command::Nothing } else { Command::Say(line.to_string()) });
        };
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = rest.trim();
        match (name, rest) {
            ("help" | "?", "") => Ok(Command::Help),
            ("clear", "") => Ok(Command::Clear),
            ("retry", "") => Ok(Command::Retry),
            ("stats", "") => Ok(Command::Stats),
            ("quit" | "exit", "") => Ok(Command::Quit),
            ("system", text) => Ok(Command::System(text.to_string())),
            ("save", path) if !path.is_empty() => Ok(Command::Save(PathBuf::from(path))),
            ("save", _) => Err(Error::Setting("/save needs a file, such as /save chat.md".into())),
            ("ratio", ratio) => match ratio.parse::<f64>() {
                Ok(ratio) => Ok(Command::Ratio(ratio)),
                Err(_) => Err(Error::Setting(format!("/ratio needs a number in [0, 1), not `{ratio}`"))),
            },
            ("method", method) => [Method::Dense, Method::FullBatch, Method::Pp]
                .into_iter()
                .find(|known| known.name() == method)
                .map(Command::Method)
                .ok_or_else(|| Error::Setting(format!("/method needs dense, full-batch or pp, not `{method}`"))),
            _ => Err(Error::Setting(format!("`{line}` is no command; /help lists them"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let parse = |line| Command::parse(line).unwrap();
        assert_eq!(parse(""), Command::Nothing);
        assert_eq!(parse("What is 1/2?"), Command::Say("What is 1/2?".into()));
        assert_eq!(parse("/ratio 0.25"), Command::Ratio(0.25));
        assert_eq!(parse("/method full-batch"), Command::Method(Method::FullBatch));
        assert_eq!(parse("/system  Be brief. "), Command::System("Be brief.".into()));
        assert_eq!(parse("/system"), Command::System(String::new()));
        assert_eq!(parse("/save a b.md"), Command::Save("a b.md".into()));
        for line in ["/ratio", "/ratio much", "/method best", "/save", "/nonsense", "/quit now"] {
            assert!(matches!(Command::parse(line), Err(Error::Setting(_))), "{line}");
        }
    }
}
