//! Every decoder under arbitrary bytes: never a panic, nothing kept that is not written the same way again, never more
//! memory than the decoder's limit allows.
//!
//! Each test is a target: a function of bytes that panics on a finding. `cargo test` runs each over its corpus
//! (`tests/fuzz/corpus/<target>/`) and over a fixed number of mutations of it, the same ones every time. Longer:
//!
//! - `FUZZ_SECONDS=600 cargo test --release --test fuzz -- --nocapture peer_message`: mutations for so long, from
//!   `FUZZ_SEED` (default 1); prints how many;
//! - `tests/fuzz/guided.sh peer_message 600`: the same target under libFuzzer, led by coverage (needs `cargo-bolero`);
//! - `FUZZ_INPUT=FILE cargo test --test fuzz peer_message`: one input again. A finding prints this line;
//! - `FUZZ_WRITE_CORPUS=1 cargo test --test fuzz the_seeds`: writes the seeds anew after a change of a layout.
//!
//! Checksums would hide everything behind them from mutations, so a target judges its input several times: as it is,
//! and with lengths, checksums and links made right (`checksums.rs`).

#![allow(clippy::unwrap_used)]

#[path = "fuzz/alloc.rs"]
mod alloc;
#[path = "fuzz/bounded.rs"]
mod bounded;
#[path = "fuzz/checksums.rs"]
mod checksums;
#[path = "fuzz/directory.rs"]
mod directory;
#[path = "log/fixture.rs"]
#[allow(dead_code)]
mod fixture;
#[path = "fuzz/seeds.rs"]
mod seeds;
#[path = "fuzz/settings.rs"]
mod settings;
#[path = "fuzz/stored.rs"]
mod stored;
#[path = "fuzz/wire.rs"]
mod wire;

use bounded::Target;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

/// One test for each target; under a fuzzing engine that engine gives the bytes.
macro_rules! targets {
    ($($name:ident: $run:path, $iterations:literal, $bytes_max:literal;)*) => {
        /// All targets.
        const TARGETS: &[Target] = &[$(Target {
            name: stringify!($name),
            run: $run,
            iterations: $iterations,
            bytes_max: $bytes_max,
        }),*];

        $(#[test]
        fn $name() {
            if cfg!(fuzzing) {
                bolero::check!().with_max_len($bytes_max).for_each(|bytes: &[u8]| $run(bytes));
            } else {
                bounded::run(TARGETS.iter().find(|target| target.name == stringify!($name)).unwrap());
            }
        })*
    };
}

// Name, function, mutations in `cargo test`, longest input in bytes.
targets! {
    frames: wire::frames, 80_000, 8192;
    connection: wire::connection, 20_000, 8192;
    peer_message: wire::peer_message, 30_000, 8192;
    client_message: wire::client_message, 60_000, 8192;
    server_message: wire::server_message, 40_000, 16384;
    entry: stored::entry, 30_000, 8192;
    entry_body: stored::entry_body, 60_000, 8192;
    event: stored::event, 80_000, 4096;
    segment_head: stored::segment_head, 80_000, 256;
    hard_state: stored::hard_state, 40_000, 600;
    identity: stored::identity, 8_000, 128;
    checkpoint: stored::checkpoint, 20_000, 8192;
    checkpoint_file: stored::checkpoint_file, 20_000, 8192;
    segment: directory::segment, 2_000, 8192;
    directory: directory::directory, 1_200, 256;
    settings: settings::settings, 4_000, 4096;
}

#[test]
fn the_seeds_are_what_the_code_writes() {
    seeds::check(TARGETS);
}
