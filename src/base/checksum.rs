//! CRC32 (IEEE, by `crc32fast`) and the 64-bit mixing function behind the log's chain.
//!
//! The chain must not be a CRC32 over data that contains its own CRC32 (such a value is constant), so it is a
//! separate, fixed function: the finalizer of SplitMix64 (Steele, Lea, Flood 2014) folded over the words.

/// CRC32 (IEEE polynomial) of `bytes`.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// CRC32 of several slices as if they were one.
#[must_use]
pub fn crc32_of(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// The SplitMix64 finalizer: a bijection on 64 bits in which every input bit reaches every output bit.
#[must_use]
pub const fn mix64(mut x: u64) -> u64 {
    x ^= x >> 30;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 27;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Folds one word into a running value: `mix64((state + golden) ^ mix64(word + 1))`.
#[must_use]
pub const fn fold64(state: u64, word: u64) -> u64 {
    mix64(state.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ mix64(word.wrapping_add(1)))
}

/// A 64-bit hash of bytes by [`fold64`] over little-endian words, length last. Not cryptographic; fixed for ever,
/// since stored and compared across nodes.
#[must_use]
pub fn hash64(seed: u64, bytes: &[u8]) -> u64 {
    let mut state = seed;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = fold64(state, u64::from_le_bytes(*word));
    }
    let mut tail = [0u8; 8];
    tail[..rest.len()].copy_from_slice(rest);
    state = fold64(state, u64::from_le_bytes(tail));
    fold64(state, bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::{crc32, crc32_of, fold64, hash64, mix64};

    #[test]
    fn crc32_is_the_ieee_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32_of(&[b"1234", b"", b"56789"]), 0xcbf4_3926);
    }

    #[test]
    fn mixing_is_fixed_for_ever() {
        // These values are on disks: a change here is a format change.
        assert_eq!(mix64(1), 0x5692_161d_100b_05e5);
        assert_ne!(fold64(0, 0), 0);
        assert_ne!(fold64(fold64(0, 1), 2), fold64(fold64(0, 2), 1));
        assert_ne!(hash64(0, b"a"), hash64(0, b"a\0"));
        assert_ne!(hash64(0, b""), hash64(0, b"\0\0\0\0\0\0\0\0"));
    }
}
