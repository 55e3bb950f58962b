//! A part of a state that few steps change: shared between the states that have it, with its hash worked out once.

use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// A value and its hash. The checker tells states apart by a hash of 64 bits in any case; this one goes into it.
#[derive(Clone, Debug)]
pub struct Kept<T>(Arc<(u64, T)>);

impl<T: Hash> Kept<T> {
    /// Works the hash out.
    pub fn new(value: T) -> Self {
        // The same in every run, so that a count of states can be compared with an earlier one.
        let hash = foldhash::quality::FixedState::with_seed(1).hash_one(&value);
        Self(Arc::new((hash, value)))
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.1
    }
}

impl<T> PartialEq for Kept<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.0 == other.0.0
    }
}

impl<T> Eq for Kept<T> {}

impl<T> Hash for Kept<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.0);
    }
}
