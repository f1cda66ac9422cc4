//! Which messages of a conversation a model reads, where the context cannot hold all of them.
//!
//! Invariant: what is left out depends on the conversation alone, and grows in steps of a quarter of the context, so that
//! most turns begin as the turn before did and the cache goes on serving.

use crate::error::{Error, Result};
use crate::protocol::Overflow;
use crate::text::Message;

/// A conversation that fits.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// Places of the messages that are left out, ascending.
    pub left_out: Vec<usize>,
}

/// Room for a conversation.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Slots in all, in tokens.
    pub context: usize,
    /// Slots that should stay free for the answer; at least one does.
    pub reserve: usize,
    /// Tokens that stand behind the messages: the beginning of an answer.
    pub behind: usize,
    /// What may be left out.
    pub overflow: Overflow,
}

/// Leaves out as many messages as `room` demands. `encode` gives the tokens of messages as the model reads them.
///
/// # Errors
/// [`Error::Setting`] with both numbers where nothing may be left out, or not enough; those of `encode`.
pub fn fit(messages: &[Message], room: Room, encode: &mut dyn FnMut(&[Message]) -> Result<Vec<u32>>) -> Result<Fitted> {
    let whole = encode(messages)?;
    let (total, context) = (whole.len() + room.behind, room.context);
    if room.overflow == Overflow::Stop {
        return match total < context {
            true => Ok(Fitted { ids: whole, left_out: Vec::new() }),
            false => Err(Error::Setting(format!(
                "the conversation has {total} tokens and the context holds {context}: nothing was sent. Start a new chat, \
                 enlarge the context, or let old messages be left out"
            ))),
        };
    }
    let limit = context.saturating_sub(room.reserve.max(1));
    if total <= limit {
        return Ok(Fitted { ids: whole, left_out: Vec::new() });
    }
    // In steps: the same messages are left out for many turns.
    let wanted = (total - limit).next_multiple_of((context / 4).max(1));
    let order = droppable(messages, room.overflow);
    let mut left_out = Vec::new();
    let mut best = None;
    for turn in order {
        left_out.extend(turn);
        left_out.sort_unstable();
        let rest: Vec<Message> = messages
            .iter()
            .enumerate()
            .filter(|(place, _)| left_out.binary_search(place).is_err())
            .map(|(_, message)| message.clone())
            .collect();
        let ids = encode(&rest)?;
        let tokens = ids.len() + room.behind;
        let enough = total - tokens.min(total) >= wanted;
        best = Some(Fitted { ids, left_out: left_out.clone() });
        if tokens <= limit && enough {
            break;
        }
    }
    match best {
        Some(fitted) if fitted.ids.len() + room.behind < context => Ok(fitted),
        best => Err(Error::Setting(format!(
            "the last message alone makes a prompt of {} tokens and the context holds {context}: shorten it, or enlarge \
             the context",
            best.map_or(total, |fitted| fitted.ids.len() + room.behind)
        ))),
    }
}

/// Turns that may be left out, the first to go first: a question and its answer go together, so that speakers still take
/// turns; the system message and the last question never go.
fn droppable(messages: &[Message], overflow: Overflow) -> Vec<Vec<usize>> {
    let mut turns: Vec<Vec<usize>> = Vec::new();
    for (place, message) in messages.iter().enumerate().filter(|(_, message)| message.role != "system") {
        match turns.last_mut() {
            Some(turn) if message.role != "user" => turn.push(place),
            _ => turns.push(vec![place]),
        }
    }
    turns.pop();
    if overflow == Overflow::KeepEnds && !turns.is_empty() {
        // The first turn goes last of all.
        turns.rotate_left(1);
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    /// System message, then questions and answers of ten tokens each, and a last question.
    fn conversation(turns: usize) -> Vec<Message> {
        let mut messages = vec![Message::new("system", "s")];
        for turn in 0..turns {
            messages.push(Message::new("user", format!("q{turn}")));
            messages.push(Message::new("assistant", format!("a{turn}")));
        }
        messages.push(Message::new("user", "last"));
        messages
    }

    fn tokens(messages: &[Message]) -> Result<Vec<u32>> {
        Ok(vec![7; messages.len() * 10])
    }

    fn fitted(turns: usize, overflow: Overflow) -> Result<Fitted> {
        let room = Room { context: 100, reserve: 20, behind: 0, overflow };
        fit(&conversation(turns), room, &mut tokens)
    }

    #[test]
    fn what_fits_is_left_whole() {
        for overflow in [Overflow::Stop, Overflow::DropOldest, Overflow::KeepEnds] {
            let found = fitted(3, overflow).unwrap();
            assert_eq!((found.ids.len(), found.left_out), (80, vec![]), "{overflow:?}");
        }
    }

    #[test]
    fn stop_says_how_long_it_is() {
        assert!(fitted(3, Overflow::Stop).is_ok(), "80 of 100");
        let error = fitted(4, Overflow::Stop).unwrap_err().to_string();
        assert!(error.contains("100 tokens and the context holds 100"), "{error}");
    }

    #[test]
    fn the_oldest_turns_go_first_and_whole() {
        // 100 tokens, 80 are the limit: 20 too many, in steps of 25, make two turns of 20.
        assert_eq!(fitted(4, Overflow::DropOldest).unwrap().left_out, [1, 2, 3, 4]);
        assert_eq!(fitted(4, Overflow::KeepEnds).unwrap().left_out, [3, 4, 5, 6]);
    }

    #[test]
    fn most_turns_begin_as_the_turn_before() {
        let room = Room { context: 400, reserve: 100, behind: 0, overflow: Overflow::DropOldest };
        let left_out = |turns| fit(&conversation(turns), room, &mut tokens).unwrap().left_out.len();
        let left_out: Vec<usize> = (15..60).map(left_out).collect();
        assert!(left_out.windows(2).all(|pair| pair[0] <= pair[1]), "{left_out:?}");
        let changes = left_out.windows(2).filter(|pair| pair[0] != pair[1]).count();
        // 45 turns of 20 tokens in steps of 100.
        assert!((8..=10).contains(&changes), "{changes}: {left_out:?}");
    }

    #[test]
    fn a_last_question_that_is_too_long_is_told() {
        let mut long = |messages: &[Message]| Ok(vec![0; 95 + messages.len() * 10]);
        for overflow in [Overflow::DropOldest, Overflow::KeepEnds] {
            let room = Room { context: 100, reserve: 20, behind: 0, overflow };
            let error = fit(&conversation(3), room, &mut long).unwrap_err().to_string();
            assert!(error.contains("115 tokens and the context holds 100"), "{error}");
        }
    }

    #[test]
    fn the_beginning_of_an_answer_takes_room_too() {
        let room = Room { context: 100, reserve: 20, behind: 30, overflow: Overflow::DropOldest };
        assert_eq!(fit(&conversation(3), room, &mut tokens).unwrap().left_out, [1, 2, 3, 4, 5, 6]);
    }
}
