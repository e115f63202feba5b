// SPDX-License-Identifier: Apache-2.0
//! What plugins share across VMs and threads: key-value data and queues, both keyed by `vm_id`.
//!
//! Guests decide how much is stored here, so everything is charged to a budget, and memory that guests ask for is
//! allocated fallibly: a guest gets a status, the proxy never gets an abort.

pub mod data;
mod queue;
pub mod queues;

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::abi::Status;

/// A number of bytes that guests may make the host keep, shared by all of them.
struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    const fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit }
    }

    /// Charges `bytes`, or charges nothing and fails.
    fn take(&self, bytes: usize) -> Result<(), Status> {
        // Relaxed is enough: the number guards no other memory, and the update itself is atomic.
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|&sum| sum <= self.limit)
            })
            .map(|_| ())
            .map_err(|_| Status::InternalFailure)
    }

    /// Gives back what was charged.
    fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// The concatenation of `parts` in memory of its own, or `InternalFailure` where the allocator has none.
fn joined(parts: &[&[u8]]) -> Result<Box<[u8]>, Status> {
    let len = parts.iter().map(|part| part.len()).sum();
    let mut all = Vec::new();
    all.try_reserve_exact(len).map_err(|_| Status::InternalFailure)?;
    for part in parts {
        all.extend_from_slice(part);
    }
    Ok(all.into_boxed_slice())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    #[test]
    fn a_budget_charges_all_or_nothing() {
        let budget = Budget::new(10);
        assert_eq!(budget.take(7), Ok(()));
        assert_eq!(budget.take(4), Err(Status::InternalFailure));
        assert_eq!(budget.take(usize::MAX), Err(Status::InternalFailure));
        assert_eq!(budget.take(3), Ok(()));
        assert_eq!(budget.used(), 10);
        budget.give(10);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn joined_keeps_the_order() {
        assert_eq!(&*joined(&[b"ab", b"", b"c"]).unwrap(), b"abc");
        assert!(joined(&[]).unwrap().is_empty());
    }
}
