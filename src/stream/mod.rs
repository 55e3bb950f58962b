//! Room `stream`.
