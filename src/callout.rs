// SPDX-License-Identifier: Apache-2.0
//! Answers to HTTP and gRPC calls, on their way from the host to the root context that asked.

use crate::abi::pairs::PairList;
use crate::abi::Status;
use crate::body::{Body, Chunk};
use crate::context::{Context, Root};
use crate::error::{Error, ErrorKind, Result};
use crate::services::Services;
use crate::token::{Call, CallKind, Token};
use crate::vm::Vm;
use std::rc::Rc;

/// The answer to an HTTP call.
#[derive(Default, Debug)]
pub struct HttpResponse {
    /// Headers, `:status` first.
    pub headers: PairList,
    /// Body.
    pub body: Vec<Chunk>,
    /// Trailers.
    pub trailers: PairList,
    /// The call failed: the guest is told of an empty answer, and finds a header here if it asks for it by name.
    pub failed: bool,
}

/// What a callback for a call shows to the guest, for as long as it runs: maps 4 to 7, buffers 4, 5 and 8.
#[derive(Default)]
pub(crate) struct CallData {
    pub(crate) headers: Option<PairList>,
    /// Why the call failed: not among the headers, but found by name.
    pub(crate) reasons: Option<PairList>,
    pub(crate) trailers: Option<PairList>,
    pub(crate) body: Option<Body>,
    pub(crate) initial_metadata: Option<PairList>,
    pub(crate) trailing_metadata: Option<PairList>,
    pub(crate) message: Option<Body>,
    pub(crate) argument: Option<Body>,
}

/// Something that the host reports of a call.
pub(crate) enum Completion {
    /// None: the call failed.
    Http(Option<HttpResponse>),
    GrpcInitialMetadata(PairList),
    GrpcMessage(Vec<Chunk>),
    GrpcTrailingMetadata(PairList),
    GrpcClose {
        status: u32,
        message: Vec<u8>,
    },
}

fn body_of(chunks: Vec<Chunk>) -> Body {
    let mut body = Body::new();
    chunks.into_iter().for_each(|chunk| body.push(chunk));
    body
}

/// Copies what is lent for the call only.
fn own(chunks: &mut [Chunk]) {
    for chunk in chunks.iter_mut().filter(|chunk| chunk.borrowed) {
        *chunk = Chunk::owned(bytes::Bytes::copy_from_slice(&chunk.bytes));
    }
}

/// `proxy_get_status` of an HTTP call that failed, as in Envoy: a status of the ABI, and why.
const CALL_FAILED: (Status, &[u8]) = (Status::BrokenConnection, b"reset");

impl Completion {
    /// Copies what the host lent, so that it can wait.
    pub(crate) fn own(&mut self) {
        match self {
            Self::Http(Some(response)) => own(&mut response.body),
            Self::GrpcMessage(chunks) => own(chunks),
            _ => {}
        }
    }

    /// Whether a call ends with this; fails when that kind of call is not answered so.
    pub(crate) fn ends(&self, call: &Call) -> Result<bool> {
        let (fits, ends) = match self {
            Self::Http(_) => (call.kind == CallKind::Http, true),
            Self::GrpcInitialMetadata(_) | Self::GrpcTrailingMetadata(_) => (call.kind != CallKind::Http, false),
            // A unary call ends with its message: no close follows.
            Self::GrpcMessage(_) => (call.kind != CallKind::Http, call.kind == CallKind::GrpcCall),
            Self::GrpcClose { .. } => (call.kind != CallKind::Http, true),
        };
        if fits {
            return Ok(ends);
        }
        let text = format!("the token is of a call of kind {:?}, which is not answered so", call.kind);
        Err(Error::new(ErrorKind::InvalidArgument, text))
    }

    /// Calls the guest's callback.
    pub(crate) fn deliver(self, services: &Services, token: Token) -> Result<()> {
        let call = services.call(token)?;
        let ends = self.ends(&call)?;
        let vm = call.vm.upgrade();
        if ends {
            services.end_call(token);
            if let Some(vm) = &vm {
                vm.with_state(|state| state.calls.remove(&call.guest_token))?;
            }
        }
        // A root context that is gone has nobody to tell.
        let Some((vm, root)) = vm.and_then(|vm| vm.root(call.root).map(|root| (vm, root))) else { return Ok(()) };
        let result = self.call_guest(&vm, &root, call.kind, call.guest_token);
        let _ = vm.with_state(|state| state.call_data = CallData::default());
        result
    }

    fn call_guest(self, vm: &Rc<Vm>, root: &Rc<Root>, kind: CallKind, token: u32) -> Result<()> {
        let context = || Context::Root(root.clone());
        let id = root.id;
        match self {
            Self::Http(response) => {
                let mut response = response.unwrap_or_else(|| HttpResponse { failed: true, ..HttpResponse::default() });
                let mut reasons = None;
                if response.failed {
                    let (status, message) = CALL_FAILED;
                    *root.call_status.borrow_mut() = (status as u32, message.to_vec());
                    reasons = Some(std::mem::take(&mut response).headers);
                }
                let body = body_of(response.body);
                let counts = (response.headers.len() as u32, body.len() as u32, response.trailers.len() as u32);
                vm.with_state(|state| {
                    state.call_data.headers = Some(response.headers);
                    state.call_data.reasons = reasons;
                    state.call_data.trailers = Some(response.trailers);
                    state.call_data.body = Some(body);
                })?;
                vm.call(context(), "proxy_on_http_call_response", |exports, store| {
                    let callback = exports.on_http_call_response.as_ref();
                    callback.map_or(Ok(()), |f| f.call(store, (id, token, counts.0, counts.1, counts.2)))
                })
            }
            Self::GrpcInitialMetadata(metadata) => {
                // Only streams are told of metadata, as in Envoy.
                if kind != CallKind::GrpcStream {
                    return Ok(());
                }
                let count = metadata.len() as u32;
                vm.with_state(|state| state.call_data.initial_metadata = Some(metadata))?;
                vm.call(context(), "proxy_on_grpc_receive_initial_metadata", |exports, store| {
                    exports.on_grpc_initial_metadata.as_ref().map_or(Ok(()), |f| f.call(store, (id, token, count)))
                })
            }
            Self::GrpcMessage(chunks) => {
                let message = body_of(chunks);
                let size = message.len() as u32;
                vm.with_state(|state| state.call_data.message = Some(message))?;
                vm.call(context(), "proxy_on_grpc_receive", |exports, store| {
                    exports.on_grpc_receive.as_ref().map_or(Ok(()), |f| f.call(store, (id, token, size)))
                })
            }
            Self::GrpcTrailingMetadata(metadata) => {
                if kind != CallKind::GrpcStream {
                    return Ok(());
                }
                let count = metadata.len() as u32;
                vm.with_state(|state| state.call_data.trailing_metadata = Some(metadata))?;
                vm.call(context(), "proxy_on_grpc_receive_trailing_metadata", |exports, store| {
                    exports.on_grpc_trailing_metadata.as_ref().map_or(Ok(()), |f| f.call(store, (id, token, count)))
                })
            }
            Self::GrpcClose { status, message } => {
                *root.call_status.borrow_mut() = (status, message);
                vm.call(context(), "proxy_on_grpc_close", |exports, store| {
                    exports.on_grpc_close.as_ref().map_or(Ok(()), |f| f.call(store, (id, token, status)))
                })
            }
        }
    }
}
