//! `priority`: the first member in file order.

use super::set::Members;

/// The first of `ready`.
pub fn pick(ready: Members) -> Option<usize> {
    ready.iter().next()
}
