//! Whether a file that is no part of the log any more may be written to again. Checked by `tests/threads.rs`.

use crate::base::sync::Arc;

/// Whether nobody else holds `shared`: whatever others read through it, they have read.
///
/// Not by `strong_count`, which is relaxed: it tells that the last reader let go, but does not order what comes next
/// after what that reader read (rule 9).
pub fn is_alone<T>(shared: &mut Arc<T>) -> bool {
    Arc::get_mut(shared).is_some()
}
