// SPDX-License-Identifier: Apache-2.0
//! Section: results.

use super::boundary;
use super::types::proxywasm_result;
use libc::c_char;

/// Name of a result, such as "GUEST_TRAP"; "UNKNOWN" for a number that is none. Static; any thread; allowed inside callbacks.
#[no_mangle]
pub extern "C" fn proxywasm_result_name(result: i32) -> *const c_char {
    const NAMES: &[(proxywasm_result, &str)] = &[
        (proxywasm_result::OK, "OK\0"),
        (proxywasm_result::INVALID_ARGUMENT, "INVALID_ARGUMENT\0"),
        (proxywasm_result::NOT_FOUND, "NOT_FOUND\0"),
        (proxywasm_result::WRONG_THREAD, "WRONG_THREAD\0"),
        (proxywasm_result::REENTRANT, "REENTRANT\0"),
        (proxywasm_result::BUSY, "BUSY\0"),
        (proxywasm_result::UNSUPPORTED, "UNSUPPORTED\0"),
        (proxywasm_result::ABI_MISMATCH, "ABI_MISMATCH\0"),
        (proxywasm_result::BAD_MODULE, "BAD_MODULE\0"),
        (proxywasm_result::UNKNOWN_ABI, "UNKNOWN_ABI\0"),
        (proxywasm_result::MISSING_EXPORT, "MISSING_EXPORT\0"),
        (proxywasm_result::DENIED_IMPORT, "DENIED_IMPORT\0"),
        (proxywasm_result::GUEST_TRAP, "GUEST_TRAP\0"),
        (proxywasm_result::GUEST_TIMEOUT, "GUEST_TIMEOUT\0"),
        (proxywasm_result::GUEST_LIMIT, "GUEST_LIMIT\0"),
        (proxywasm_result::GUEST_REJECTED, "GUEST_REJECTED\0"),
        (proxywasm_result::GUEST_UNAVAILABLE, "GUEST_UNAVAILABLE\0"),
        (proxywasm_result::PANIC, "PANIC\0"),
        (proxywasm_result::POISONED, "POISONED\0"),
        (proxywasm_result::INTERNAL, "INTERNAL\0"),
        (proxywasm_result::NO_MEMORY, "NO_MEMORY\0"),
    ];
    let name = NAMES.iter().find(|(known, _)| *known as i32 == result).map_or("UNKNOWN\0", |(_, name)| name);
    name.as_ptr().cast()
}

/// Copies the text of the last failure on this thread into `buffer`, cut to `capacity` bytes including the NUL that is always
/// written when `capacity` is not 0. The text is empty when the last fallible call succeeded.
///
/// Returns the length of the whole text in bytes, without the NUL. Any thread; allowed inside callbacks.
#[no_mangle]
pub extern "C" fn proxywasm_last_error(buffer: *mut c_char, capacity: usize) -> usize {
    boundary::last_error(|text| {
        if !buffer.is_null() && capacity > 0 {
            let copied = text.len().min(capacity - 1);
            // SAFETY: the caller says that `capacity` bytes are there, and `copied` is less.
            unsafe {
                std::ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast::<u8>(), copied);
                buffer.add(copied).write(0);
            }
        }
        text.len()
    })
}
