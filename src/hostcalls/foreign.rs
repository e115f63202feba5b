// SPDX-License-Identifier: Apache-2.0
//! Foreign functions: those of the engine's registry first, then the host's.

use super::{give, parts, Cx, HostcallResult};
use crate::abi::memory;

/// What the function gave reaches the guest also when it failed; a guest that wants no result gives NULL for its place.
pub(super) fn call(
    cx: &mut Cx<'_>,
    name: u32,
    name_len: u32,
    argument: u32,
    argument_len: u32,
    out_result: u32,
    out_len: u32,
) -> HostcallResult {
    let mut result = cx.data().value.take();
    result.clear();
    let status = {
        let (memory, state) = parts(cx)?;
        let (name, argument) = (memory::read(memory, name, name_len)?, memory::read(memory, argument, argument_len)?);
        match state.services.engine.foreign.get(name) {
            Some(function) => function(argument, &mut result),
            None => state.services.host.call_foreign_function(state.stream_data(), name, argument, &mut result),
        }
    };
    let dropped = out_result == 0 || out_len == 0 || (status.is_err() && result.is_empty());
    let given = if dropped { Ok(()) } else { give(cx, &result, out_result, out_len) };
    cx.data().value.replace(result);
    given?;
    Ok(status?)
}
