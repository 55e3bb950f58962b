#!/bin/sh
# One target of tests/fuzz.rs under libFuzzer, led by coverage: tests/fuzz/guided.sh TARGET [SECONDS]
#
# Stable Rust and a C++ compiler are enough; the engine is bolero's. It starts from the corpus of the repository and
# from what earlier runs have found (target/fuzz/corpus/TARGET). A finding lies in target/fuzz/findings/TARGET; run it
# again by FUZZ_INPUT=FILE cargo test --test fuzz TARGET.
set -eu
target=${1:?name a target of tests/fuzz.rs, for example peer_message}
seconds=${2:-60}
cd "$(dirname "$0")/../.."
found=target/fuzz/corpus/$target
findings=target/fuzz/findings/$target
mkdir -p "$found" "$findings"

cover="-Cpasses=sancov-module"
for option in level=4 inline-8bit-counters pc-table trace-compares stack-depth; do
    cover="$cover -Cllvm-args=-sanitizer-coverage-$option"
done
# The commands of the package are built beside the tests, without the engine that has the hooks; nobody runs them.
cover="$cover -Clink-arg=-Wl,--unresolved-symbols=ignore-all"
RUSTFLAGS="--cfg fuzzing --cfg fuzzing_libfuzzer $cover"
export RUSTFLAGS
# A target of its own, so that build scripts are built without the flags.
host=$(rustc -vV | sed -n 's/^host: //p')
binary=$(cargo test --profile fuzz --target "$host" --target-dir target/fuzz/build --test fuzz --no-run \
    --message-format json | sed -n 's/.*"name":"fuzz".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)

BOLERO_TEST_NAME=$target
BOLERO_LIBTEST_HARNESS=1
BOLERO_FUZZER=libfuzzer
BOLERO_LIBFUZZER_ARGS="$found tests/fuzz/corpus/$target -artifact_prefix=$findings/ -timeout=10 -print_final_stats=1"
BOLERO_LIBFUZZER_ARGS="$BOLERO_LIBFUZZER_ARGS -max_total_time=$seconds"
export BOLERO_TEST_NAME BOLERO_LIBTEST_HARNESS BOLERO_FUZZER BOLERO_LIBFUZZER_ARGS
exec "$binary" "$target" --exact --nocapture --quiet --test-threads 1
