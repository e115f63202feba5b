// SPDX-License-Identifier: Apache-2.0
//! The Proxy-Wasm ABI as data: numbers, versions, encodings, access to guest memory. Knows nothing of the rest.

pub mod memory;
pub mod pairs;
pub mod types;
pub mod version;

pub use types::*;
pub use version::AbiVersion;
