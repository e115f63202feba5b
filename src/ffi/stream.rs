// SPDX-License-Identifier: Apache-2.0
//! Section: stream.

use super::boundary::{boundary, boundary_void, Failure, Outcome};
use super::chain::proxywasm_chain;
use super::convert::{chunks, give, handle, out, slice, struct_size, take, write_sized};
use super::types::*;
use super::worker::Owner;
use crate::abi::PeerType;
use crate::body::Chunk;
use crate::host::StreamData;
use crate::instance::Instance;
use crate::plugin::FailurePolicy;
use crate::stream::{Action, Direction, StreamHandle, StreamKind};
use libc::c_void;
use std::cell::RefCell;
use std::mem::size_of;
use std::rc::Rc;

/// One HTTP exchange or TCP connection on a chain. Owned, the worker's thread.
pub struct proxywasm_stream {
    owner: Rc<Owner>,
    stream: StreamHandle,
    /// What `proxywasm_outcome.body` of the last phase points to.
    slices: RefCell<Vec<proxywasm_slice>>,
}

/// What a phase would let pass if no plugin were there; used where a fault meets plugins that may all be passed by.
#[derive(Default)]
struct Offer<'a> {
    headers: bool,
    chunks: &'a [Chunk],
    trailers: bool,
    end: bool,
}

const BLANK: proxywasm_outcome = proxywasm_outcome {
    struct_size: size_of::<proxywasm_outcome>(),
    action: proxywasm_action::CLOSE as i32,
    ready: 0,
    body: std::ptr::null(),
    body_count: 0,
    body_len: 0,
};

fn direction(number: i32) -> Outcome<Direction> {
    match number {
        0 => Ok(Direction::Request),
        1 => Ok(Direction::Response),
        _ => Err(Failure::invalid(format!("{number} is no direction"))),
    }
}

fn ready_bits(headers: bool, body: bool, trailers: bool, end: bool) -> u32 {
    let bit = |on: bool, bit: proxywasm_ready| if on { bit as u32 } else { 0 };
    bit(headers, proxywasm_ready::HEADERS)
        | bit(body, proxywasm_ready::BODY)
        | bit(trailers, proxywasm_ready::TRAILERS)
        | bit(end, proxywasm_ready::END_OF_STREAM)
}

impl proxywasm_stream {
    /// Runs a phase and writes its outcome, whatever happens.
    fn phase(
        stream: *const Self,
        way: Direction,
        offer: Offer<'_>,
        out_outcome: *mut proxywasm_outcome,
        run: impl FnOnce(&StreamHandle) -> crate::error::Result<crate::stream::Outcome>,
    ) -> Outcome {
        struct_size(out_outcome, "out_outcome")?;
        let given = match handle(stream, "stream") {
            Ok(given) => given,
            Err(failure) => {
                // The answer to a caller who gave no stream: nothing passes.
                write_sized(out_outcome, &BLANK, "out_outcome")?;
                return Err(failure);
            }
        };
        let result = given.owner.guard(|| Ok(run(&given.stream)?));
        let outcome = match &result {
            Ok(outcome) => given.describe(way, outcome),
            Err(failure) => given.fall_back(failure, &offer),
        };
        write_sized(out_outcome, &outcome, "out_outcome")?;
        match result?.failure {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    fn describe(&self, way: Direction, outcome: &crate::stream::Outcome) -> proxywasm_outcome {
        let action = match outcome.action {
            Action::Continue => proxywasm_action::CONTINUE,
            Action::Pause => proxywasm_action::PAUSE,
            Action::PauseAndBuffer => proxywasm_action::PAUSE_AND_BUFFER,
            Action::LocalResponse => proxywasm_action::LOCAL_RESPONSE,
            Action::Close => proxywasm_action::CLOSE,
        };
        let forward = self.stream.forward(way);
        let body = !forward.is_empty();
        let ready = ready_bits(outcome.headers, body, outcome.trailers, outcome.end_of_stream);
        let blank = proxywasm_outcome { action: action as i32, ready, ..BLANK };
        if !body {
            return blank;
        }
        let mut slices = self.slices.borrow_mut();
        slices.clear();
        slices.extend(forward.slices().map(slice));
        proxywasm_outcome { body: slices.as_ptr(), body_count: slices.len(), body_len: forward.len(), ..blank }
    }

    /// The outcome of a phase that could not be run.
    fn fall_back(&self, failure: &Failure, offer: &Offer<'_>) -> proxywasm_outcome {
        let open = |instance: &Rc<Instance>| instance.plugin.config().failure_policy == FailurePolicy::Open;
        match failure.result {
            proxywasm_result::REENTRANT | proxywasm_result::BUSY | proxywasm_result::INVALID_ARGUMENT => {
                proxywasm_outcome { action: proxywasm_action::PAUSE as i32, ..BLANK }
            }
            // Nothing of the stream may be looked at from here.
            proxywasm_result::WRONG_THREAD => BLANK,
            _ if self.stream.chain().instances.iter().all(open) => {
                let mut slices = self.slices.borrow_mut();
                slices.clear();
                slices.extend(offer.chunks.iter().map(|chunk| slice(&chunk.bytes)));
                proxywasm_outcome {
                    action: proxywasm_action::CONTINUE as i32,
                    ready: ready_bits(offer.headers, !slices.is_empty(), offer.trailers, offer.end),
                    body: slices.as_ptr(),
                    body_count: slices.len(),
                    body_len: slices.iter().map(|slice| slice.len).sum(),
                    ..BLANK
                }
            }
            _ => BLANK,
        }
    }

    fn headers(stream: *const Self, way: Direction, count: u32, end: bool, out: *mut proxywasm_outcome) -> i32 {
        let offer = Offer { headers: true, end, ..Offer::default() };
        boundary(|| Self::phase(stream, way, offer, out, |core| core.on_headers(way, count, end)))
    }

    fn body(
        stream: *const Self,
        way: Direction,
        given: *const proxywasm_chunk,
        count: usize,
        end: bool,
        out: *mut proxywasm_outcome,
        run: impl FnOnce(&StreamHandle, &[Chunk]) -> crate::error::Result<crate::stream::Outcome>,
    ) -> i32 {
        boundary(|| {
            write_sized(out, &BLANK, "out_outcome")?;
            handle(stream, "stream")?.owner.check_thread()?;
            let taken = chunks(given, count)?;
            let offer = Offer { chunks: &taken.chunks, end, ..Offer::default() };
            let result = Self::phase(stream, way, offer, out, |core| run(core, &taken.chunks));
            if result.as_ref().is_err_and(|failure| refused(failure.result)) {
                taken.give_back();
            }
            result
        })
    }

    fn trailers(stream: *const Self, way: Direction, count: u32, out: *mut proxywasm_outcome) -> i32 {
        let offer = Offer { trailers: true, end: true, ..Offer::default() };
        boundary(|| Self::phase(stream, way, offer, out, |core| core.on_trailers(way, count)))
    }

    /// Runs the end of a stream and frees it.
    fn end(stream: *mut Self, run: fn(&StreamHandle) -> crate::error::Result<()>) -> Outcome {
        // SAFETY: the caller passes NULL or a handle that it has not freed.
        let Some(given) = (unsafe { stream.as_ref() }) else { return Ok(()) };
        let owner = given.owner.clone();
        owner.check_thread()?;
        let ended = if owner.is_poisoned() { Ok(()) } else { owner.guard(|| Ok(run(&given.stream)?)) };
        if ended.as_ref().is_err_and(|failure| failure.result == proxywasm_result::REENTRANT) {
            return ended;
        }
        take(stream).map_or(Ok(()), |stream| owner.dispose(stream))?;
        ended
    }

    fn simple(stream: *const Self, run: &dyn Fn(&StreamHandle) -> crate::error::Result<()>) -> Outcome {
        let given = handle(stream, "stream")?;
        given.owner.guard(|| Ok(run(&given.stream)?))
    }
}

/// Results with which a chunk is not taken.
fn refused(result: proxywasm_result) -> bool {
    use proxywasm_result::*;
    matches!(result, BUSY | REENTRANT | INVALID_ARGUMENT | WRONG_THREAD | UNSUPPORTED)
}

/// Begins a stream on a chain; `kind` is a `proxywasm_stream_kind`, `stream_data` is passed to the host's callbacks. No guest runs yet:
/// contexts are made when the request headers or the connection come, as in Envoy.
///
/// Errors: INVALID_ARGUMENT, WRONG_THREAD, REENTRANT, POISONED.
#[no_mangle]
pub extern "C" fn proxywasm_stream_new(
    chain: *const proxywasm_chain,
    kind: i32,
    stream_data: *mut c_void,
    out_stream: *mut *mut proxywasm_stream,
) -> i32 {
    boundary(|| {
        let chain = handle(chain, "chain")?;
        let kind = match kind {
            0 => StreamKind::Http,
            1 => StreamKind::Tcp,
            _ => return Err(Failure::invalid(format!("{kind} is no stream kind"))),
        };
        let place = out(out_stream, "out_stream")?;
        let data = StreamData(stream_data as usize);
        let stream = chain.owner.with(|core| Ok(core.stream(&chain.chain, kind, data)?))?;
        give(&place, proxywasm_stream { owner: chain.owner.clone(), stream, slices: RefCell::default() });
        Ok(())
    })
}

/// The request headers have come (`proxy_on_request_headers`, request order). `count` is their number, pseudo headers included;
/// `end_of_stream` says that neither body nor trailers follow.
///
/// Errors: INVALID_ARGUMENT (also: a second time), UNSUPPORTED (a TCP stream), WRONG_THREAD, REENTRANT, POISONED, PANIC, GUEST_TRAP,
/// GUEST_TIMEOUT, GUEST_LIMIT, GUEST_UNAVAILABLE. With the last four the plugin's failure policy has been carried out: go by the action.
#[no_mangle]
pub extern "C" fn proxywasm_stream_on_request_headers(
    stream: *const proxywasm_stream,
    count: u32,
    end_of_stream: bool,
    out_outcome: *mut proxywasm_outcome,
) -> i32 {
    proxywasm_stream::headers(stream, Direction::Request, count, end_of_stream, out_outcome)
}

/// A part of the request body has come (`proxy_on_request_body`, request order), or with `end_of_stream` its end; `count` chunks, which
/// may be none. Each plugin sees the new bytes, or, after it answered StopIterationAndBuffer, everything since. What may be
/// forwarded is in the outcome.
///
/// Errors: as for the headers, and BUSY. With BUSY, REENTRANT, INVALID_ARGUMENT, UNSUPPORTED and WRONG_THREAD no chunk was taken.
#[no_mangle]
pub extern "C" fn proxywasm_stream_on_request_body(
    stream: *const proxywasm_stream,
    chunks: *const proxywasm_chunk,
    count: usize,
    end_of_stream: bool,
    out_outcome: *mut proxywasm_outcome,
) -> i32 {
    let way = Direction::Request;
    proxywasm_stream::body(stream, way, chunks, count, end_of_stream, out_outcome, |core, chunks| {
        core.on_body(way, chunks, end_of_stream)
    })
}

/// The request trailers have come (`proxy_on_request_trailers`, request order); they end the request. `count` is their number.
///
/// Errors: as for the headers.
#[no_mangle]
pub extern "C" fn proxywasm_stream_on_request_trailers(
    stream: *const proxywasm_stream,
    count: u32,
    out_outcome: *mut proxywasm_outcome,
) -> i32 {
    proxywasm_stream::trailers(stream, Direction::Request, count, out_outcome)
}

/// The response headers have come (`proxy_on_response_headers`, reverse order), those of the upstream or of a local response. Plugins that
/// did not see the request are passed by, as in Envoy.
///
/// Errors: as for the request headers.
#[no_mangle]
pub extern "C" fn proxywasm_stream_on_response_headers(
    stream: *const proxywasm_stream,
    count: u32,
    end_of_stream: bool,
    out_outcome: *mut proxywasm_outcome,
) -> i32 {
    proxywasm_stream::headers(stream, Direction::Response, count, end_of_stream, out_outcome)
}

/// A part of the response body has come (`proxy_on_response_body`, reverse order). As for the request body.
///
/// Errors: as for the request body.
#[no_mangle]
pub extern "C" fn proxywasm_stream_on_response_body(
    stream: *const proxywasm_stream,
    chunks: *const proxywasm_chunk,
    count: usize,
    end_of_stream: bool,
    out_outcome: *mut proxywasm_outcome,
) -> i32 {
    let way = Direction::Response;
    proxywasm_stream::body(stream, way, chunks, count, end_of_stream, out_outcome, |core, chunks| {
        core.on_body(way, chunks, end_of_stream)
    })
}

/// The response trailers have come (`proxy_on_response_trailers`, reverse order); they end the response. `count` is their number.
///
/// Errors: as for the request headers.
#[no_mangle]
pub extern "C" fn proxywasm_stream_on_response_trailers(
    stream: *const proxywasm_stream,
    count: u32,
    out_outcome: *mut proxywasm_outcome,
) -> i32 {
    proxywasm_stream::trailers(stream, Direction::Response, count, out_outcome)
}

/// HTTP/2 METADATA has come in a direction (`proxy_on_request_metadata`, `proxy_on_response_metadata`). Plugins are told and cannot stop it.
///
/// Errors: as for the request headers.
#[no_mangle]
pub extern "C" fn proxywasm_stream_on_metadata(
    stream: *const proxywasm_stream,
    way: i32,
    count: u32,
    out_outcome: *mut proxywasm_outcome,
) -> i32 {
    boundary(|| {
        let way = direction(way)?;
        proxywasm_stream::phase(stream, way, Offer::default(), out_outcome, |core| core.on_metadata(way, count))
    })
}

/// A TCP connection has been accepted (`proxy_on_new_connection`). HEADERS in `ready` means: connect upstream.
///
/// Errors: as for the request headers; UNSUPPORTED for an HTTP stream.
#[no_mangle]
pub extern "C" fn proxywasm_stream_on_new_connection(
    stream: *const proxywasm_stream,
    out_outcome: *mut proxywasm_outcome,
) -> i32 {
    let offer = Offer { headers: true, ..Offer::default() };
    boundary(|| {
        proxywasm_stream::phase(stream, Direction::Request, offer, out_outcome, StreamHandle::on_new_connection)
    })
}

/// Bytes have come from the client of a TCP connection (`proxy_on_downstream_data`), or with `end_of_stream` their end. A plugin that
/// pauses sees them again together with what follows.
///
/// Errors: as for the request body.
#[no_mangle]
pub extern "C" fn proxywasm_stream_on_downstream_data(
    stream: *const proxywasm_stream,
    chunks: *const proxywasm_chunk,
    count: usize,
    end_of_stream: bool,
    out_outcome: *mut proxywasm_outcome,
) -> i32 {
    let way = Direction::Request;
    proxywasm_stream::body(stream, way, chunks, count, end_of_stream, out_outcome, |core, chunks| {
        core.on_data(way, chunks, end_of_stream)
    })
}

/// Bytes have come from the upstream of a TCP connection (`proxy_on_upstream_data`, reverse order). As for downstream data.
///
/// Errors: as for the request body.
#[no_mangle]
pub extern "C" fn proxywasm_stream_on_upstream_data(
    stream: *const proxywasm_stream,
    chunks: *const proxywasm_chunk,
    count: usize,
    end_of_stream: bool,
    out_outcome: *mut proxywasm_outcome,
) -> i32 {
    let way = Direction::Response;
    proxywasm_stream::body(stream, way, chunks, count, end_of_stream, out_outcome, |core, chunks| {
        core.on_data(way, chunks, end_of_stream)
    })
}

/// One end of a TCP connection was closed: REQUEST the client's (`proxy_on_downstream_connection_close`), RESPONSE the upstream's
/// (`proxy_on_upstream_connection_close`). `peer` is a `proxywasm_peer`.
///
/// Errors: INVALID_ARGUMENT, UNSUPPORTED, WRONG_THREAD, REENTRANT, POISONED, PANIC, GUEST_TRAP, GUEST_TIMEOUT, GUEST_LIMIT.
#[no_mangle]
pub extern "C" fn proxywasm_stream_on_close(stream: *const proxywasm_stream, way: i32, peer: i32) -> i32 {
    boundary(|| {
        let way = direction(way)?;
        let peer = PeerType::from_i32(peer).ok_or_else(|| Failure::invalid(format!("{peer} is no peer")))?;
        proxywasm_stream::simple(stream, &|core| core.on_close(way, peer))
    })
}

/// Goes on with a direction after `proxywasm_host.resume_stream`, from the plugin that had paused. The outcome may hold headers, body and
/// trailers at once. Without a plugin that resumed, nothing is ready and the action is what it was.
///
/// Errors: as for the request headers.
#[no_mangle]
pub extern "C" fn proxywasm_stream_resume(
    stream: *const proxywasm_stream,
    way: i32,
    out_outcome: *mut proxywasm_outcome,
) -> i32 {
    boundary(|| {
        let way = direction(way)?;
        proxywasm_stream::phase(stream, way, Offer::default(), out_outcome, |core| core.resume(way))
    })
}

/// The stream is complete: plugins log (`proxy_on_log`). Header maps can still be read. Envoy's order is log, done, free for HTTP and done,
/// log, free for TCP.
///
/// Errors: INVALID_ARGUMENT, WRONG_THREAD, REENTRANT, POISONED, PANIC, GUEST_TRAP, GUEST_TIMEOUT, GUEST_LIMIT, GUEST_UNAVAILABLE.
#[no_mangle]
pub extern "C" fn proxywasm_stream_log(stream: *const proxywasm_stream) -> i32 {
    boundary(|| proxywasm_stream::simple(stream, &StreamHandle::log))
}

/// Nothing more will come (`proxy_on_done`). A plugin's answer does not count for streams, as in Envoy. A second call does nothing.
///
/// Errors: INVALID_ARGUMENT, WRONG_THREAD, REENTRANT, POISONED, PANIC, GUEST_TRAP, GUEST_TIMEOUT, GUEST_LIMIT.
#[no_mangle]
pub extern "C" fn proxywasm_stream_done(stream: *const proxywasm_stream) -> i32 {
    boundary(|| proxywasm_stream::simple(stream, &StreamHandle::done))
}

/// Ends and frees a stream: done, if that was not called, then `proxy_on_delete`. Its callouts go on: they belong to the root context; those
/// of VMs of its own are cancelled. Inside a callback of the worker, or on another thread, nothing happens and the handle stays good. NULL
/// does nothing.
#[no_mangle]
pub extern "C" fn proxywasm_stream_free(stream: *mut proxywasm_stream) {
    boundary_void(|| proxywasm_stream::end(stream, StreamHandle::finish));
}

/// `proxywasm_stream_log` and `proxywasm_stream_free` in one call, which costs less than the two: for a proxy that ends a stream when it has
/// logged. What a plugin asks of the stream while it logs (to close it, say) is past doing. TCP streams get done before they log, as in
/// Envoy.
///
/// Inside a callback of the worker, or on another thread, nothing happens and the handle stays good. NULL does nothing.
#[no_mangle]
pub extern "C" fn proxywasm_stream_complete(stream: *mut proxywasm_stream) {
    boundary_void(|| proxywasm_stream::end(stream, StreamHandle::complete));
}
