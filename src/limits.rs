// SPDX-License-Identifier: Apache-2.0
//! What a plugin may use: time, memory, body, callouts.

use wasmtime::ResourceLimiter;

/// Limits of one plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest run of one callback in nanoseconds; `u64::MAX` means none.
    pub deadline_ns: u64,
    /// Longest run of each step of a VM's start in nanoseconds; `u64::MAX` means none.
    pub start_deadline_ns: u64,
    /// Most linear memory of a VM in bytes.
    pub max_memory: u64,
    /// Most bytes of body held for a plugin in one direction of a stream.
    pub max_body_buffer: u64,
    /// Most callouts in flight for one VM.
    pub max_callouts: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline_ns: 1_000_000_000,
            start_deadline_ns: 10_000_000_000,
            max_memory: 256 << 20,
            max_body_buffer: 1 << 20,
            max_callouts: 1024,
        }
    }
}

/// Most elements of a guest's tables together with those of its growth; more than any toolchain makes.
const MAX_TABLE_ELEMENTS: usize = 1 << 20;

/// Refuses growth beyond the limit and remembers that it did, so that the trap which follows can be called what it is.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    max_memory: usize,
    pub(crate) refused: bool,
    /// The memory may have grown or moved since `memory_and_state` found it.
    pub(crate) is_moved: bool,
}

impl MemoryLimiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { max_memory: usize::try_from(limits.max_memory).unwrap_or(usize::MAX), refused: false, is_moved: true }
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let granted = desired <= self.max_memory;
        self.refused |= !granted;
        self.is_moved = true;
        Ok(granted)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS)
    }
}
