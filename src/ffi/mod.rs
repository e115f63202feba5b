// SPDX-License-Identifier: Apache-2.0
//! The C boundary: `include/proxywasm.h` is generated from here. Converts and nothing else: check, convert, call the core once,
//! convert back. Every exported function runs inside `boundary`, so that a panic never reaches the proxy.

#![allow(non_camel_case_types, reason = "the names are those of the C header")]
// NULL, wrong threads and bad numbers are checked; what cannot be checked is what any C function demands of its pointers, and the
// header's preamble says it once for all functions.
#![allow(clippy::missing_safety_doc, reason = "the contract of every function is in the header's preamble")]
#![allow(clippy::not_unsafe_ptr_arg_deref, reason = "the functions are C's: their callers know no unsafe")]

mod boundary;
mod callbacks;
mod convert;
mod types;
mod vtable;

// One module for each banner section of the header.
mod chain;
mod completion;
mod engine;
mod module;
mod plugin;
mod result;
mod stream;
mod version;
mod worker;

pub use chain::*;
pub use completion::*;
pub use engine::*;
pub use module::*;
pub use plugin::*;
pub use result::*;
pub use stream::*;
pub use types::*;
pub use version::*;
pub use vtable::*;
pub use worker::*;
