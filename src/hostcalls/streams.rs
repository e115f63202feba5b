// SPDX-License-Identifier: Apache-2.0
//! What plugins do to a stream: continue, close, answer. All of it happens after the callback has returned.

use super::{parts, Cx, HostcallResult};
use crate::abi::pairs::{PairList, Pairs};
use crate::abi::{memory, Status, StreamType};
use crate::deferred::{Deferred, OwnedResponse};
use crate::stream::{Direction, Stream, StreamKind};
use crate::vm::VmState;
use std::rc::Rc;

fn stream_type(number: u32) -> Result<StreamType, Status> {
    StreamType::from_i32(number as i32).ok_or(Status::BadArgument)
}

/// The kind of stream that has this end; asked of the other kind, nothing happens, as in Envoy.
fn kind_of(stream: StreamType) -> StreamKind {
    match stream {
        StreamType::HttpRequest | StreamType::HttpResponse => StreamKind::Http,
        StreamType::Downstream | StreamType::Upstream => StreamKind::Tcp,
    }
}

/// The stream to act on, and the plugin's place in it. One that logs has come to its end: nothing can be done to it any more.
fn acting(state: &VmState, kind: StreamKind) -> Option<(&Rc<Stream>, usize)> {
    state.context().stream().filter(|(stream, _)| stream.kind() == kind && !stream.is_logging())
}

fn resume(cx: &mut Cx<'_>, kind: StreamKind, direction: Direction) -> HostcallResult {
    let state = cx.data_mut();
    if let Some((stream, index)) = acting(state, kind) {
        let action = Deferred::Continue(stream.clone(), index, direction);
        state.deferred.push(action);
    }
    Ok(())
}

pub(super) fn continue_stream(cx: &mut Cx<'_>, stream: u32) -> HostcallResult {
    let stream = stream_type(stream)?;
    match stream {
        StreamType::HttpRequest | StreamType::Downstream => resume(cx, kind_of(stream), Direction::Request),
        StreamType::HttpResponse => resume(cx, StreamKind::Http, Direction::Response),
        // Not in Envoy either.
        StreamType::Upstream => Err(Status::Unimplemented.into()),
    }
}

pub(super) fn continue_request(cx: &mut Cx<'_>) -> HostcallResult {
    resume(cx, StreamKind::Http, Direction::Request)
}

pub(super) fn continue_response(cx: &mut Cx<'_>) -> HostcallResult {
    resume(cx, StreamKind::Http, Direction::Response)
}

pub(super) fn close_stream(cx: &mut Cx<'_>, stream: u32) -> HostcallResult {
    let which = stream_type(stream)?;
    let state = cx.data_mut();
    if let Some((stream, _)) = acting(state, kind_of(which)) {
        let action = Deferred::Close(stream.clone(), which);
        state.deferred.push(action);
    }
    Ok(())
}

/// ABI 0.1.0; later SDKs call the foreign function of this name.
pub(super) fn clear_route_cache(cx: &mut Cx<'_>) -> HostcallResult {
    let state = cx.data();
    // A host without routes has nothing to clear.
    let _ = state.services.host.call_foreign_function(state.stream_data(), b"clear_route_cache", &[], &mut Vec::new());
    Ok(())
}

#[allow(clippy::too_many_arguments, reason = "the ABI's")]
pub(super) fn send_local_response(
    cx: &mut Cx<'_>,
    status: u32,
    details: u32,
    details_len: u32,
    body: u32,
    body_len: u32,
    headers: u32,
    headers_len: u32,
    grpc_status: i32,
) -> HostcallResult {
    let (memory, state) = parts(cx)?;
    let mut details = memory::read(memory, details, details_len)?.to_vec();
    details.iter_mut().filter(|byte| **byte == b' ').for_each(|byte| *byte = b'_');
    let body = memory::read(memory, body, body_len)?.to_vec();
    let mut list = PairList::new();
    // As in Envoy, pairs that cannot be read as such do not keep the request from being answered.
    if let Ok(pairs) = Pairs::decode(memory::read(memory, headers, headers_len)?) {
        pairs.copy_to(&mut list);
    }
    let grpc_status = u32::try_from(grpc_status).ok().filter(|status| *status <= 16);
    if let Some((stream, _)) = acting(state, StreamKind::Http) {
        let response = Box::new(OwnedResponse { status, grpc_status, details, body, headers: list });
        let action = Deferred::LocalResponse(stream.clone(), response);
        state.deferred.push(action);
    }
    Ok(())
}
