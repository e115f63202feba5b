// SPDX-License-Identifier: Apache-2.0
//! The Proxy-Wasm host as a library: runs any Proxy-Wasm plugin in any proxy.
//!
//! A proxy implements [`Host`], makes an [`Engine`], compiles [`Module`]s, joins them with a [`PluginConfig`] to [`Plugin`]s, and in
//! each of its event loops makes a [`Worker`], to which it adds the plugins. A [`Chain`] orders them; each request or connection is
//! a [`StreamHandle`] on a chain. From C the same is reached through `include/proxywasm.h`, which is what `ffi` exports.
//!
//! The core does no I/O and starts no thread. Dependencies run one way, from `ffi` over `worker` and `chain` to
//! the guest's side (`hostcalls`, `vm`, `stream` and what they share) and `abi`. `docs/architecture.md` says more.

pub mod abi;
mod body;
mod callout;
mod chain;
mod context;
mod deferred;
mod diagnostics;
mod engine;
mod error;
mod exports;
#[allow(unsafe_code, reason = "the C boundary")]
pub mod ffi;
mod foreign;
mod host;
mod hostcalls;
mod instance;
mod lane;
mod limits;
mod memory;
pub mod metrics;
mod module;
mod phases;
mod plugin;
mod services;
mod shared;
mod stream;
mod timer;
mod token;
mod vm;
mod wasi;
mod worker;

pub use body::Chunk;
pub use callout::HttpResponse;
pub use chain::{Chain, Isolation};
pub use diagnostics::LogSink;
pub use engine::{Engine, EngineConfig};
pub use error::{Error, ErrorKind, Result};
pub use foreign::{ForeignFunction, ForeignFunctions};
pub use host::{
    GrpcCall, Host, HostMetrics, HostQueues, HostResult, HostSharedData, HttpCall, LocalResponse, LogRecord, StreamData,
};
pub use limits::Limits;
pub use module::Module;
pub use plugin::{Capabilities, FailurePolicy, Phases, Plugin, PluginConfig, ReloadBackoff};
pub use services::Stats;
pub use shared::queues::Waker;
pub use stream::{Action, Direction, Forward, Outcome, StreamHandle, StreamKind};
pub use token::Token;
pub use worker::{validate, InstanceHandle, Worker};
