// SPDX-License-Identifier: Apache-2.0
//! Steps that call other services, and foreign functions.

use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::types::Status;
use serde_json::{json, Value};

use super::args::{borrowed, Args};
use super::{asks, may_ask, Act, Run};
use crate::report;
use crate::state::Pending;

const TIMEOUT_MS: i64 = 5000;

pub fn parse(op: &str, args: &mut Args) -> Result<Option<Act>, String> {
    match op {
        "call" => call(args),
        "grpc_call" => grpc_call(args),
        "grpc_stream" => grpc_stream(args),
        "grpc_send" => {
            let (message, end) = (args.text()?, args.bool()?);
            may_ask(move |run| {
                let message = message.bytes(run);
                let sent = hostcalls::send_grpc_stream_message(grpc_token(run)?, Some(&message), end);
                Ok(sent.err().map(report::error))
            })
        }
        "grpc_close" => may_ask(|run| Ok(hostcalls::close_grpc_stream(grpc_token(run)?).err().map(report::error))),
        "grpc_cancel" => may_ask(|run| Ok(hostcalls::cancel_grpc_stream(grpc_token(run)?).err().map(report::error))),
        "grpc_status" => asks(|_| {
            let (code, message) = hostcalls::get_grpc_status().unwrap();
            Ok(json!([code, report::bytes(message.unwrap_or_default().as_bytes())]))
        }),
        "foreign" => {
            let (name, argument) = (args.text()?, args.optional_text()?);
            asks(move |run| {
                let argument = argument.as_ref().map(|argument| argument.bytes(run));
                Ok(match hostcalls::call_foreign_function(&name.str(run)?, argument.as_deref()) {
                    Ok(value) => report::optional(value),
                    Err(status) => report::error(status),
                })
            })
        }
        _ => Ok(None),
    }
}

fn grpc_token(run: &Run) -> Result<u32, String> {
    run.state.grpc.ok_or_else(|| "this context has opened none".into())
}

fn call(args: &mut Args) -> Result<Option<Act>, String> {
    let mut call = args.object()?;
    let (upstream, headers) = (call.text("upstream")?, call.pairs("headers")?);
    let (body, trailers) = (call.optional_text("body")?, call.pairs("trailers")?);
    let (timeout, then) = (call.number("timeout_ms", TIMEOUT_MS)?, call.steps("then")?);
    call.finish()?;
    asks(move |run| {
        let token = hostcalls::dispatch_http_call(
            &upstream.str(run)?,
            borrowed(&headers.strs(run)?),
            body.as_ref().map(|body| body.bytes(run)).as_deref(),
            borrowed(&trailers.strs(run)?),
            Duration::from_millis(u64::from(timeout.u32(run)?)),
        );
        Ok(begun(run, token, || Pending { then: then.clone(), ..Pending::default() }))
    })
}

fn grpc_call(args: &mut Args) -> Result<Option<Act>, String> {
    let mut call = args.object()?;
    let (upstream, service, method) = (call.text("upstream")?, call.text("service")?, call.text("method")?);
    let (metadata, message) = (call.pairs("metadata")?, call.optional_text("message")?);
    let (timeout, then) = (call.number("timeout_ms", TIMEOUT_MS)?, call.steps("then")?);
    call.finish()?;
    asks(move |run| {
        let token = hostcalls::dispatch_grpc_call(
            &upstream.str(run)?,
            &service.str(run)?,
            &method.str(run)?,
            borrowed(&metadata.bytes(run)?),
            message.as_ref().map(|message| message.bytes(run)).as_deref(),
            Duration::from_millis(u64::from(timeout.u32(run)?)),
        );
        run.state.grpc = token.ok().or(run.state.grpc);
        Ok(begun(run, token, || Pending { then: then.clone(), ..Pending::default() }))
    })
}

fn grpc_stream(args: &mut Args) -> Result<Option<Act>, String> {
    let mut call = args.object()?;
    let (upstream, service, method) = (call.text("upstream")?, call.text("service")?, call.text("method")?);
    let (metadata, initial, then) = (call.pairs("metadata")?, call.steps("initial")?, call.steps("then")?);
    let (trailing, closed) = (call.steps("trailing")?, call.steps("closed")?);
    call.finish()?;
    asks(move |run| {
        let token = hostcalls::open_grpc_stream(
            &upstream.str(run)?,
            &service.str(run)?,
            &method.str(run)?,
            borrowed(&metadata.bytes(run)?),
        );
        run.state.grpc = token.ok().or(run.state.grpc);
        Ok(begun(run, token, || Pending {
            initial: initial.clone(),
            then: then.clone(),
            trailing: trailing.clone(),
            closed: closed.clone(),
        }))
    })
}

fn begun(run: &mut Run, token: Result<u32, Status>, pending: impl Fn() -> Pending) -> Value {
    match token {
        Ok(token) => {
            run.state.pending.insert(token, pending());
            Value::from(token)
        }
        Err(status) => report::error(status),
    }
}
