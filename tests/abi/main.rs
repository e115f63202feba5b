// SPDX-License-Identifier: Apache-2.0
//! What guests see, through a mock host. Most guests are written in WebAssembly text beside the test that runs them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[allow(unused_imports, dead_code, reason = "each area uses a part of it")]
mod support;

mod hostcalls_buffers;
mod hostcalls_calls;
mod hostcalls_contexts;
mod hostcalls_foreign;
mod hostcalls_headers;
mod hostcalls_imports;
mod hostcalls_metrics;
mod hostcalls_properties;
mod hostcalls_shared;
mod hostcalls_streams;
mod smoke;
mod wasi;

mod trace;

mod callbacks;
mod chain;
mod draining;
mod isolation;
mod loading;
mod phases;
mod reentrancy;
mod sdk_plugins;
mod sharing;
mod traps;
