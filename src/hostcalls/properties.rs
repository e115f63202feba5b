// SPDX-License-Identifier: Apache-2.0
//! Properties: what the library knows of the plugin, then what the host knows, then what plugins set.

use super::{give_value, parts, Cx, HostcallResult};
use crate::abi::{memory, Status};
use crate::vm::VmState;

/// A path is segments joined by NUL; SDKs differ in whether one ends it.
fn path(memory: &[u8], path: u32, len: u32) -> Result<&[u8], Status> {
    let path = memory::read(memory, path, len)?;
    Ok(path.strip_suffix(&[0]).unwrap_or(path))
}

pub(super) fn get(cx: &mut Cx<'_>, at: u32, len: u32, out_value: u32, out_len: u32) -> HostcallResult {
    give_value(cx, out_value, out_len, |memory, state, value| {
        let path = path(memory, at, len)?;
        if path.is_empty() {
            return Err(Status::SerializationFailure);
        }
        read(state, path, value)
    })
}

fn read(state: &VmState, path: &[u8], value: &mut Vec<u8>) -> Result<(), Status> {
    let config = state.context().plugin().config();
    let own = match path {
        b"plugin_name" => Some(&config.name),
        b"plugin_root_id" => Some(&config.root_id),
        b"plugin_vm_id" => Some(&config.vm_id),
        _ => None,
    };
    if let Some(own) = own {
        value.extend_from_slice(own.as_bytes());
        return Ok(());
    }
    match state.services.host.get_property(state.stream_data(), path, value) {
        Err(Status::NotFound | Status::Unimplemented) => {}
        answer => return answer,
    }
    value.clear();
    match state.context().stream() {
        Some((stream, _)) if stream.property(path, value) => Ok(()),
        _ => Err(Status::NotFound),
    }
}

pub(super) fn set(cx: &mut Cx<'_>, at: u32, len: u32, value: u32, value_len: u32) -> HostcallResult {
    let (memory, state) = parts(cx)?;
    let path = path(memory, at, len)?;
    let value = memory::read(memory, value, value_len)?;
    let (stream, _) = state.context().stream().ok_or(Status::NotFound)?;
    match state.services.host.set_property(stream.data(), path, value) {
        Err(Status::Unimplemented) if stream.set_property(path, value) => Ok(()),
        Err(Status::Unimplemented) => Err(Status::InternalFailure.into()),
        answer => Ok(answer?),
    }
}
