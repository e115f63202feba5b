// SPDX-License-Identifier: Apache-2.0
//! Section: plugin.

use super::boundary::{boundary, boundary_void, Failure};
use super::callbacks::CHost;
use super::convert::{bytes, give, handle, handle_mut, out, read_sized, take, text};
use super::module::proxywasm_module;
use super::types::*;
use super::vtable::proxywasm_host;
use crate::plugin::{FailurePolicy, Phases, Plugin, PluginConfig};
use libc::c_void;
use std::time::Duration;

/// The configuration of a plugin. One thread at a time.
pub struct proxywasm_plugin_config(PluginConfig);

/// A module with a configuration, immutable. Counted, any thread.
pub struct proxywasm_plugin(pub(super) Plugin);

/// Makes a configuration. `name` is UTF-8, for logs and the property `plugin_name`. Everything else is empty or has its default.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_plugin_config_new(
    name: proxywasm_slice,
    out_config: *mut *mut proxywasm_plugin_config,
) -> i32 {
    boundary(|| {
        let place = out(out_config, "out_config")?;
        give(&place, proxywasm_plugin_config(PluginConfig::new(text(name, "name")?)));
        Ok(())
    })
}

/// Frees a configuration. Plugins made with it are not affected.
#[no_mangle]
pub extern "C" fn proxywasm_plugin_config_free(config: *mut proxywasm_plugin_config) {
    boundary_void(|| {
        drop(take(config));
        Ok(())
    });
}

/// Which root context of the module is meant (Envoy's `root_id`), UTF-8.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_plugin_config_set_root_id(
    config: *mut proxywasm_plugin_config,
    root_id: proxywasm_slice,
) -> i32 {
    boundary(|| {
        handle_mut(config, "config")?.0.root_id = text(root_id, "root_id")?.to_owned();
        Ok(())
    })
}

/// Names the VM (Envoy's `vm_id`), UTF-8: plugins of a worker with equal VM id, VM configuration and code share one, and plugins
/// with equal VM id share data and queues.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_plugin_config_set_vm_id(
    config: *mut proxywasm_plugin_config,
    vm_id: proxywasm_slice,
) -> i32 {
    boundary(|| {
        handle_mut(config, "config")?.0.vm_id = text(vm_id, "vm_id")?.to_owned();
        Ok(())
    })
}

/// What `proxy_on_vm_start` reads, any bytes.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_plugin_config_set_vm_configuration(
    config: *mut proxywasm_plugin_config,
    configuration: proxywasm_slice,
) -> i32 {
    boundary(|| {
        handle_mut(config, "config")?.0.vm_configuration = bytes(configuration, "configuration")?.to_vec();
        Ok(())
    })
}

/// What `proxy_on_configure` reads, any bytes.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_plugin_config_set_configuration(
    config: *mut proxywasm_plugin_config,
    configuration: proxywasm_slice,
) -> i32 {
    boundary(|| {
        handle_mut(config, "config")?.0.configuration = bytes(configuration, "configuration")?.to_vec();
        Ok(())
    })
}

/// Adds an environment variable, UTF-8. The guest sees these and no others.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_plugin_config_add_environment(
    config: *mut proxywasm_plugin_config,
    name: proxywasm_slice,
    value: proxywasm_slice,
) -> i32 {
    boundary(|| {
        let config = handle_mut(config, "config")?;
        config.0.environment.push((text(name, "name")?.to_owned(), text(value, "value")?.to_owned()));
        Ok(())
    })
}

/// Sets limits. The caller sets `limits->struct_size`; members that are 0 keep their defaults.
///
/// Errors: INVALID_ARGUMENT, ABI_MISMATCH.
#[no_mangle]
pub extern "C" fn proxywasm_plugin_config_set_limits(
    config: *mut proxywasm_plugin_config,
    limits: *const proxywasm_limits,
) -> i32 {
    boundary(|| {
        let config = handle_mut(config, "config")?;
        let given = read_sized(limits, "limits")?;
        let limits = &mut config.0.limits;
        for (limit, given) in [
            (&mut limits.deadline_ns, given.deadline_ns),
            (&mut limits.start_deadline_ns, given.start_deadline_ns),
            (&mut limits.max_memory, given.max_memory),
            (&mut limits.max_body_buffer, given.max_body_buffer),
            (&mut limits.max_callouts, given.max_callouts),
        ] {
            if given != 0 {
                *limit = given;
            }
        }
        Ok(())
    })
}

/// Sets the failure policy, a `proxywasm_failure_policy`. Default RELOAD.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_plugin_config_set_failure_policy(config: *mut proxywasm_plugin_config, policy: i32) -> i32 {
    boundary(|| {
        let config = handle_mut(config, "config")?;
        config.0.failure_policy = match policy {
            p if p == proxywasm_failure_policy::RELOAD as i32 => FailurePolicy::Reload,
            p if p == proxywasm_failure_policy::CLOSED as i32 => FailurePolicy::Closed,
            p if p == proxywasm_failure_policy::OPEN as i32 => FailurePolicy::Open,
            _ => return Err(Failure::invalid(format!("{policy} is no failure policy"))),
        };
        Ok(())
    })
}

/// Sets when the policy RELOAD makes a new VM. The first is made at once; when a VM fails before it has finished a single stream, the next
/// waits `base_ns`, twice that, and so on up to `max_ns` (defaults 1 s, 60 s), and after `limit` such failures in a row (default 16,
/// 0 means no limit) the plugin stays down.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_plugin_config_set_reload(
    config: *mut proxywasm_plugin_config,
    base_ns: u64,
    max_ns: u64,
    limit: u32,
) -> i32 {
    boundary(|| {
        let reload = &mut handle_mut(config, "config")?.0.reload;
        (reload.base, reload.max, reload.limit) = (Duration::from_nanos(base_ns), Duration::from_nanos(max_ns), limit);
        Ok(())
    })
}

/// Allows one hostcall, WASI function or callback by its name (`proxy_http_call`, `fd_write`, `proxy_on_tick`). With the first call
/// everything that is not allowed is denied (Envoy's `capability_restriction_config`): a denied hostcall answers INTERNAL_FAILURE, a
/// denied WASI function 76, a denied callback is not called.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_plugin_config_allow(
    config: *mut proxywasm_plugin_config,
    capability: proxywasm_slice,
) -> i32 {
    boundary(|| {
        handle_mut(config, "config")?.0.capabilities.allow(text(capability, "capability")?);
        Ok(())
    })
}

/// Whether a pause in a header callback lets the body callbacks of the plugin run (Envoy's `allow_on_headers_stop_iteration`). Default
/// false: nothing more is shown to the plugin until it resumes.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_plugin_config_set_allow_on_headers_stop_iteration(
    config: *mut proxywasm_plugin_config,
    allow: bool,
) -> i32 {
    boundary(|| {
        handle_mut(config, "config")?.0.allow_on_headers_stop_iteration = allow;
        Ok(())
    })
}

/// Restricts the plugin to some of the phases that its module exports: `proxywasm_phase` bits. SDKs export all callbacks, so this is
/// how a proxy keeps sendfile for bodies that the plugin would ignore. Default: all.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_plugin_config_set_phases(config: *mut proxywasm_plugin_config, phases: u32) -> i32 {
    boundary(|| {
        let config = handle_mut(config, "config")?;
        if phases & !Phases::ALL.0 != 0 {
            return Err(Failure::invalid(format!("{phases:#x} has bits that are no phase")));
        }
        config.0.phases = Phases(phases);
        Ok(())
    })
}

/// Joins a module and a configuration. Both stay the caller's. Runs no guest code.
///
/// Errors: INVALID_ARGUMENT, GUEST_LIMIT (the module starts with more memory than it may have).
#[no_mangle]
pub extern "C" fn proxywasm_plugin_new(
    module: *const proxywasm_module,
    config: *const proxywasm_plugin_config,
    out_plugin: *mut *mut proxywasm_plugin,
) -> i32 {
    boundary(|| {
        let (module, config) = (handle(module, "module")?, handle(config, "config")?);
        let place = out(out_plugin, "out_plugin")?;
        give(&place, proxywasm_plugin(Plugin::new(&module.0, config.0.clone())?));
        Ok(())
    })
}

/// The phases in which a plugin takes part, as `proxywasm_phase` bits: those that its module exports and its configuration allows. 0 for NULL.
#[no_mangle]
pub extern "C" fn proxywasm_plugin_phases(plugin: *const proxywasm_plugin) -> u32 {
    handle(plugin, "plugin").map_or(0, |plugin| plugin.0.phases().0)
}

/// Starts and configures a plugin in a VM that is thrown away, to find out whether it would start: for a configuration check, also before
/// fork. Of `host`, which may be NULL, only `log`, `log_level`, `get_property` and those of shared queues are called, with `user_data`;
/// a host without the latter gets no trace of queues.
///
/// Errors: INVALID_ARGUMENT, ABI_MISMATCH, GUEST_TRAP, GUEST_TIMEOUT, GUEST_LIMIT, GUEST_REJECTED (what the plugin logged says why).
#[no_mangle]
pub extern "C" fn proxywasm_plugin_validate(
    plugin: *const proxywasm_plugin,
    host: *const proxywasm_host,
    user_data: *mut c_void,
) -> i32 {
    boundary(|| {
        let plugin = handle(plugin, "plugin")?;
        let host = if host.is_null() { CHost::silent() } else { CHost::new(host, user_data)? };
        Ok(crate::worker::validate(&plugin.0, Box::new(host))?)
    })
}

/// Lets go of a plugin; it lives until the instances made of it are gone too.
#[no_mangle]
pub extern "C" fn proxywasm_plugin_free(plugin: *mut proxywasm_plugin) {
    boundary_void(|| {
        drop(take(plugin));
        Ok(())
    });
}
