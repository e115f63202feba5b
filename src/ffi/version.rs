// SPDX-License-Identifier: Apache-2.0
//! Section: version.

use libc::c_char;

/// Version of the library at run time, such as "0.1.0". Static; any thread; allowed inside callbacks.
#[no_mangle]
pub extern "C" fn proxywasm_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Number of the binary interface of the library at run time. A program compares it with `PROXYWASM_ABI_VERSION`.
/// Any thread; allowed inside callbacks.
#[no_mangle]
pub extern "C" fn proxywasm_abi_version() -> u32 {
    ABI_VERSION
}

/// The number in the soname; before 1.0 the minor version. `build.rs` reads the same from Cargo.toml.
const ABI_VERSION: u32 = 1;
