//! The settings file, and the variables beside it.

use tercet::config::Settings;

use crate::alloc::within;

/// What stands between the file's text and variables, one `NAME=value` a line.
const VARIABLES: &str = "\n%%\n";
/// A reader of TOML keeps a tree of what it reads; how much for each byte.
const MEMORY_A_BYTE: usize = 256;
/// Besides.
const MEMORY: usize = 64 << 10;

/// A settings file; what is accepted is written and read back to the same settings.
pub fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (file, variables) = text.split_once(VARIABLES).unwrap_or((text, ""));
    let environment: Vec<(String, String)> = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let memory = MEMORY_A_BYTE * text.len() + MEMORY;
    let read = within("settings", memory, || Settings::parse(Some(("file", file)), &environment, &[]));
    match read {
        Ok(settings) => {
            let written = settings.render();
            let again = Settings::parse(Some(("written", &written)), &[], &[]);
            assert_eq!(again.as_ref(), Ok(&settings), "{written}");
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "an error is one line: {error}"),
    }
}
