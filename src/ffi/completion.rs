// SPDX-License-Identifier: Apache-2.0
//! Section: completions.

use super::boundary::{boundary, Outcome};
use super::convert::{borrowed, bytes, handle, pair_list, read_sized};
use super::types::*;
use super::worker::proxywasm_worker;
use crate::callout::HttpResponse;
use crate::token::Token;
use crate::worker::Worker;

/// Runs a completion on the worker's thread.
fn complete(worker: *const proxywasm_worker, run: impl FnOnce(&Worker) -> Outcome) -> i32 {
    boundary(|| handle(worker, "worker")?.0.with(run))
}

/// Delivers the answer to an HTTP call (`proxy_on_http_call_response`). `response` NULL means that the call failed: refused, reset, timed
/// out. Read before this returns. Allowed inside callbacks, also in `http_call` itself: then the guest is called when the outer call returns.
///
/// Errors: INVALID_ARGUMENT, ABI_MISMATCH, NOT_FOUND (a stale token), WRONG_THREAD, POISONED, PANIC, GUEST_TRAP, GUEST_TIMEOUT, GUEST_LIMIT.
#[no_mangle]
pub extern "C" fn proxywasm_http_call_complete(
    worker: *const proxywasm_worker,
    token: proxywasm_token,
    response: *const proxywasm_http_response,
) -> i32 {
    complete(worker, |core| {
        let response = if response.is_null() {
            None
        } else {
            let given = read_sized(response, "response")?;
            Some(HttpResponse {
                headers: pair_list(given.headers, given.header_count, "headers")?,
                body: borrowed(given.body, given.body_count, "body")?,
                trailers: pair_list(given.trailers, given.trailer_count, "trailers")?,
                failed: given.failed != 0,
            })
        };
        Ok(core.http_call_complete(Token(token), response)?)
    })
}

/// Delivers the initial metadata of a gRPC stream (`proxy_on_grpc_receive_initial_metadata`). Allowed inside callbacks.
///
/// Errors: as for `proxywasm_http_call_complete`.
#[no_mangle]
pub extern "C" fn proxywasm_grpc_initial_metadata(
    worker: *const proxywasm_worker,
    token: proxywasm_token,
    metadata: *const proxywasm_pair,
    count: usize,
) -> i32 {
    complete(worker, |core| {
        let metadata = pair_list(metadata, count, "metadata")?;
        Ok(core.grpc_initial_metadata(Token(token), metadata)?)
    })
}

/// Delivers a message of a gRPC stream, or the answer of a unary call, which ends it (`proxy_on_grpc_receive`). `slices` are the message's
/// parts in order. Allowed inside callbacks.
///
/// Errors: as for `proxywasm_http_call_complete`.
#[no_mangle]
pub extern "C" fn proxywasm_grpc_message(
    worker: *const proxywasm_worker,
    token: proxywasm_token,
    slices: *const proxywasm_slice,
    count: usize,
) -> i32 {
    complete(worker, |core| {
        let message = borrowed(slices, count, "slices")?;
        Ok(core.grpc_message(Token(token), message)?)
    })
}

/// Delivers the trailing metadata of a gRPC stream (`proxy_on_grpc_receive_trailing_metadata`). Allowed inside callbacks.
///
/// Errors: as for `proxywasm_http_call_complete`.
#[no_mangle]
pub extern "C" fn proxywasm_grpc_trailing_metadata(
    worker: *const proxywasm_worker,
    token: proxywasm_token,
    metadata: *const proxywasm_pair,
    count: usize,
) -> i32 {
    complete(worker, |core| {
        let metadata = pair_list(metadata, count, "metadata")?;
        Ok(core.grpc_trailing_metadata(Token(token), metadata)?)
    })
}

/// Ends a gRPC stream, or a unary call that failed (`proxy_on_grpc_close`). `status` is the gRPC status, `message` its text, which
/// `proxy_get_status` gives to the plugin. Allowed inside callbacks.
///
/// Errors: as for `proxywasm_http_call_complete`.
#[no_mangle]
pub extern "C" fn proxywasm_grpc_close(
    worker: *const proxywasm_worker,
    token: proxywasm_token,
    status: u32,
    message: proxywasm_slice,
) -> i32 {
    complete(worker, |core| {
        let message = bytes(message, "message")?;
        Ok(core.grpc_close(Token(token), status, message)?)
    })
}
