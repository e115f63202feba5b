// SPDX-License-Identifier: Apache-2.0
//! Buffers: bodies, configurations, what callouts brought.

use super::{give_with, parts, write_u32, Cx, HostcallResult};
use crate::abi::{memory, BufferType, Status};
use crate::body::Body;
use crate::stream::{Direction, StreamKind};
use crate::vm::VmState;

fn buffer_type(number: u32) -> Result<BufferType, Status> {
    BufferType::from_i32(number as i32).ok_or(Status::BadArgument)
}

/// The direction whose data a buffer is, and the kind of stream that has it.
fn stream_buffer(buffer: BufferType) -> Option<(StreamKind, Direction)> {
    match buffer {
        BufferType::RequestBody => Some((StreamKind::Http, Direction::Request)),
        BufferType::ResponseBody => Some((StreamKind::Http, Direction::Response)),
        BufferType::DownstreamData => Some((StreamKind::Tcp, Direction::Request)),
        BufferType::UpstreamData => Some((StreamKind::Tcp, Direction::Response)),
        _ => None,
    }
}

/// What reads from a buffer: its bytes are in one piece or in several.
enum View<'a> {
    Bytes(&'a [u8]),
    Body(&'a Body),
}

impl View<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Body(body) => body.len(),
        }
    }

    fn copy_to(&self, start: usize, out: &mut [u8]) {
        match self {
            Self::Bytes(bytes) => out.copy_from_slice(&bytes[start..start + out.len()]),
            Self::Body(body) => body.copy_to(start, out),
        }
    }
}

/// Looks at a buffer; NotFound when there is none now.
fn view<R>(state: &VmState, buffer: BufferType, look: impl FnOnce(View<'_>) -> R) -> Result<R, Status> {
    let config = state.context().plugin().config();
    let of_call = match buffer {
        BufferType::VmConfiguration => return Ok(look(View::Bytes(&config.vm_configuration))),
        BufferType::PluginConfiguration => return Ok(look(View::Bytes(&config.configuration))),
        BufferType::CallResponseBody => &state.call_data.body,
        BufferType::GrpcMessage => &state.call_data.message,
        BufferType::CallData => &state.call_data.argument,
        _ => &None,
    };
    if let Some(body) = of_call {
        return Ok(look(View::Body(body)));
    }
    let (kind, direction) = stream_buffer(buffer).ok_or(Status::NotFound)?;
    let (stream, index) =
        state.context().stream().filter(|(stream, _)| stream.kind() == kind).ok_or(Status::NotFound)?;
    let lane = stream.lane(index, direction);
    if !lane.shown.get() {
        return Err(Status::NotFound);
    }
    let body = lane.body.borrow();
    Ok(look(View::Body(&body)))
}

/// What lies outside the buffer is cut off, as in Envoy; nothing at all is Ok and empty.
pub(super) fn get(cx: &mut Cx<'_>, buffer: u32, start: u32, max: u32, out_value: u32, out_len: u32) -> HostcallResult {
    let (buffer, start) = (buffer_type(buffer)?, start as usize);
    let len = view(cx.data(), buffer, |view| view.len())?;
    let count = len.saturating_sub(start).min(max as usize);
    give_with(cx, count, out_value, out_len, |memory, state| {
        // Nothing can have changed since: hostcalls are refused while the guest allocates.
        let _ = view(state, buffer, |view| view.copy_to(start, memory));
    })
}

pub(super) fn status(cx: &mut Cx<'_>, buffer: u32, out_len: u32, out_flags: u32) -> HostcallResult {
    let len = view(cx.data(), buffer_type(buffer)?, |view| view.len())?;
    write_u32(cx, out_len, len as u32)?;
    write_u32(cx, out_flags, 0)
}

pub(super) fn set(cx: &mut Cx<'_>, buffer: u32, start: u32, size: u32, value: u32, len: u32) -> HostcallResult {
    let buffer = buffer_type(buffer)?;
    let Some((kind, direction)) = stream_buffer(buffer) else {
        // Those that are not of a stream cannot be changed.
        return Err(view(cx.data(), buffer, |_| Status::BadArgument)?.into());
    };
    let (memory, state) = parts(cx)?;
    let value = memory::read(memory, value, len)?;
    let (stream, index) =
        state.context().stream().filter(|(stream, _)| stream.kind() == kind).ok_or(Status::NotFound)?;
    // What has come to its end, perhaps in a pause, can be read only.
    if stream.is_logging() {
        return Err(Status::BadArgument.into());
    }
    let lane = stream.lane(index, direction);
    if !lane.shown.get() {
        return Err(Status::NotFound.into());
    }
    let mut body = lane.body.borrow_mut();
    Ok(body.set(start as usize, size as usize, value)?)
}

/// ABI 0.1.0: the configuration that is being applied.
pub(super) fn get_configuration(cx: &mut Cx<'_>, out_value: u32, out_len: u32) -> HostcallResult {
    let plugin = cx.data().context().plugin().clone();
    let config = plugin.config();
    let configuration = if cx.data().configuring { &config.configuration } else { &config.vm_configuration };
    super::give(cx, configuration, out_value, out_len)
}
