// SPDX-License-Identifier: Apache-2.0
//! A plugin: a module and its configuration, immutable, shared by all workers.

use crate::error::{Error, ErrorKind, Result};
use crate::hostcalls;
use crate::limits::Limits;
use crate::module::Module;
use crate::vm::VmState;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::InstancePre;

/// What becomes of streams whose plugin failed, and of its VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FailurePolicy {
    /// Live streams end; the next stream gets a new VM.
    #[default]
    Reload,
    /// Live and later streams end.
    Closed,
    /// Live and later streams pass untouched.
    Open,
}

/// When a plugin under `FailurePolicy::Reload` gets a new VM. The first is made at once; when a VM fails before it has finished a
/// single stream, the next waits: `base`, doubled each time, up to `max`; after `limit` such failures in a row no more is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReloadBackoff {
    /// First wait.
    pub base: Duration,
    /// Longest wait.
    pub max: Duration,
    /// Number of failures in a row after which the plugin stays down; 0 means none.
    pub limit: u32,
}

impl Default for ReloadBackoff {
    fn default() -> Self {
        Self { base: Duration::from_secs(1), max: Duration::from_secs(60), limit: 16 }
    }
}

/// A set of phases of a stream, as bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Phases(pub u32);

impl Phases {
    /// Request headers.
    pub const REQUEST_HEADERS: Self = Self(0x1);
    /// Request body.
    pub const REQUEST_BODY: Self = Self(0x2);
    /// Request trailers.
    pub const REQUEST_TRAILERS: Self = Self(0x4);
    /// Response headers.
    pub const RESPONSE_HEADERS: Self = Self(0x8);
    /// Response body.
    pub const RESPONSE_BODY: Self = Self(0x10);
    /// Response trailers.
    pub const RESPONSE_TRAILERS: Self = Self(0x20);
    /// New TCP connection.
    pub const NEW_CONNECTION: Self = Self(0x40);
    /// Data from the client.
    pub const DOWNSTREAM_DATA: Self = Self(0x80);
    /// Data from the upstream.
    pub const UPSTREAM_DATA: Self = Self(0x100);
    /// Close of a TCP connection.
    pub const CONNECTION_CLOSE: Self = Self(0x200);
    /// HTTP/2 metadata.
    pub const METADATA: Self = Self(0x400);
    /// Log.
    pub const LOG: Self = Self(0x800);
    /// All of them.
    pub const ALL: Self = Self(0xfff);

    /// Whether they have a phase in common.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The phases for which a module exports a callback.
    fn of(wasm: &wasmtime::Module) -> Self {
        const BY_NAME: &[(&str, Phases)] = &[
            ("proxy_on_request_headers", Phases::REQUEST_HEADERS),
            ("proxy_on_request_body", Phases::REQUEST_BODY),
            ("proxy_on_request_trailers", Phases::REQUEST_TRAILERS),
            ("proxy_on_response_headers", Phases::RESPONSE_HEADERS),
            ("proxy_on_response_body", Phases::RESPONSE_BODY),
            ("proxy_on_response_trailers", Phases::RESPONSE_TRAILERS),
            ("proxy_on_new_connection", Phases::NEW_CONNECTION),
            ("proxy_on_downstream_data", Phases::DOWNSTREAM_DATA),
            ("proxy_on_upstream_data", Phases::UPSTREAM_DATA),
            ("proxy_on_downstream_connection_close", Phases::CONNECTION_CLOSE),
            ("proxy_on_upstream_connection_close", Phases::CONNECTION_CLOSE),
            ("proxy_on_request_metadata", Phases::METADATA),
            ("proxy_on_response_metadata", Phases::METADATA),
            ("proxy_on_log", Phases::LOG),
        ];
        let there = BY_NAME.iter().filter(|(name, _)| wasm.get_export(name).is_some());
        Self(there.fold(0, |bits, (_, phase)| bits | phase.0))
    }
}

/// The hostcalls, WASI functions and callbacks that a plugin may use, by name. Empty: all of them, as in Envoy.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Capabilities(BTreeSet<String>);

impl Capabilities {
    /// Adds one to those allowed; from then on what was not added is denied.
    pub fn allow(&mut self, name: &str) {
        self.0.insert(name.to_owned());
    }

    /// Whether nothing is denied.
    pub fn unrestricted(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this one is allowed.
    pub fn allows(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.contains(name)
    }
}

/// The configuration of a plugin.
#[derive(Clone, Debug)]
pub struct PluginConfig {
    /// Name, for logs and the property `plugin_name`.
    pub name: String,
    /// Which root context of the module is meant; property `plugin_root_id`.
    pub root_id: String,
    /// Plugins with equal VM id, VM configuration and code share a VM; property `plugin_vm_id`.
    pub vm_id: String,
    /// What `proxy_on_vm_start` reads.
    pub vm_configuration: Vec<u8>,
    /// What `proxy_on_configure` reads.
    pub configuration: Vec<u8>,
    /// Environment variables, name and value.
    pub environment: Vec<(String, String)>,
    /// Limits.
    pub limits: Limits,
    /// Failure policy.
    pub failure_policy: FailurePolicy,
    /// When a new VM is made after a failure.
    pub reload: ReloadBackoff,
    /// What the plugin may use.
    pub capabilities: Capabilities,
    /// Whether a pause in a header callback lets the body callbacks run (Envoy's `allow_on_headers_stop_iteration`).
    pub allow_on_headers_stop_iteration: bool,
    /// Phases in which the plugin takes part, of those that it exports.
    pub phases: Phases,
}

impl PluginConfig {
    /// The defaults, with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            root_id: String::new(),
            vm_id: String::new(),
            vm_configuration: Vec::new(),
            configuration: Vec::new(),
            environment: Vec::new(),
            limits: Limits::default(),
            failure_policy: FailurePolicy::default(),
            reload: ReloadBackoff::default(),
            capabilities: Capabilities::default(),
            allow_on_headers_stop_iteration: false,
            phases: Phases::ALL,
        }
    }
}

/// A module with a configuration, ready to run. Cheap to clone, shared by all threads.
#[derive(Clone)]
pub struct Plugin(Arc<PluginInner>);

pub struct PluginInner {
    pub(crate) config: PluginConfig,
    pub(crate) module: Module,
    pub(crate) pre: InstancePre<VmState>,
    /// Plugins with equal keys share a VM.
    pub(crate) vm_key: [u8; 32],
    /// Plugins with equal keys share a root context.
    pub(crate) root_key: [u8; 32],
    /// Phases that are both exported and configured.
    pub(crate) phases: Phases,
    pub(crate) deadline_ticks: u64,
    pub(crate) start_deadline_ticks: u64,
}

impl std::ops::Deref for Plugin {
    type Target = PluginInner;
    fn deref(&self) -> &PluginInner {
        &self.0
    }
}

impl Plugin {
    /// Joins a module and a configuration.
    pub fn new(module: &Module, config: PluginConfig) -> Result<Self> {
        let whose = format!("plugin {}", config.name);
        if let Some((name, _)) = config.environment.iter().find(|(name, value)| bad_variable(name, value)) {
            let text = format!("environment variable {name:?} has an empty name, a `=` in its name, or a NUL byte");
            return Err(Error::new(ErrorKind::InvalidArgument, text).context(whose));
        }
        if module.initial_memory > config.limits.max_memory {
            let text = format!(
                "the module starts with {} bytes of memory, the limit is {}",
                module.initial_memory, config.limits.max_memory
            );
            return Err(Error::new(ErrorKind::GuestLimit, text).context(whose));
        }
        let pre = if config.capabilities.unrestricted() {
            module.pre.clone()
        } else {
            hostcalls::link(module.engine.linker()?, &module.wasm, &config.capabilities)
                .map_err(|e| Error::new(ErrorKind::DeniedImport, format!("{e:#}")).context(whose))?
        };
        let vm_key = vm_key(module, &config);
        let mut root_key = Sha256::new();
        for part in [config.root_id.as_bytes(), &config.configuration, config.name.as_bytes(), &vm_key] {
            hash_part(&mut root_key, part);
        }
        let ticks = |limit: u64| match limit {
            u64::MAX => u64::MAX >> 1,
            // The tick under way counts as none, so one more.
            limit => limit.div_ceil(module.engine.tick_period_ns).saturating_add(1),
        };
        Ok(Self(Arc::new(PluginInner {
            phases: Phases(Phases::of(&module.wasm).0 & config.phases.0),
            deadline_ticks: ticks(config.limits.deadline_ns),
            start_deadline_ticks: ticks(config.limits.start_deadline_ns),
            module: module.clone(),
            pre,
            vm_key,
            root_key: root_key.finalize().into(),
            config,
        })))
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &PluginConfig {
        &self.0.config
    }

    /// The phases in which it takes part.
    pub fn phases(&self) -> Phases {
        self.0.phases
    }
}

fn bad_variable(name: &str, value: &str) -> bool {
    name.is_empty() || name.contains(['=', '\0']) || value.contains('\0')
}

/// Length first, so that no two lists of parts hash alike.
fn hash_part(hash: &mut Sha256, part: &[u8]) {
    hash.update((part.len() as u64).to_le_bytes());
    hash.update(part);
}

/// Envoy's key (VM id, VM configuration, code) and besides all that shapes the VM itself.
fn vm_key(module: &Module, config: &PluginConfig) -> [u8; 32] {
    let mut key = Sha256::new();
    for part in [config.vm_id.as_bytes(), &config.vm_configuration, module.digest()] {
        hash_part(&mut key, part);
    }
    // The number, so that no variable is taken for a capability.
    key.update((config.environment.len() as u64).to_le_bytes());
    for (name, value) in &config.environment {
        hash_part(&mut key, name.as_bytes());
        hash_part(&mut key, value.as_bytes());
    }
    for name in &config.capabilities.0 {
        hash_part(&mut key, name.as_bytes());
    }
    hash_part(&mut key, &config.limits.max_memory.to_le_bytes());
    key.finalize().into()
}
