// SPDX-License-Identifier: Apache-2.0
//! Steps on what VMs share: data, queues and metrics.

use proxy_wasm::hostcalls;
use proxy_wasm::types::Status;
use serde_json::{json, Value};

use super::args::{Args, Number, Text};
use super::{asks, Act, Run};
use crate::report;
use crate::state::shared;

pub fn parse(op: &str, args: &mut Args) -> Result<Option<Act>, String> {
    match op {
        "shared_get" => {
            let key = args.text()?;
            asks(move |run| {
                let (value, cas) = hostcalls::get_shared_data(&key.str(run)?).unwrap();
                run.state.cas = cas.unwrap_or_default();
                Ok(json!([report::optional(value), cas]))
            })
        }
        "shared_set" => {
            let (key, value, cas) = (args.text()?, args.text()?, args.optional_number()?);
            asks(move |run| {
                let cas = cas.as_ref().map(|cas| cas.u32(run)).transpose()?;
                Ok(outcome(hostcalls::set_shared_data(&key.str(run)?, Some(&value.bytes(run)), cas)))
            })
        }
        "shared_add" => {
            let (key, times) = (args.text()?, args.number()?);
            asks(move |run| {
                let key = key.str(run)?;
                let mut mismatches = 0u64;
                for _ in 0..times.u32(run)? {
                    mismatches += add_one(&key)?;
                }
                Ok(Value::from(mismatches))
            })
        }
        _ => match op.split_once('_').map_or(op, |(subject, _)| subject) {
            "queue" => queue(op, args),
            "metric" => metric(op, args),
            _ => Ok(None),
        },
    }
}

/// Adds one to a number, and returns how often somebody else was faster.
fn add_one(key: &str) -> Result<u64, String> {
    let mut mismatches = 0;
    loop {
        let (value, cas) = hostcalls::get_shared_data(key).unwrap();
        // Without a number, two VMs could both begin: hosts compare it only if there is something.
        let cas = cas.or((mismatches == 0).then_some(u32::MAX));
        let number = String::from_utf8(value.unwrap_or_else(|| b"0".to_vec())).unwrap_or_default();
        let number: u64 = number.parse().map_err(|_| format!("{number:?} is no number"))?;
        match hostcalls::set_shared_data(key, Some((number + 1).to_string().as_bytes()), cas) {
            Ok(()) => return Ok(mismatches),
            Err(_) => mismatches += 1,
        }
    }
}

fn outcome(outcome: Result<(), Status>) -> Value {
    outcome.map_or_else(report::error, |()| Value::Bool(true))
}

fn queue(op: &str, args: &mut Args) -> Result<Option<Act>, String> {
    match op {
        "queue_register" => {
            let name = args.text()?;
            asks(move |run| {
                let name = name.str(run)?;
                let id = hostcalls::register_shared_queue(&name).unwrap();
                shared(|shared| shared.queues.insert(name, id));
                Ok(Value::from(id))
            })
        }
        "queue_resolve" => {
            let (vm_id, name) = (args.text()?, args.text()?);
            asks(move |run| {
                let name = name.str(run)?;
                let id = hostcalls::resolve_shared_queue(&vm_id.str(run)?, &name).unwrap();
                if let Some(id) = id {
                    shared(|shared| shared.queues.insert(name, id));
                }
                Ok(Value::from(id))
            })
        }
        "queue_push" => {
            let (queue, value) = (args.number()?, args.text()?);
            asks(move |run| {
                Ok(outcome(hostcalls::enqueue_shared_queue(queue_id(&queue, run)?, Some(&value.bytes(run)))))
            })
        }
        "queue_pop" => {
            let queue = args.number()?;
            asks(move |run| {
                Ok(match hostcalls::dequeue_shared_queue(queue_id(&queue, run)?) {
                    Ok(value) => report::optional(value),
                    Err(status) => report::error(status),
                })
            })
        }
        _ => Ok(None),
    }
}

fn queue_id(queue: &Number, run: &Run) -> Result<u32, String> {
    if let Number::Text(name) = queue {
        let name = name.str(run)?;
        if let Some(id) = shared(|shared| shared.queues.get(&name).copied()) {
            return Ok(id);
        }
    }
    queue.u32(run)
}

fn metric(op: &str, args: &mut Args) -> Result<Option<Act>, String> {
    match op {
        "metric" => {
            let (kind, name) = (args.metric()?, args.text()?);
            asks(move |run| {
                let name = name.str(run)?;
                let id = hostcalls::define_metric(kind, &name).unwrap();
                shared(|shared| shared.metrics.insert(name, id));
                Ok(Value::from(id))
            })
        }
        "metric_add" => {
            let (name, by) = (args.text()?, args.number()?);
            asks(move |run| Ok(outcome(hostcalls::increment_metric(metric_id(&name, run)?, by.i64(run)?))))
        }
        "metric_set" => {
            let (name, to) = (args.text()?, args.number()?);
            asks(move |run| Ok(outcome(hostcalls::record_metric(metric_id(&name, run)?, to.i64(run)? as u64))))
        }
        "metric_get" => {
            let name = args.text()?;
            asks(move |run| Ok(hostcalls::get_metric(metric_id(&name, run)?).map_or_else(report::error, Value::from)))
        }
        _ => Ok(None),
    }
}

fn metric_id(name: &Text, run: &Run) -> Result<u32, String> {
    let name = name.str(run)?;
    let id = shared(|shared| shared.metrics.get(&name).copied());
    id.ok_or_else(|| format!("no metric {name:?} is defined in this VM"))
}
