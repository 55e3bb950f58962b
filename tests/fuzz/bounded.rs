//! The plain runner: the corpus, then mutations of it, the same ones for the same seed.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tercet::base::checksum::hash64;
use tercet::base::ids::COUNTER_MAX;
use tercet::base::prng::Prng;

/// What is fuzzed.
pub struct Target {
    /// Name of the test and of the corpus' folder.
    pub name: &'static str,
    /// Judges one input; panics on a finding.
    pub run: fn(&[u8]),
    /// How many mutations `cargo test` tries.
    pub iterations: u64,
    /// Longest input.
    pub bytes_max: usize,
}

/// Where the inputs of a target lie.
pub fn corpus_dir(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target)
}

/// The corpus of a target, in the order of the names.
pub fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = corpus_dir(target);
    let files = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut inputs: Vec<(String, Vec<u8>)> = files
        .map(|file| file.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} is empty", dir.display());
    inputs
}

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

/// Runs a target: one given input, or corpus and mutations.
pub fn run(target: &Target) {
    if let Some(file) = std::env::var_os("FUZZ_INPUT") {
        (target.run)(&std::fs::read(file).unwrap());
        return;
    }
    let corpus: Vec<Vec<u8>> = corpus(target.name).into_iter().map(|(_, bytes)| bytes).collect();
    corpus.iter().for_each(|input| judge(target, input));
    let seconds = variable("FUZZ_SECONDS");
    let seed = variable("FUZZ_SEED").unwrap_or(1);
    let mut mutator = Mutator { prng: Prng::new(hash64(seed, target.name.as_bytes())), corpus: &corpus };
    let start = Instant::now();
    let mut tried = 0u64;
    loop {
        let done = match seconds {
            Some(seconds) => tried.is_multiple_of(64) && start.elapsed() >= Duration::from_secs(seconds),
            None => tried >= target.iterations,
        };
        if done {
            break;
        }
        judge(target, &mutator.next(target.bytes_max));
        tried += 1;
    }
    if seconds.is_some() {
        println!("{}: {tried} mutations from seed {seed}, no finding", target.name);
    }
}

/// Runs one input; on a finding it is kept in a file and the way to run it again is printed.
fn judge(target: &Target, input: &[u8]) {
    let Err(finding) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) else { return };
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = dir.join(format!("fuzz-{}-{:016x}", target.name, hash64(0, input)));
    std::fs::write(&file, input).unwrap();
    eprintln!("again: FUZZ_INPUT={} cargo test --test fuzz {}", file.display(), target.name);
    resume_unwind(finding);
}

/// Numbers at which decoders change their mind.
const EDGES: [u64; 14] = [
    0,
    1,
    7,
    8,
    16,
    0x7f,
    0xff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    COUNTER_MAX,
    COUNTER_MAX + 1,
    u64::MAX - 7,
    u64::MAX,
];

struct Mutator<'a> {
    prng: Prng,
    corpus: &'a [Vec<u8>],
}

impl Mutator<'_> {
    fn at(&mut self, len: usize) -> usize {
        self.prng.below(len as u64 + 1) as usize
    }

    fn any(&mut self) -> Vec<u8> {
        self.corpus[self.prng.below(self.corpus.len() as u64) as usize].clone()
    }

    /// Another input: something of the corpus with one to six changes.
    fn next(&mut self, bytes_max: usize) -> Vec<u8> {
        let mut bytes = self.any();
        for _ in 0..self.prng.between(1, 6) {
            self.change(&mut bytes);
        }
        bytes.truncate(bytes_max);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        let from = self.at(len);
        let some = self.prng.between(1, 32) as usize;
        let to = (from + some).min(len);
        match self.prng.below(10) {
            0 | 1 => {
                if let Some(byte) = bytes.get_mut(from) {
                    *byte ^= 1 << self.prng.below(8);
                }
            }
            2 => {
                if let Some(byte) = bytes.get_mut(from) {
                    *byte = self.prng.next_u64() as u8;
                }
            }
            3 | 4 => {
                // A whole field, near an edge.
                let width = [1, 2, 4, 8][self.prng.below(4) as usize];
                let edge = match self.prng.below(3) {
                    0 => len as u64,
                    _ => EDGES[self.prng.below(EDGES.len() as u64) as usize],
                };
                let value = edge.wrapping_add(self.prng.below(5)).wrapping_sub(2).to_le_bytes();
                if let Some(field) = bytes.get_mut(from..from + width) {
                    field.copy_from_slice(&value[..width]);
                }
            }
            5 => drop(bytes.drain(from..to)),
            6 => {
                let mut new = vec![0; some];
                if self.prng.chance(500_000) {
                    self.prng.fill(&mut new);
                }
                drop(bytes.splice(from..from, new));
            }
            7 => {
                let copy = bytes[from..to].to_vec();
                let target = self.at(len);
                drop(bytes.splice(target..target, copy));
            }
            8 => {
                let other = self.any();
                let start = self.at(other.len());
                let end = (start + self.at(other.len())).min(other.len());
                drop(bytes.splice(from..to, other[start..end].iter().copied()));
            }
            _ => bytes.truncate(from),
        }
    }
}
