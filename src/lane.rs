// SPDX-License-Identifier: Apache-2.0
//! A lane: one direction of a stream at one plugin, and what the plugin holds back there.

use crate::body::Body;
use std::cell::{Cell, RefCell};

/// Whether a message moves past a plugin. `more`: the host should go on offering body.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Flow {
    #[default]
    Open,
    /// The plugin goes on being called for the same direction (Envoy's StopIteration).
    Stopped { more: bool },
    /// The plugin is not called until it resumes (Envoy's StopAllIteration).
    StoppedAll { more: bool },
}

/// Trailers that wait at a plugin.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Trailers {
    #[default]
    None,
    /// The plugin has not seen them.
    Unseen,
    /// The plugin has seen or made them: on resume they go to the next.
    Seen,
}

#[derive(Default)]
pub(crate) struct Lane {
    pub(crate) flow: Cell<Flow>,
    /// The headers have gone on to the next plugin.
    pub(crate) headers_passed: Cell<bool>,
    /// The direction ended with the headers.
    pub(crate) ended_by_headers: Cell<bool>,
    /// The direction ended with a chunk of body, which is held here.
    pub(crate) ended_by_data: Cell<bool>,
    /// The plugin collects: it sees everything since it began to (StopIterationAndBuffer).
    pub(crate) buffering: Cell<bool>,
    pub(crate) trailers: Cell<Trailers>,
    /// The plugin has been shown the body and has not let it go: it can read and change it.
    pub(crate) shown: Cell<bool>,
    /// While a data callback runs: what the plugin sees. Otherwise: what is held back.
    pub(crate) body: RefCell<Body>,
    resume: Cell<bool>,
    /// The callback that runs has asked to go on before it pauses.
    early_resume: Cell<bool>,
}

impl Lane {
    /// Notes that the pause shall end; false when there is none yet, or when that was noted already.
    pub(crate) fn request_resume(&self) -> bool {
        if self.flow.get() == Flow::Open {
            self.early_resume.set(true);
            return false;
        }
        !self.resume.replace(true)
    }

    /// A callback begins: what was asked for before it does not count.
    pub(crate) fn begin_callback(&self) {
        self.early_resume.set(false);
    }

    /// Stops the message; true when the callback that does has asked to go on, and so ends its own pause.
    pub(crate) fn stop(&self, flow: Flow) -> bool {
        self.flow.set(flow);
        self.early_resume.take()
    }

    /// Whether the pause shall end now.
    pub(crate) fn take_resume(&self) -> bool {
        self.resume.take() && self.flow.get() != Flow::Open
    }

    /// Lets the message move. A resume that the host has yet to carry out was for the pause that ends here, not for the next.
    pub(crate) fn open(&self) {
        self.flow.set(Flow::Open);
        self.resume.set(false);
    }

    /// Drops what is held.
    pub(crate) fn clear(&self) {
        self.body.borrow_mut().clear();
    }
}
