// SPDX-License-Identifier: Apache-2.0
//! Section: engine.

use super::boundary::{boundary, boundary_void, Failure};
use super::convert::{bytes, give, handle, handle_mut, out, slice, take, EMPTY_SLICE};
use super::types::*;
use crate::abi::{LogLevel, MetricType, Status};
use crate::diagnostics::LogSink;
use crate::engine::{Engine, EngineConfig};
use libc::c_void;
use std::mem::size_of;
use std::sync::Arc;
use std::time::Duration;

/// How an engine is made. One thread at a time.
pub struct proxywasm_engine_config(EngineConfig);

/// What all workers of a process share: the compiler, shared data, queues, metrics. Counted, any thread.
pub struct proxywasm_engine(pub(super) Engine);

/// Takes the library's own diagnostics. `level` is a `proxywasm_log_level`; `message` is valid during the call. Called on whichever
/// thread the thing happened; must not call the library.
pub type proxywasm_log_fn = Option<unsafe extern "C" fn(user_data: *mut c_void, level: i32, message: proxywasm_slice)>;

/// A function that plugins call by name. `result` points to an empty slice: what it is set to is copied at once, also when the
/// function fails. Returns a `proxywasm_status`. Called on the thread of the worker whose plugin calls; must not call the library.
pub type proxywasm_foreign_fn = Option<
    unsafe extern "C" fn(user_data: *mut c_void, argument: proxywasm_slice, result: *mut proxywasm_slice) -> i32,
>;

/// Shows one metric; `metric` is valid during the call.
pub type proxywasm_metric_fn = Option<unsafe extern "C" fn(user_data: *mut c_void, metric: *const proxywasm_metric)>;

/// Takes a piece of text or bytes, in order; valid during the call.
pub type proxywasm_sink_fn = Option<unsafe extern "C" fn(user_data: *mut c_void, bytes: proxywasm_slice)>;

/// A pointer of the host's that callbacks on several threads get.
struct UserData(*mut c_void);
// SAFETY: the header says on which threads each callback runs; that its user data bears it is the host's part.
unsafe impl Send for UserData {}
// SAFETY: as above.
unsafe impl Sync for UserData {}

struct CLogSink {
    function: unsafe extern "C" fn(*mut c_void, i32, proxywasm_slice),
    user_data: UserData,
}

impl LogSink for CLogSink {
    fn log(&self, level: LogLevel, message: &str) {
        // SAFETY: a function of the host with the user data it gave for it.
        unsafe { (self.function)(self.user_data.0, level as i32, slice(message.as_bytes())) }
    }
}

/// Makes a config with the defaults: one thread compiles, traps by signal, deadlines on, ticks of 10 ms, no pooling, no log.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_engine_config_new(out_config: *mut *mut proxywasm_engine_config) -> i32 {
    boundary(|| {
        give(&out(out_config, "out_config")?, proxywasm_engine_config(EngineConfig::new()));
        Ok(())
    })
}

/// Frees a config. Engines made with it are not affected.
#[no_mangle]
pub extern "C" fn proxywasm_engine_config_free(config: *mut proxywasm_engine_config) {
    boundary_void(|| {
        drop(take(config));
        Ok(())
    });
}

/// Sends the library's own diagnostics (odd imports, back-off after failures) from `level` on to a function. NULL: nowhere, the default.
/// What plugins log goes to `proxywasm_host.log` instead. `user_data` must outlive the engine.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_engine_config_set_log(
    config: *mut proxywasm_engine_config,
    level: i32,
    function: proxywasm_log_fn,
    user_data: *mut c_void,
) -> i32 {
    boundary(|| {
        let config = handle_mut(config, "config")?;
        let level = LogLevel::from_i32(level).ok_or_else(|| Failure::invalid(format!("{level} is no log level")))?;
        if let Some(function) = function {
            config.0.log(level, Arc::new(CLogSink { function, user_data: UserData(user_data) }));
        }
        Ok(())
    })
}

/// Compiles with several threads. Default off; not for a process that forks afterwards, where a child that compiles would hang.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_engine_config_set_parallel_compilation(
    config: *mut proxywasm_engine_config,
    on: bool,
) -> i32 {
    boundary(|| {
        handle_mut(config, "config")?.0.parallel_compilation(on);
        Ok(())
    })
}

/// Whether the code of guests is optimized. Default on. Off: a fifth less CPU time to compile a module, a twentieth more to run it, since
/// toolchains optimize modules themselves.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_engine_config_set_optimization(config: *mut proxywasm_engine_config, on: bool) -> i32 {
    boundary(|| {
        handle_mut(config, "config")?.0.optimization(on);
        Ok(())
    })
}

/// Whether memory faults of guests are caught by handlers of SIGSEGV, SIGBUS, SIGILL and SIGFPE, installed for the process when the
/// first engine is made and passing on what is not theirs. Default on. Off: by checks in the compiled code, which are slower.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_engine_config_set_signal_traps(config: *mut proxywasm_engine_config, on: bool) -> i32 {
    boundary(|| {
        handle_mut(config, "config")?.0.signal_traps(on);
        Ok(())
    })
}

/// Whether guests can be interrupted. Default on. Off: guest code runs some tenth faster, and deadlines have no effect.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_engine_config_set_interruption(config: *mut proxywasm_engine_config, on: bool) -> i32 {
    boundary(|| {
        handle_mut(config, "config")?.0.interruption(on);
        Ok(())
    })
}

/// Time between two ticks in nanoseconds: the precision of deadlines, and the period of the ticker thread. Default 10 ms, at most 10 s.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_engine_config_set_tick_period(config: *mut proxywasm_engine_config, period_ns: u64) -> i32 {
    boundary(|| {
        handle_mut(config, "config")?.0.tick_period(Duration::from_nanos(period_ns))?;
        Ok(())
    })
}

/// Reserves address space (not memory) for `max_vms` VMs at once, which makes each VM cheaper to make: for streams with VMs of their
/// own. Up to 256 KiB of each of the 100 VMs that ended last stay for the next. 0, the default: none. More VMs than that then fail with
/// NO_MEMORY.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_engine_config_set_pooling(config: *mut proxywasm_engine_config, max_vms: u32) -> i32 {
    boundary(|| {
        handle_mut(config, "config")?.0.pooling(max_vms);
        Ok(())
    })
}

/// Adds a function that plugins call by `name` with `proxy_call_foreign_function`, in place of one of that name. `user_data` must
/// outlive the engine.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_engine_config_add_foreign_function(
    config: *mut proxywasm_engine_config,
    name: proxywasm_slice,
    function: proxywasm_foreign_fn,
    user_data: *mut c_void,
) -> i32 {
    boundary(|| {
        let config = handle_mut(config, "config")?;
        let name = bytes(name, "name")?;
        let function = function.ok_or_else(|| Failure::invalid("function is NULL"))?;
        let user_data = UserData(user_data);
        let call = move |argument: &[u8], result: &mut Vec<u8>| {
            let user_data = &user_data;
            let mut given = EMPTY_SLICE;
            // SAFETY: a function of the host with the user data it gave for it.
            let status = unsafe { function(user_data.0, slice(argument), &mut given) };
            result.extend_from_slice(bytes(given, "result").map_err(|_| Status::InternalFailure)?);
            super::callbacks::status(status)
        };
        config.0.foreign_functions().insert(name, Arc::new(call));
        Ok(())
    })
}

/// Makes an engine. `config` may be NULL for the defaults; it stays the caller's. Starts no thread.
///
/// Errors: INVALID_ARGUMENT, NO_MEMORY (no address space, or a setting this machine lacks).
#[no_mangle]
pub extern "C" fn proxywasm_engine_new(
    config: *const proxywasm_engine_config,
    out_engine: *mut *mut proxywasm_engine,
) -> i32 {
    boundary(|| {
        let place = out(out_engine, "out_engine")?;
        let mut config = if config.is_null() { EngineConfig::new() } else { handle(config, "config")?.0.clone() };
        add_fault_injection(&mut config);
        give(&place, proxywasm_engine(Engine::new(&config)?));
        Ok(())
    })
}

/// The way by which the C tests make the library panic.
fn add_fault_injection(config: &mut EngineConfig) {
    #[cfg(feature = "fault-injection")]
    #[allow(clippy::panic, reason = "this is its purpose")]
    config
        .foreign_functions()
        .insert(b"proxywasm.fault.panic", Arc::new(|_: &[u8], _: &mut Vec<u8>| panic!("injected")));
    let _ = config;
}

/// Lets go of an engine; it lives until its modules, plugins and workers are gone too.
#[no_mangle]
pub extern "C" fn proxywasm_engine_free(engine: *mut proxywasm_engine) {
    boundary_void(|| {
        drop(take(engine));
        Ok(())
    });
}

/// Advances the deadlines of all guests by one tick, for hosts that have a timer of their own. Any thread, also in a signal handler;
/// allowed inside callbacks. NULL does nothing.
#[no_mangle]
pub extern "C" fn proxywasm_engine_tick(engine: *const proxywasm_engine) {
    // No boundary: it would not be safe in a signal handler, and an atomic addition cannot panic.
    // SAFETY: the caller passes NULL or an engine that it has not freed.
    if let Some(engine) = unsafe { engine.as_ref() } {
        engine.0.tick();
    }
}

/// Starts the one thread that the library ever makes, which ticks; nothing when it runs. Only after the last fork of the process.
///
/// Errors: INVALID_ARGUMENT, INTERNAL (no thread to be had).
#[no_mangle]
pub extern "C" fn proxywasm_engine_start_ticker(engine: *const proxywasm_engine) -> i32 {
    boundary(|| Ok(handle(engine, "engine")?.0.start_ticker()?))
}

/// Stops the ticker thread; it ends within one tick. Deadlines have no effect from then on.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_engine_stop_ticker(engine: *const proxywasm_engine) -> i32 {
    boundary(|| {
        handle(engine, "engine")?.0.stop_ticker();
        Ok(())
    })
}

/// Must be the first call on an engine in a process made by fork, and made there only. Modules and plugins made before the fork can
/// be used then, their code is shared copy-on-write; workers must be made after it.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_engine_fork_child(engine: *const proxywasm_engine) -> i32 {
    boundary(|| {
        handle(engine, "engine")?.0.fork_child();
        Ok(())
    })
}

/// Shows all metrics of the library's registry, ordered by name. Any thread.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_engine_visit_metrics(
    engine: *const proxywasm_engine,
    visit: proxywasm_metric_fn,
    user_data: *mut c_void,
) -> i32 {
    boundary(|| {
        let engine = handle(engine, "engine")?;
        let visit = visit.ok_or_else(|| Failure::invalid("visit is NULL"))?;
        engine.0.metrics().visit(&mut |sample| {
            let metric = proxywasm_metric {
                struct_size: size_of::<proxywasm_metric>(),
                metric_type: match sample.kind {
                    MetricType::Counter => proxywasm_metric_type::COUNTER as i32,
                    MetricType::Gauge => proxywasm_metric_type::GAUGE as i32,
                    MetricType::Histogram => proxywasm_metric_type::HISTOGRAM as i32,
                },
                name: slice(sample.name),
                value: sample.value,
                sum: sample.sum,
            };
            // SAFETY: a function of the host with the user data it gave for it.
            unsafe { visit(user_data, &metric) }
        });
        Ok(())
    })
}

/// Renders all metrics of the library's registry in Prometheus text exposition format (version 0.0.4). Any thread.
///
/// Errors: INVALID_ARGUMENT.
#[no_mangle]
pub extern "C" fn proxywasm_engine_render_metrics(
    engine: *const proxywasm_engine,
    sink: proxywasm_sink_fn,
    user_data: *mut c_void,
) -> i32 {
    boundary(|| {
        let engine = handle(engine, "engine")?;
        let sink = sink.ok_or_else(|| Failure::invalid("sink is NULL"))?;
        let mut text = String::new();
        engine.0.metrics().render_prometheus(&mut text);
        // SAFETY: a function of the host with the user data it gave for it.
        unsafe { sink(user_data, slice(text.as_bytes())) }
        Ok(())
    })
}
