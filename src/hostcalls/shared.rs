// SPDX-License-Identifier: Apache-2.0
//! Shared data and shared queues: the host's where it has them, otherwise the engine's.

use super::{check_u32, give_value, parts, write_u32, Cx, HostcallResult};
use crate::abi::{memory, Status};
use crate::vm::VmState;

fn vm_id(state: &VmState) -> &[u8] {
    state.context().plugin().config().vm_id.as_bytes()
}

pub(super) fn get_data(
    cx: &mut Cx<'_>,
    key: u32,
    key_len: u32,
    out_value: u32,
    out_len: u32,
    out_cas: u32,
) -> HostcallResult {
    let mut cas = 0;
    give_value(cx, out_value, out_len, |memory, state, value| {
        let (vm_id, key) = (vm_id(state), memory::read(memory, key, key_len)?);
        cas = match state.services.host.shared_data() {
            Some(data) => data.get(vm_id, key, value)?,
            None => state.services.engine.shared_data.get(vm_id, key, value)?,
        };
        Ok(())
    })?;
    write_u32(cx, out_cas, cas)
}

pub(super) fn set_data(cx: &mut Cx<'_>, key: u32, key_len: u32, value: u32, len: u32, cas: u32) -> HostcallResult {
    let (memory, state) = parts(cx)?;
    let (key, value) = (memory::read(memory, key, key_len)?, memory::read(memory, value, len)?);
    let vm_id = vm_id(state);
    match state.services.host.shared_data() {
        Some(data) => data.set(vm_id, key, value, cas)?,
        None => state.services.engine.shared_data.set(vm_id, key, value, cas)?,
    }
    Ok(())
}

/// Whoever registers last is told of new items, but for a stream's own VM: what it replays was registered by the worker's, which goes on
/// being told.
pub(super) fn register_queue(cx: &mut Cx<'_>, name: u32, len: u32, out_token: u32) -> HostcallResult {
    check_u32(cx, out_token)?;
    let (memory, state) = parts(cx)?;
    let name = memory::read(memory, name, len)?;
    let root = state.context().root().ok_or(Status::InternalFailure)?;
    let (services, vm_id) = (&state.services, vm_id(state));
    let private = state.vm.upgrade().is_some_and(|vm| vm.is_private());
    let token = match services.host.queues() {
        Some(queues) if private => match queues.resolve(vm_id, name) {
            Err(Status::NotFound) => queues.register(vm_id, name)?,
            resolved => resolved?,
        },
        Some(queues) => {
            let token = queues.register(vm_id, name)?;
            services.own_host_queue(token, state.serial, root.id);
            token
        }
        None if private => services.engine.queues.open(vm_id, name)?,
        None => services.engine.queues.register(vm_id, name, services.queue_target(state.serial, root.id))?,
    };
    write_u32(cx, out_token, token)
}

/// No VM id means the plugin's own.
pub(super) fn resolve_queue(
    cx: &mut Cx<'_>,
    id: u32,
    id_len: u32,
    name: u32,
    len: u32,
    out_token: u32,
) -> HostcallResult {
    let (memory, state) = parts(cx)?;
    let given = memory::read(memory, id, id_len)?;
    let vm_id = if given.is_empty() { vm_id(state) } else { given };
    let name = memory::read(memory, name, len)?;
    let token = match state.services.host.queues() {
        Some(queues) => queues.resolve(vm_id, name)?,
        None => state.services.engine.queues.resolve(vm_id, name).ok_or(Status::NotFound)?,
    };
    write_u32(cx, out_token, token)
}

pub(super) fn dequeue(cx: &mut Cx<'_>, token: u32, out_value: u32, out_len: u32) -> HostcallResult {
    // An item that the guest could not be given would be lost.
    check_u32(cx, out_value)?;
    check_u32(cx, out_len)?;
    give_value(cx, out_value, out_len, |_, state, value| match state.services.host.queues() {
        Some(queues) => queues.dequeue(token, value),
        None => state.services.engine.queues.dequeue(token, value),
    })
}

pub(super) fn enqueue(cx: &mut Cx<'_>, token: u32, value: u32, len: u32) -> HostcallResult {
    let (memory, state) = parts(cx)?;
    let value = memory::read(memory, value, len)?;
    match state.services.host.queues() {
        Some(queues) => queues.enqueue(token, value)?,
        None => state.services.engine.queues.enqueue(token, value)?,
    }
    Ok(())
}
