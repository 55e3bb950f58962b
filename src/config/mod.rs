//! Room `config`: from what people write to [`Settings`] that need no further check.
//!
//! ```text
//! flags ──▶ environment ──▶ file ──▶ defaults      the first that names a key decides
//!    └──────────┴────────────┴── raw (text, number or list, with the place it came from)
//!                                  └── validate ──▶ Settings (nanoseconds, bytes, addresses, sorted nodes)
//! ```
//!
//! - The file is TOML; a key that nobody knows is an error that names it. [`Settings::render`] writes such a file.
//! - A variable `TERCET_` + the dotted key in capitals with underscores (`TERCET_NODE_ID`,
//!   `TERCET_ELECTION_HEARTBEAT_INTERVAL`) sets any key but `nodes`. A variable with the prefix that is neither a key
//!   nor in [`OTHER_VARIABLES`] is an error, so that a misspelt one is not silently without effect.
//! - Every error is one line: where (file and line, variable or flag), which key, what is wrong, what to do.
//!
//! Nothing here is on an event's way; the room imports `base`, and `entry` for the first log entry's configuration.

mod error;
mod raw;
mod render;
mod settings;
mod validate;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_errors;

pub use error::ConfigError;
pub use raw::{Flag, OTHER_VARIABLES, Sources, VARIABLE_PREFIX};
pub use settings::{
    BatchSettings, CLUSTER_VERSION, ElectionSettings, IdleStrategy, LimitSettings, LogSettings,
    NodeAddresses, ProducerSettings, Settings, ThreadSettings, ThreadingMode, Token, cluster_id,
};
