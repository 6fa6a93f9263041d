//! An error with its causes, as a program ends with them.

use std::error::Error;

/// An error and what caused it, joined by `: `. Many errors name their cause themselves: what was
/// said already is left out.
#[must_use]
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text += ": ";
            text += &said;
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use thiserror::Error;

    use super::*;

    #[derive(Debug, Error)]
    #[error("cannot listen: {source}")]
    struct Names {
        source: io::Error,
    }

    #[derive(Debug, Error)]
    #[error("the router failed")]
    struct Leaves(#[source] Names);

    #[test]
    fn a_cause_is_said_once() {
        let source = io::Error::new(io::ErrorKind::AddrInUse, "address in use");
        let names = Names { source };
        assert_eq!(with_causes(&names), "cannot listen: address in use");
        let leaves = Leaves(names);
        assert_eq!(
            with_causes(&leaves),
            "the router failed: cannot listen: address in use"
        );
    }
}
