//! What can be wrong with settings; each shows as one line.

use thiserror::Error;

/// Why the settings cannot be used. The command line answers every one with exit code 2.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: cannot read the configuration file: {problem}")]
    Unreadable {
        /// Path as given.
        file: String,
        /// What the operating system said.
        problem: String,
    },
    /// The file is no TOML, or holds a key that does not exist.
    #[error("{file}:{line}: {problem}")]
    File {
        /// Path as given.
        file: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong, naming the key.
        problem: String,
    },
    /// An environment variable with our prefix that means nothing.
    #[error("{name}: no such setting; {hint}")]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The nearest known one, or where to look.
        hint: String,
    },
    /// A value that is out of range or of the wrong kind.
    #[error("{place}: {key}: {problem}")]
    Invalid {
        /// `file:line`, a variable or a flag.
        place: String,
        /// The dotted key.
        key: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A key without a default that nobody set.
    #[error("{place}: {key} is missing: {hint}")]
    Missing {
        /// The file, or 'settings' when there is none.
        place: String,
        /// The dotted key.
        key: String,
        /// How to set it.
        hint: String,
    },
}
