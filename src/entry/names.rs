//! The rules for topics and names. They hold wherever such a text enters: encoders and decoders call these.

use super::error::EntryError;
use crate::base::limits::{PRODUCER_NAME_BYTES_MAX, TOPIC_BYTES_MAX};

/// Checks a topic: 1 to [`TOPIC_BYTES_MAX`] bytes, no control characters, no whitespace, no `*` (which ends the
/// prefix filters of subscribers).
///
/// # Errors
/// [`EntryError::Topic`] with the rule that is broken.
pub fn validate_topic(topic: &str) -> Result<(), EntryError> {
    if topic.is_empty() {
        return Err(EntryError::Topic("is empty"));
    }
    if topic.len() > TOPIC_BYTES_MAX {
        return Err(EntryError::Topic("is longer than 255 bytes"));
    }
    // Nearly every topic is printable ASCII: one pass over its bytes, no decoding of characters.
    if topic.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*') {
        return Ok(());
    }
    for character in topic.chars() {
        if character == '*' {
            return Err(EntryError::Topic("contains '*'"));
        }
        if character.is_whitespace() {
            return Err(EntryError::Topic("contains whitespace"));
        }
        if character.is_control() {
            return Err(EntryError::Topic("contains a control character"));
        }
    }
    Ok(())
}

/// Checks a producer's name: 1 to [`PRODUCER_NAME_BYTES_MAX`] bytes, no control characters. Names of clusters and
/// attributes follow the same rule.
///
/// # Errors
/// [`EntryError::Name`] with the rule that is broken.
pub fn validate_producer_name(name: &str) -> Result<(), EntryError> {
    if name.is_empty() {
        return Err(EntryError::Name("is empty"));
    }
    if name.len() > PRODUCER_NAME_BYTES_MAX {
        return Err(EntryError::Name("is longer than 255 bytes"));
    }
    if name.chars().any(char::is_control) {
        return Err(EntryError::Name("contains a control character"));
    }
    Ok(())
}

/// Reads a stored topic.
pub(super) fn decode_topic(bytes: &[u8]) -> Result<&str, EntryError> {
    let topic = std::str::from_utf8(bytes).map_err(|_| EntryError::Topic("is not UTF-8"))?;
    validate_topic(topic)?;
    Ok(topic)
}

/// Reads a stored name.
pub(super) fn decode_name(bytes: &[u8]) -> Result<&str, EntryError> {
    let name = std::str::from_utf8(bytes).map_err(|_| EntryError::Name("is not UTF-8"))?;
    validate_producer_name(name)?;
    Ok(name)
}

/// The text in bytes that [`decode_topic`] or [`decode_name`] accepted before. Does not fail: on bytes that were
/// never checked it gives the empty text.
pub(super) fn checked_text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
