//! Which topics a subscriber wants.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::entry::{EntryError, validate_topic};

/// A topic, all topics with a prefix, or all.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum TopicFilter {
    /// `*`
    #[default]
    All,
    /// `orders`: that topic alone.
    Exact(Box<str>),
    /// `orders.*`: every topic that begins with `orders.`
    Prefix(Box<str>),
}

/// Why a text is no filter.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum FilterError {
    /// Nothing is there.
    #[error("a topic filter is empty; use a topic, a prefix that ends in '*', or '*' for all")]
    Empty,
    /// A `*` stands before the end.
    #[error("'{0}': '*' may stand at the end of a topic filter only")]
    StarInside(String),
    /// The topic or prefix could not be one.
    #[error("'{text}' is no topic filter: {problem}")]
    Topic {
        /// As given.
        text: String,
        /// The rule it breaks.
        problem: EntryError,
    },
}

impl TopicFilter {
    /// Reads a filter as people write it.
    ///
    /// # Errors
    /// [`FilterError`].
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Err(FilterError::Empty);
        }
        let (topic, is_prefix) = match text.strip_suffix('*') {
            Some("") => return Ok(Self::All),
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        if topic.contains('*') {
            return Err(FilterError::StarInside(text.to_owned()));
        }
        validate_topic(topic).map_err(|problem| FilterError::Topic { text: text.to_owned(), problem })?;
        Ok(if is_prefix { Self::Prefix(topic.into()) } else { Self::Exact(topic.into()) })
    }

    /// Whether events of `topic` are wanted.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        match self {
            Self::All => true,
            Self::Exact(wanted) => **wanted == *topic,
            Self::Prefix(prefix) => topic.starts_with(&**prefix),
        }
    }
}

impl FromStr for TopicFilter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        Self::parse(text)
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Exact(topic) => f.write_str(topic),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}
