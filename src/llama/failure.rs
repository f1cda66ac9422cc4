//! burn's failures as errors of ours.

use crate::error::{Error, Result};
use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Turns a panic of burn's into an error.
pub(crate) fn guarded<T>(what: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        Err(Error::Device(format!("burn could not {what}: {}; see what it printed above", first_line(panic.as_ref()))))
    })
}

/// The first line of what a panic said; the rest is a backtrace.
fn first_line(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.and_then(|text| text.lines().next()).unwrap_or("it panicked without a word")
}

/// burn's own error on one line: it comes as a chain of causes, some twice, and a backtrace.
pub(crate) fn failure(error: impl Display) -> Error {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Backtrace"));
    let mut causes: Vec<&str> = lines.filter(|line| !line.is_empty() && *line != "Caused by:").collect();
    causes.dedup();
    Error::Device(format!("burn: {}", causes.join(": ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_one_error_with_its_first_line() {
        for (panics, says) in [
            ((|| panic!("out of {}\nbacktrace", "memory")) as fn() -> Result<()>, "out of memory;"),
            (|| panic!("lost"), "lost;"),
            (|| std::panic::panic_any(7), "without a word;"),
        ] {
            let error = guarded("run", panics).unwrap_err();
            assert!(
                matches!(&error, Error::Device(text) if text.contains("burn could not run: ") && text.contains(says)),
                "{error}"
            );
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_chain_of_causes_is_one_line() {
        let text = "The device is poisoned\nCaused by:\n  The device is poisoned\nCaused by:\n  Out of memory\nBacktrace:\nnone";
        assert_eq!(failure(text).to_string(), "the GPU device failed: burn: The device is poisoned: Out of memory");
        assert_eq!(failure("lost").to_string(), "the GPU device failed: burn: lost");
    }

    #[test]
    fn an_error_and_a_value_pass_through() {
        assert_eq!(guarded("run", || Ok(3)).unwrap(), 3);
        assert!(matches!(guarded::<()>("run", || Err(Error::Cancelled)), Err(Error::Cancelled)));
    }
}
