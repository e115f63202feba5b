// SPDX-License-Identifier: Apache-2.0
//! What a hostcall asks for but may happen only after the callback has returned.

use crate::abi::pairs::PairList;
use crate::abi::StreamType;
use crate::context::Root;
use crate::stream::{Direction, Stream};
use crate::vm::Vm;
use std::rc::Rc;

/// A local response with its bytes.
pub(crate) struct OwnedResponse {
    pub(crate) status: u32,
    pub(crate) grpc_status: Option<u32>,
    pub(crate) details: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) headers: PairList,
}

pub(crate) enum Deferred {
    LocalResponse(Rc<Stream>, Box<OwnedResponse>),
    Continue(Rc<Stream>, usize, Direction),
    Close(Rc<Stream>, StreamType),
    Done(Rc<Root>),
}

impl Deferred {
    pub(crate) fn run(self, vm: &Vm) {
        match self {
            Self::LocalResponse(stream, response) => stream.send_local_response(&response),
            Self::Continue(stream, plugin, direction) => stream.request_resume(plugin, direction),
            Self::Close(stream, which) => stream.close(which),
            Self::Done(root) => vm.delete_root(&root),
        }
    }
}
