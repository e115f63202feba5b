// SPDX-License-Identifier: Apache-2.0
//! Metrics: the host's where it has them, otherwise the engine's.

use super::{parts, write_u32, write_u64, Cx, HostcallResult};
use crate::abi::{memory, MetricType, Status};

pub(super) fn define(cx: &mut Cx<'_>, kind: u32, name: u32, len: u32, out_id: u32) -> HostcallResult {
    let kind = MetricType::from_i32(kind as i32).ok_or(Status::BadArgument)?;
    let (memory, state) = parts(cx)?;
    let name = memory::read(memory, name, len)?;
    let id = match state.services.host.metrics() {
        Some(metrics) => metrics.define(kind, name)?,
        None => state.services.engine.metrics.define(kind, name)?,
    };
    write_u32(cx, out_id, id)
}

pub(super) fn increment(cx: &mut Cx<'_>, id: u32, delta: i64) -> HostcallResult {
    let services = &cx.data().services;
    match services.host.metrics() {
        Some(metrics) => metrics.increment(id, delta)?,
        None => services.engine.metrics.increment(id, delta)?,
    }
    Ok(())
}

pub(super) fn record(cx: &mut Cx<'_>, id: u32, value: u64) -> HostcallResult {
    let services = &cx.data().services;
    match services.host.metrics() {
        Some(metrics) => metrics.record(id, value)?,
        None => services.engine.metrics.record(id, value)?,
    }
    Ok(())
}

pub(super) fn get(cx: &mut Cx<'_>, id: u32, out_value: u32) -> HostcallResult {
    let services = &cx.data().services;
    let value = match services.host.metrics() {
        Some(metrics) => metrics.get(id)?,
        None => services.engine.metrics.get(id)?,
    };
    write_u64(cx, out_value, value)
}
