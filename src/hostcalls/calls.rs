// SPDX-License-Identifier: Apache-2.0
//! HTTP and gRPC calls. They belong to the root context, whoever starts them, and outlive the stream.

use super::{check_u32, give, parts, write_u32, Cx, HostcallResult};
use crate::abi::pairs::{PairList, Pairs};
use crate::abi::{memory, Status};
use crate::host::{GrpcCall, HostResult, HttpCall};
use crate::token::{Call, CallKind, Token};
use crate::vm::VmState;

/// Enters a call in the tables, has the host start it, and tells the guest its number.
fn start(
    cx: &mut Cx<'_>,
    kind: CallKind,
    out_token: u32,
    start: impl FnOnce(&[u8], &VmState, Token) -> HostResult,
) -> HostcallResult {
    check_u32(cx, out_token)?;
    let (memory, state) = parts(cx)?;
    let root = state.context().root().ok_or(Status::InternalFailure)?;
    if state.calls.len() as u64 >= root.plugin.config().limits.max_callouts {
        return Err(Status::InternalFailure.into());
    }
    let guest_token = new_guest_token(state, kind);
    let call = Call { vm: state.vm.clone(), root: root.id, guest_token, kind, answered: false };
    let token = state.services.begin_call(call);
    if let Err(status) = start(memory, state, token) {
        state.services.end_call(token);
        return Err(status.into());
    }
    state.calls.insert(guest_token, token);
    write_u32(cx, out_token, guest_token)
}

/// The guest's numbers carry the kind of call in their low bits, as in Envoy; one that is in use is not given again.
fn new_guest_token(state: &mut VmState, kind: CallKind) -> u32 {
    loop {
        state.next_call = state.next_call.wrapping_add(4);
        let token = state.next_call | kind as u32;
        if state.next_call != 0 && !state.calls.contains_key(&token) {
            return token;
        }
    }
}

/// Pairs of the guest, names in lower case.
fn pairs(memory: &[u8], at: u32, len: u32) -> Result<PairList, Status> {
    let mut list = PairList::new();
    Pairs::decode(memory::read(memory, at, len)?)?.copy_to(&mut list);
    Ok(list)
}

/// Of an HTTP call: less than nothing is no time. That of a gRPC call is unsigned, as in Envoy.
fn is_timeout(milliseconds: u32) -> Result<(), Status> {
    if milliseconds > i32::MAX as u32 {
        return Err(Status::BadArgument);
    }
    Ok(())
}

#[allow(clippy::too_many_arguments, reason = "the ABI's")]
pub(super) fn http_call(
    cx: &mut Cx<'_>,
    upstream: u32,
    upstream_len: u32,
    headers: u32,
    headers_len: u32,
    body: u32,
    body_len: u32,
    trailers: u32,
    trailers_len: u32,
    timeout_ms: u32,
    out_token: u32,
) -> HostcallResult {
    start(cx, CallKind::Http, out_token, |memory, state, token| {
        let call = HttpCall {
            upstream: memory::read(memory, upstream, upstream_len)?,
            headers: &pairs(memory, headers, headers_len)?,
            body: memory::read(memory, body, body_len)?,
            trailers: &pairs(memory, trailers, trailers_len)?,
            timeout_ms,
        };
        is_timeout(timeout_ms)?;
        if [&b":method"[..], b":path", b":authority"].iter().any(|name| call.headers.get(name).is_none()) {
            return Err(Status::BadArgument);
        }
        state.services.host.http_call(state.stream_data(), token, &call)
    })
}

#[allow(clippy::too_many_arguments, reason = "the ABI's")]
pub(super) fn grpc_call(
    cx: &mut Cx<'_>,
    upstream: u32,
    upstream_len: u32,
    service: u32,
    service_len: u32,
    method: u32,
    method_len: u32,
    metadata: u32,
    metadata_len: u32,
    message: u32,
    message_len: u32,
    timeout_ms: u32,
    out_token: u32,
) -> HostcallResult {
    start(cx, CallKind::GrpcCall, out_token, |memory, state, token| {
        let call = GrpcCall {
            upstream: memory::read(memory, upstream, upstream_len)?,
            service: memory::read(memory, service, service_len)?,
            method: memory::read(memory, method, method_len)?,
            metadata: &pairs(memory, metadata, metadata_len)?,
            message: memory::read(memory, message, message_len)?,
            timeout_ms,
        };
        state.services.host.grpc_call(state.stream_data(), token, &call)
    })
}

#[allow(clippy::too_many_arguments, reason = "the ABI's")]
pub(super) fn grpc_stream(
    cx: &mut Cx<'_>,
    upstream: u32,
    upstream_len: u32,
    service: u32,
    service_len: u32,
    method: u32,
    method_len: u32,
    metadata: u32,
    metadata_len: u32,
    out_token: u32,
) -> HostcallResult {
    start(cx, CallKind::GrpcStream, out_token, |memory, state, token| {
        let call = GrpcCall {
            upstream: memory::read(memory, upstream, upstream_len)?,
            service: memory::read(memory, service, service_len)?,
            method: memory::read(memory, method, method_len)?,
            metadata: &pairs(memory, metadata, metadata_len)?,
            message: &[],
            timeout_ms: 0,
        };
        state.services.host.grpc_stream(state.stream_data(), token, &call)
    })
}

fn class(token: u32) -> u32 {
    token % 4
}

/// A gRPC call or stream of the guest: BadArgument for a number that can be neither, NotFound for one that has ended.
fn grpc_token(state: &VmState, token: u32) -> Result<Token, Status> {
    if ![CallKind::GrpcCall as u32, CallKind::GrpcStream as u32].contains(&class(token)) {
        return Err(Status::BadArgument);
    }
    state.calls.get(&token).copied().ok_or(Status::NotFound)
}

pub(super) fn grpc_send(cx: &mut Cx<'_>, token: u32, message: u32, len: u32, end_of_stream: u32) -> HostcallResult {
    if class(token) != CallKind::GrpcStream as u32 {
        return Err(Status::BadArgument.into());
    }
    let (memory, state) = parts(cx)?;
    let message = memory::read(memory, message, len)?;
    let token = grpc_token(state, token)?;
    Ok(state.services.host.grpc_send(token, message, end_of_stream != 0)?)
}

pub(super) fn grpc_cancel(cx: &mut Cx<'_>, token: u32) -> HostcallResult {
    let state = cx.data_mut();
    let host_token = grpc_token(state, token)?;
    state.calls.remove(&token);
    state.services.cancel_call(host_token);
    Ok(())
}

/// Half-closes a stream; a unary call has nothing to half-close and is cancelled, as in Envoy.
pub(super) fn grpc_close(cx: &mut Cx<'_>, token: u32) -> HostcallResult {
    let host_token = grpc_token(cx.data(), token)?;
    if class(token) == CallKind::GrpcCall as u32 {
        return grpc_cancel(cx, token);
    }
    Ok(cx.data().services.host.grpc_close(host_token)?)
}

pub(super) fn get_status(cx: &mut Cx<'_>, out_status: u32, out_message: u32, out_len: u32) -> HostcallResult {
    let (status, message) = match cx.data().context().root() {
        Some(root) => root.call_status.borrow().clone(),
        None => (0, Vec::new()),
    };
    write_u32(cx, out_status, status)?;
    give(cx, &message, out_message, out_len)
}
