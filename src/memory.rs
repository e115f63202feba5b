// SPDX-License-Identifier: Apache-2.0
//! The linear memory of a guest as hostcalls reach it.
//!
//! wasmtime finds a memory by way of its tables, in loads that wait for one another. A hostcall does it twice, before the guest's
//! allocator runs and after, which took a fifth of the time of one that reads a header. So the place is remembered, and looked for
//! again when the guest may have grown: `MemoryLimiter` is asked about each growth.

use crate::vm::VmState;
use wasmtime::{Caller, Memory, Store};

/// A guest's memory and where it was found last.
pub(crate) struct GuestMemory {
    memory: Memory,
    start: *mut u8,
    len: usize,
}

impl GuestMemory {
    /// Not found yet: the limiter says that it is to be looked for from the start on.
    pub(crate) fn new(memory: Memory) -> Self {
        Self { memory, start: std::ptr::null_mut(), len: 0 }
    }

    /// Its size in bytes.
    pub(crate) fn size(&self, store: &Store<VmState>) -> usize {
        self.memory.data_size(store)
    }
}

/// Memory and state of the guest, side by side. None: the guest has no memory, or none yet.
#[inline]
#[allow(unsafe_code, reason = "the only other way to reach it costs too much")]
pub(crate) fn memory_and_state<'a>(cx: &'a mut Caller<'_, VmState>) -> Option<(&'a mut [u8], &'a mut VmState)> {
    if cx.data().limiter.is_moved {
        find(cx)?;
    }
    let state = cx.data_mut();
    let memory = state.memory.as_ref()?;
    // SAFETY: `find` took start and length from wasmtime, and the guest has asked for no growth since, for that would have set
    // `is_moved`; nothing else moves, shrinks or ends a memory while its store lives, which is borrowed for 'a. So is all by which
    // the guest could run, or anybody else reach these bytes. The state is none of them.
    let bytes = unsafe { std::slice::from_raw_parts_mut(memory.start, memory.len) };
    Some((bytes, state))
}

#[cold]
fn find(cx: &mut Caller<'_, VmState>) -> Option<()> {
    let memory = cx.data().memory.as_ref()?.memory;
    let (start, len) = (memory.data_ptr(&*cx), memory.data_size(&*cx));
    let state = cx.data_mut();
    state.memory = Some(GuestMemory { memory, start, len });
    state.limiter.is_moved = false;
    Some(())
}
