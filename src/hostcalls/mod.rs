// SPDX-License-Identifier: Apache-2.0
//! What guests call: the functions of all versions of the ABI, offered to every module. One file for each group.

mod buffers;
mod calls;
mod contexts;
mod foreign;
mod headers;
mod metrics;
mod properties;
mod shared;
mod streams;

use crate::abi::{memory, Status};
use crate::memory::memory_and_state;
use crate::plugin::Capabilities;
use crate::vm::{Mode, VmState};
use crate::wasi;
use wasmtime::{bail, Caller, ExternType, InstancePre, Linker, Val};

/// What a hostcall runs with.
pub(crate) type Cx<'a> = Caller<'a, VmState>;

/// Why a hostcall does not answer Ok.
pub(crate) enum Fail {
    /// The guest gets this status.
    Status(Status),
    /// The guest ends here.
    Trap(wasmtime::Error),
}

impl From<Status> for Fail {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<wasmtime::Error> for Fail {
    fn from(error: wasmtime::Error) -> Self {
        Self::Trap(error)
    }
}

pub(crate) type HostcallResult<T = ()> = Result<T, Fail>;

/// Runs a hostcall, unless none is allowed just now, and turns what comes of it into what the guest sees.
#[inline]
fn run(cx: &mut Cx<'_>, name: &str, hostcall: impl FnOnce(&mut Cx<'_>) -> HostcallResult) -> wasmtime::Result<u32> {
    check_mode(cx, name)?;
    match hostcall(cx) {
        Ok(()) => Ok(Status::Ok as u32),
        Err(Fail::Status(status)) => Ok(status as u32),
        Err(Fail::Trap(error)) => Err(error),
    }
}

/// While the guest's allocator runs a hostcall could take away what the allocation is for, and while the module starts there is no
/// plugin to act for.
#[inline]
fn check_mode(cx: &Cx<'_>, name: &str) -> wasmtime::Result<()> {
    match cx.data().mode {
        Mode::Normal => Ok(()),
        mode => check_early(mode, name),
    }
}

#[cold]
fn check_early(mode: Mode, name: &str) -> wasmtime::Result<()> {
    const WHILE_STARTING: &[&str] = &["proxy_log", "proxy_get_log_level", "proxy_get_current_time_nanoseconds"];
    const WHILE_ALLOCATING: &[&str] = &["proxy_log"];
    let (when, allowed) = match mode {
        Mode::Normal => return Ok(()),
        Mode::Starting => ("before proxy_on_context_create", WHILE_STARTING),
        Mode::Allocating => ("inside the guest's allocator", WHILE_ALLOCATING),
    };
    if allowed.contains(&name) {
        return Ok(());
    }
    bail!("the guest called {name} {when}, where it is not allowed")
}

/// Links the hostcalls: name in the guest, function here, parameters.
macro_rules! hostcalls {
    ($($name:ident => $function:path, ($($param:ident: $type:ty),*);)*) => {
        /// The hostcalls of all versions.
        const HOSTCALLS: &[&str] = &[$(stringify!($name)),*];

        fn link_hostcalls(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
            $(linker.func_wrap(
                "env",
                stringify!($name),
                |mut cx: Cx<'_>, $($param: $type),*| run(&mut cx, stringify!($name), |cx| $function(cx, $($param),*)),
            )?;)*
            Ok(())
        }
    };
}

hostcalls! {
    proxy_log => contexts::log, (level: u32, text: u32, len: u32);
    proxy_get_log_level => contexts::get_log_level, (out_level: u32);
    proxy_get_current_time_nanoseconds => contexts::get_current_time, (out_time: u32);
    proxy_set_tick_period_milliseconds => contexts::set_tick_period, (period: u32);
    proxy_set_effective_context => contexts::set_effective_context, (context: u32);
    proxy_done => contexts::done, ();
    proxy_get_property => properties::get, (path: u32, path_len: u32, out_value: u32, out_len: u32);
    proxy_set_property => properties::set, (path: u32, path_len: u32, value: u32, value_len: u32);
    proxy_get_configuration => buffers::get_configuration, (out_value: u32, out_len: u32);
    proxy_get_buffer_bytes => buffers::get, (buffer: u32, start: u32, max: u32, out_value: u32, out_len: u32);
    proxy_get_buffer_status => buffers::status, (buffer: u32, out_len: u32, out_flags: u32);
    proxy_set_buffer_bytes => buffers::set, (buffer: u32, start: u32, size: u32, value: u32, len: u32);
    proxy_get_header_map_pairs => headers::get_pairs, (map: u32, out_value: u32, out_len: u32);
    proxy_set_header_map_pairs => headers::set_pairs, (map: u32, value: u32, len: u32);
    proxy_get_header_map_value => headers::get, (map: u32, name: u32, name_len: u32, out_value: u32, out_len: u32);
    proxy_add_header_map_value => headers::add, (map: u32, name: u32, name_len: u32, value: u32, len: u32);
    proxy_replace_header_map_value => headers::replace, (map: u32, name: u32, name_len: u32, value: u32, len: u32);
    proxy_remove_header_map_value => headers::remove, (map: u32, name: u32, name_len: u32);
    proxy_get_header_map_size => headers::size, (map: u32, out_size: u32);
    proxy_continue_stream => streams::continue_stream, (stream: u32);
    proxy_continue_request => streams::continue_request, ();
    proxy_continue_response => streams::continue_response, ();
    proxy_close_stream => streams::close_stream, (stream: u32);
    proxy_clear_route_cache => streams::clear_route_cache, ();
    proxy_send_local_response => streams::send_local_response, (
        status: u32, details: u32, details_len: u32, body: u32, body_len: u32, headers: u32, headers_len: u32, grpc_status: i32);
    proxy_http_call => calls::http_call, (
        upstream: u32, upstream_len: u32, headers: u32, headers_len: u32, body: u32, body_len: u32,
        trailers: u32, trailers_len: u32, timeout: u32, out_token: u32);
    proxy_grpc_call => calls::grpc_call, (
        upstream: u32, upstream_len: u32, service: u32, service_len: u32, method: u32, method_len: u32,
        metadata: u32, metadata_len: u32, message: u32, message_len: u32, timeout: u32, out_token: u32);
    proxy_grpc_stream => calls::grpc_stream, (
        upstream: u32, upstream_len: u32, service: u32, service_len: u32, method: u32, method_len: u32,
        metadata: u32, metadata_len: u32, out_token: u32);
    proxy_grpc_send => calls::grpc_send, (token: u32, message: u32, len: u32, end_of_stream: u32);
    proxy_grpc_cancel => calls::grpc_cancel, (token: u32);
    proxy_grpc_close => calls::grpc_close, (token: u32);
    proxy_get_status => calls::get_status, (out_status: u32, out_message: u32, out_len: u32);
    proxy_get_shared_data => shared::get_data, (key: u32, key_len: u32, out_value: u32, out_len: u32, out_cas: u32);
    proxy_set_shared_data => shared::set_data, (key: u32, key_len: u32, value: u32, len: u32, cas: u32);
    proxy_register_shared_queue => shared::register_queue, (name: u32, len: u32, out_token: u32);
    proxy_resolve_shared_queue => shared::resolve_queue, (vm_id: u32, vm_id_len: u32, name: u32, len: u32, out_token: u32);
    proxy_dequeue_shared_queue => shared::dequeue, (token: u32, out_value: u32, out_len: u32);
    proxy_enqueue_shared_queue => shared::enqueue, (token: u32, value: u32, len: u32);
    proxy_define_metric => metrics::define, (kind: u32, name: u32, len: u32, out_id: u32);
    proxy_increment_metric => metrics::increment, (id: u32, delta: i64);
    proxy_record_metric => metrics::record, (id: u32, value: u64);
    proxy_get_metric => metrics::get, (id: u32, out_value: u32);
    proxy_call_foreign_function => foreign::call, (
        name: u32, name_len: u32, argument: u32, argument_len: u32, out_result: u32, out_len: u32);
}

/// What old Emscripten builds import besides, none of which can fail.
const EMSCRIPTEN: &[&str] = &["pthread_equal", "emscripten_notify_memory_growth"];

/// All that every module is offered.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<VmState>> {
    let mut linker = Linker::new(engine);
    link_hostcalls(&mut linker)?;
    linker.func_wrap("env", EMSCRIPTEN[0], |a: u32, b: u32| u32::from(a == b))?;
    linker.func_wrap("env", EMSCRIPTEN[1], |_: u32| {})?;
    wasi::link(&mut linker)?;
    Ok(linker)
}

/// Whether a function is offered.
pub(crate) fn is_offered(module: &str, name: &str) -> bool {
    match module {
        "env" => HOSTCALLS.contains(&name) || EMSCRIPTEN.contains(&name),
        _ => wasi::MODULES.contains(&module) && wasi::FUNCTIONS.contains(&name),
    }
}

/// What a denied WASI function answers: ENOTCAPABLE.
const WASI_NOT_CAPABLE: i32 = 76;

/// Links a module: what it may not use, and what no version of the ABI has, to stubs that say so.
pub(crate) fn link(
    linker: &Linker<VmState>,
    wasm: &wasmtime::Module,
    capabilities: &Capabilities,
) -> wasmtime::Result<InstancePre<VmState>> {
    let mut own: Option<Linker<VmState>> = None;
    for import in wasm.imports() {
        let (module, name) = (import.module(), import.name());
        let answer = match is_offered(module, name) {
            false if module == "env" && name.starts_with("proxy_") => Status::Unimplemented as i32,
            // Left for the linker to complain about.
            false => continue,
            true if capabilities.allows(name) || EMSCRIPTEN.contains(&name) => continue,
            true if module == "env" => Status::InternalFailure as i32,
            true => WASI_NOT_CAPABLE,
        };
        let ExternType::Func(function) = import.ty() else { continue };
        let own = own.get_or_insert_with(|| {
            let mut linker = linker.clone();
            linker.allow_shadowing(true);
            linker
        });
        own.func_new(module, name, function, move |_, _, results| {
            for result in results {
                *result = match result {
                    Val::I64(_) => Val::I64(i64::from(answer)),
                    _ => Val::I32(answer),
                };
            }
            Ok(())
        })?;
    }
    own.as_ref().unwrap_or(linker).instantiate_pre(wasm)
}

// What the groups share

/// Memory and state of the guest, side by side.
pub(crate) fn parts<'a>(cx: &'a mut Cx<'_>) -> HostcallResult<(&'a mut [u8], &'a mut VmState)> {
    memory_and_state(cx).ok_or(Fail::Status(Status::InvalidMemoryAccess))
}

fn write_u32(cx: &mut Cx<'_>, at: u32, value: u32) -> HostcallResult {
    Ok(memory::write_u32(parts(cx)?.0, at, value)?)
}

fn write_u64(cx: &mut Cx<'_>, at: u32, value: u64) -> HostcallResult {
    Ok(memory::write_u64(parts(cx)?.0, at, value)?)
}

/// Whether a word can be written there. What fails leaves the places for its results as they were.
fn check_u32(cx: &mut Cx<'_>, at: u32) -> HostcallResult {
    memory::write(parts(cx)?.0, at, 4)?;
    Ok(())
}

/// Whether pointer and length of a value can be written where the guest wants them.
fn check_places(memory: &mut [u8], out_value: u32, out_len: u32) -> Result<(), Status> {
    memory::write(memory, out_value, 4)?;
    memory::write(memory, out_len, 4)?;
    Ok(())
}

/// Has the guest allocate `len` bytes and fills them, then writes pointer and length where the guest wants them. Nothing is allocated
/// for nothing. The places are checked before: a guest that cannot be told is not made to allocate.
fn give_with(
    cx: &mut Cx<'_>,
    len: usize,
    out_value: u32,
    out_len: u32,
    fill: impl FnOnce(&mut [u8], &VmState),
) -> HostcallResult {
    check_places(parts(cx)?.0, out_value, out_len)?;
    give_checked(cx, len, out_value, out_len, fill)
}

/// The same when the places have been checked.
fn give_checked(
    cx: &mut Cx<'_>,
    len: usize,
    out_value: u32,
    out_len: u32,
    fill: impl FnOnce(&mut [u8], &VmState),
) -> HostcallResult {
    let size = u32::try_from(len).map_err(|_| Status::InternalFailure)?;
    let pointer = if size > 0 { allocate(cx, size)? } else { 0 };
    let (memory, state) = parts(cx)?;
    fill(memory::write(memory, pointer, size)?, state);
    memory::write_u32(memory, out_value, pointer)?;
    Ok(memory::write_u32(memory, out_len, size)?)
}

/// Gives bytes to the guest.
fn give(cx: &mut Cx<'_>, bytes: &[u8], out_value: u32, out_len: u32) -> HostcallResult {
    give_with(cx, bytes.len(), out_value, out_len, |memory, _| memory.copy_from_slice(bytes))
}

fn allocate(cx: &mut Cx<'_>, size: u32) -> HostcallResult<u32> {
    let state = cx.data_mut();
    let allocator = state.allocator.clone().ok_or(Status::InternalFailure)?;
    state.mode = Mode::Allocating;
    let result = allocator.call(&mut *cx, (size,));
    let state = cx.data_mut();
    state.mode = Mode::Normal;
    match result? {
        0 => Err(Fail::Status(Status::InvalidMemoryAccess)),
        pointer => Ok(pointer),
    }
}

/// Runs something with the buffer for values, emptied, and gives it to the guest when it succeeds.
fn give_value(
    cx: &mut Cx<'_>,
    out_value: u32,
    out_len: u32,
    read: impl FnOnce(&[u8], &VmState, &mut Vec<u8>) -> Result<(), Status>,
) -> HostcallResult {
    let (memory, state) = parts(cx)?;
    let len = {
        let mut value = state.value.borrow_mut();
        value.clear();
        read(memory, state, &mut value)?;
        check_places(memory, out_value, out_len)?;
        value.len()
    };
    // The allocator, which runs meanwhile, may call nothing that uses the buffer.
    give_checked(cx, len, out_value, out_len, |memory, state| memory.copy_from_slice(&state.value.borrow()))
}
