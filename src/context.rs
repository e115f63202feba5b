// SPDX-License-Identifier: Apache-2.0
//! Contexts: what a context id of a guest stands for.

use crate::plugin::Plugin;
use crate::stream::Stream;
use crate::vm::Vm;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

/// A root context: one plugin in one VM.
pub(crate) struct Root {
    pub(crate) id: u32,
    pub(crate) plugin: Plugin,
    pub(crate) vm: Weak<Vm>,
    /// `proxy_on_done` returned false: `proxy_done` will end it.
    pub(crate) pending_done: Cell<bool>,
    /// Outcome of the last HTTP or gRPC call, for `proxy_get_status`.
    pub(crate) call_status: RefCell<(u32, Vec<u8>)>,
}

/// What a callback runs in.
#[derive(Clone)]
pub(crate) enum Context {
    /// None of a plugin: the VM itself, while it starts.
    Vm(Plugin),
    Root(Rc<Root>),
    /// A stream, and the index of the plugin in its chain.
    Stream(Rc<Stream>, usize),
}

impl Context {
    pub(crate) fn id(&self) -> u32 {
        match self {
            Self::Vm(_) => 0,
            Self::Root(root) => root.id,
            Self::Stream(stream, index) => stream.context_id(*index),
        }
    }

    pub(crate) fn plugin(&self) -> &Plugin {
        match self {
            Self::Vm(plugin) => plugin,
            Self::Root(root) => &root.plugin,
            Self::Stream(stream, index) => stream.plugin(*index),
        }
    }

    pub(crate) fn root(&self) -> Option<Rc<Root>> {
        match self {
            Self::Vm(_) => None,
            Self::Root(root) => Some(root.clone()),
            Self::Stream(stream, index) => stream.root(*index),
        }
    }

    pub(crate) fn stream(&self) -> Option<(&Rc<Stream>, usize)> {
        match self {
            Self::Stream(stream, index) => Some((stream, *index)),
            _ => None,
        }
    }
}
