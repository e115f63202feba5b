// SPDX-License-Identifier: Apache-2.0
//! Log, clock, ticks, and which context is meant.

use super::{parts, write_u32, write_u64, Cx, HostcallResult};
use crate::abi::{memory, LogLevel, Status};
use crate::context::Context;
use crate::deferred::Deferred;

pub(super) fn log(cx: &mut Cx<'_>, level: u32, text: u32, len: u32) -> HostcallResult {
    let level = LogLevel::from_i32(level as i32).ok_or(Status::BadArgument)?;
    let (memory, state) = parts(cx)?;
    let text = memory::read(memory, text, len)?;
    let context = state.context();
    state.services.log(context.plugin(), state.stream_data(), context.id(), level, text);
    Ok(())
}

pub(super) fn get_log_level(cx: &mut Cx<'_>, out_level: u32) -> HostcallResult {
    let level = cx.data().services.host.log_level();
    write_u32(cx, out_level, level as u32)
}

pub(super) fn get_current_time(cx: &mut Cx<'_>, out_time: u32) -> HostcallResult {
    let now = cx.data().services.now_realtime_ns();
    write_u64(cx, out_time, now)
}

/// The timer is the root context's, also when a stream context asks.
pub(super) fn set_tick_period(cx: &mut Cx<'_>, period_ms: u32) -> HostcallResult {
    let state = cx.data();
    if let Some(root) = state.context().root() {
        state.services.set_ticks(&root.vm, root.id, u64::from(period_ms) * 1_000_000);
    }
    Ok(())
}

/// 0 means the context of the callback again.
pub(super) fn set_effective_context(cx: &mut Cx<'_>, context: u32) -> HostcallResult {
    let state = cx.data_mut();
    state.effective = match context {
        0 => None,
        id => Some(state.contexts.get(&id).ok_or(Status::BadArgument)?.clone()),
    };
    Ok(())
}

/// Ends a root context whose `proxy_on_done` returned false.
pub(super) fn done(cx: &mut Cx<'_>) -> HostcallResult {
    let state = cx.data_mut();
    match state.context().clone() {
        Context::Root(root) if root.pending_done.take() => {
            state.deferred.push(Deferred::Done(root));
            Ok(())
        }
        _ => Err(Status::NotFound.into()),
    }
}
