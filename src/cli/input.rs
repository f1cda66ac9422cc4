//! How much is read from stdin: whatever is piped in, memory stays bounded.

use secateur::Error;

/// Most bytes of a prompt, or of a line of the chat. No model's context holds a hundredth of it.
pub const MAX_INPUT: u64 = 16 << 20;

/// Refuses what is longer, having been read up to one byte more.
pub fn check_input(bytes: usize) -> Result<(), Error> {
    match bytes as u64 > MAX_INPUT {
        true => Err(Error::bad_file("stdin", format!("more than {MAX_INPUT} bytes without an end"))),
        false => Ok(()),
    }
}
