// SPDX-License-Identifier: Apache-2.0
//! Steps on the course of streams and of the script itself.

use std::mem;

use proxy_wasm::hostcalls;
use proxy_wasm::types::{GrpcStatusCode, StreamType};
use serde_json::{json, Value};

use super::args::{borrowed, Args};
use super::{asks, does, may_ask, Act};
use crate::report;
use crate::state::shared;

pub fn parse(op: &str, args: &mut Args) -> Result<Option<Act>, String> {
    match op {
        "local" => local(args),
        "pause" => does(|run| {
            run.pause = true;
            Ok(())
        }),
        "answer" => {
            let answer = args.bool()?;
            does(move |run| {
                run.answer = answer;
                Ok(())
            })
        }
        "resume" => {
            let stream = args.stream()?;
            does(move |_| {
                match stream {
                    StreamType::HttpRequest => hostcalls::resume_http_request(),
                    StreamType::HttpResponse => hostcalls::resume_http_response(),
                    StreamType::Downstream => hostcalls::resume_downstream(),
                    _ => hostcalls::resume_upstream(),
                }
                .unwrap();
                Ok(())
            })
        }
        "reset" => {
            let stream = args.stream()?;
            does(move |_| {
                match stream {
                    StreamType::HttpRequest => hostcalls::reset_http_request(),
                    StreamType::HttpResponse => hostcalls::reset_http_response(),
                    StreamType::Downstream => hostcalls::close_downstream(),
                    _ => hostcalls::close_upstream(),
                }
                .unwrap();
                Ok(())
            })
        }
        "if_end" | "unless_end" => {
            let (wanted, steps) = (op == "if_end", args.steps()?);
            does(move |run| {
                if run.end == wanted {
                    run.steps(&steps);
                }
                Ok(())
            })
        }
        "nth" => {
            let (nth, steps) = (args.number()?, args.steps()?);
            does(move |run| {
                if run.state.runs[run.callback as usize] == nth.u32(run)? {
                    run.steps(&steps);
                }
                Ok(())
            })
        }
        "repeat" => {
            let (times, steps) = (args.number()?, args.steps()?);
            does(move |run| {
                for _ in 0..times.u32(run)? {
                    run.steps(&steps);
                }
                Ok(())
            })
        }
        "quietly" => {
            let steps = args.steps()?;
            does(move |run| {
                let quiet = mem::replace(&mut run.quiet, true);
                run.steps(&steps);
                run.quiet = quiet;
                Ok(())
            })
        }
        _ => contexts(op, args),
    }
}

fn local(args: &mut Args) -> Result<Option<Act>, String> {
    let (status, headers, body) = (args.number()?, args.pairs()?, args.optional_text()?);
    let grpc_status = args.optional_number()?;
    does(move |run| {
        let body = body.as_ref().map(|body| body.bytes(run));
        let Some(grpc_status) = &grpc_status else {
            let headers = headers.strs(run)?;
            let status = status.u32(run)?;
            hostcalls::send_http_response(status, borrowed(&headers), body.as_deref()).unwrap();
            return Ok(());
        };
        let grpc_status = grpc_code(grpc_status.u32(run)?)?;
        let message = String::from_utf8(body.unwrap_or_default()).map_err(|_| "the message is not UTF-8")?;
        let message = Some(message.as_str()).filter(|message| !message.is_empty());
        hostcalls::send_grpc_response(grpc_status, message, borrowed(&headers.bytes(run)?)).unwrap();
        Ok(())
    })
}

fn grpc_code(code: u32) -> Result<GrpcStatusCode, String> {
    use GrpcStatusCode::*;
    let codes = [
        Ok,
        Cancelled,
        Unknown,
        InvalidArgument,
        DeadlineExceeded,
        NotFound,
        AlreadyExists,
        PermissionDenied,
        ResourceExhausted,
        FailedPrecondition,
        Aborted,
        OutOfRange,
        Unimplemented,
        Internal,
        Unavailable,
        DataLoss,
        Unauthenticated,
    ];
    codes.get(code as usize).copied().ok_or_else(|| format!("{code} is no gRPC status"))
}

fn contexts(op: &str, args: &mut Args) -> Result<Option<Act>, String> {
    match op {
        "park" => does(|run| {
            shared(|shared| shared.parked.push(run.state.id));
            Ok(())
        }),
        "each_parked" => {
            let steps = args.steps()?;
            may_ask(move |run| {
                let mut failed = vec![];
                for id in shared(|shared| mem::take(&mut shared.parked)) {
                    match hostcalls::set_effective_context(id) {
                        Ok(()) => {
                            run.effective = Some(id);
                            run.steps(&steps);
                            run.effective = None;
                        }
                        Err(status) => failed.push(json!([id, report::error(status)])),
                    }
                }
                // So that the steps after this one are the root's again.
                let _ = hostcalls::set_effective_context(run.state.id);
                Ok(Some(Value::from(failed)).filter(|failed| failed != &json!([])))
            })
        }
        "effective" => {
            let context = args.number()?;
            may_ask(move |run| Ok(hostcalls::set_effective_context(context.u32(run)?).err().map(report::error)))
        }
        "contexts" => asks(|_| Ok(shared(|shared| json!(shared.streams)))),
        "tick" => {
            let period = args.number()?;
            does(move |run| {
                let period = std::time::Duration::from_millis(u64::from(period.u32(run)?));
                hostcalls::set_tick_period(period).unwrap();
                Ok(())
            })
        }
        "proxy_done" => asks(|_| {
            hostcalls::done().unwrap();
            Ok(Value::Bool(true))
        }),
        _ => Ok(None),
    }
}
