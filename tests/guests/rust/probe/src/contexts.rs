// SPDX-License-Identifier: Apache-2.0
//! The contexts: roots, HTTP streams and TCP streams. Each hands its callbacks to its state.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext, StreamContext};
use proxy_wasm::types::{Action, ContextType, PeerType};

use crate::script::{Callback, Kind, Script};
use crate::state::{shared, Outcome, Pending, State};
use crate::steps::Steps;

fn action(outcome: Outcome) -> Action {
    if outcome.pause {
        Action::Pause
    } else {
        Action::Continue
    }
}

/// The callbacks that all kinds of contexts have.
macro_rules! context {
    ($context:ty) => {
        impl Context for $context {
            fn on_http_call_response(&mut self, token: u32, headers: usize, body: usize, trailers: usize) {
                let then = self.0.pending.remove(&token).and_then(|pending| pending.then);
                let arguments = [u64::from(token), headers as u64, body as u64, trailers as u64];
                self.0.run_then(Callback::HttpCallResponse, &arguments, false, then);
            }

            // The SDK tells a message from the end without one by the status alone.
            fn on_grpc_call_response(&mut self, token: u32, status: u32, size: usize) {
                let then = self.0.pending.remove(&token).and_then(|pending| pending.then);
                let (callback, argument) = match status {
                    0 => (Callback::GrpcReceive, size as u64),
                    _ => (Callback::GrpcClose, u64::from(status)),
                };
                self.0.run_then(callback, &[u64::from(token), argument], false, then);
            }

            fn on_grpc_stream_initial_metadata(&mut self, token: u32, count: u32) {
                self.of_grpc_stream(Callback::GrpcInitialMetadata, token, u64::from(count), |steps| &steps.initial);
            }

            fn on_grpc_stream_message(&mut self, token: u32, size: usize) {
                self.of_grpc_stream(Callback::GrpcReceive, token, size as u64, |steps| &steps.then);
            }

            fn on_grpc_stream_trailing_metadata(&mut self, token: u32, count: u32) {
                self.of_grpc_stream(Callback::GrpcTrailingMetadata, token, u64::from(count), |steps| &steps.trailing);
            }

            fn on_grpc_stream_close(&mut self, token: u32, status: u32) {
                self.of_grpc_stream(Callback::GrpcClose, token, u64::from(status), |steps| &steps.closed);
                self.0.pending.remove(&token);
            }

            fn on_foreign_function(&mut self, id: u32, size: usize) {
                self.0.run(Callback::ForeignFunction, &[u64::from(id), size as u64], false);
            }

            fn on_done(&mut self) -> bool {
                self.0.run(Callback::Done, &[], false).answer
            }
        }

        impl $context {
            fn of_grpc_stream(
                &mut self,
                callback: Callback,
                token: u32,
                argument: u64,
                steps: fn(&Pending) -> &Option<Steps>,
            ) {
                let then = self.0.pending.get(&token).and_then(|pending| steps(pending).clone());
                self.0.run_then(callback, &[u64::from(token), argument], false, then);
            }
        }
    };
}

pub struct Root(State);
context!(Root);

impl Root {
    pub fn new(id: u32) -> Self {
        let mut state = State::new(id, Rc::default());
        state.run(Callback::ContextCreate, &[0], false);
        Root(state)
    }

    fn new_stream(&self, id: u32) -> State {
        shared(|shared| shared.streams.insert(id));
        let mut state = State::new(id, Rc::clone(&self.0.plugin));
        state.run(Callback::ContextCreate, &[u64::from(self.0.id)], false);
        state
    }
}

impl RootContext for Root {
    // The plugin's configuration is not there yet: the VM's has the script of this one callback.
    fn on_vm_start(&mut self, size: usize) -> bool {
        let text = self.get_vm_configuration().unwrap_or_default();
        let mut error = None;
        if text.trim_ascii().starts_with(b"{") {
            match Script::parse(&text) {
                Ok(script) => self.0.plugin = Rc::new(script),
                Err(why) => error = Some(why),
            }
        }
        let outcome = self.0.run(Callback::VmStart, &[size as u64], false);
        if let Some(why) = error {
            self.0.report_error(Callback::VmStart, &why);
        }
        outcome.answer
    }

    fn on_configure(&mut self, size: usize) -> bool {
        let script = Script::parse(&self.get_plugin_configuration().unwrap_or_default());
        let (script, error) = match script {
            Ok(script) => (script, None),
            Err(why) => (Script::default(), Some(why)),
        };
        self.0.plugin = Rc::new(script);
        let outcome = self.0.run(Callback::Configure, &[size as u64], false);
        if let Some(why) = &error {
            self.0.report_error(Callback::Configure, why);
        }
        outcome.answer && error.is_none()
    }

    fn on_tick(&mut self) {
        self.0.run(Callback::Tick, &[], false);
    }

    fn on_queue_ready(&mut self, queue: u32) {
        self.0.run(Callback::QueueReady, &[u64::from(queue)], false);
    }

    fn on_log(&mut self) {
        self.0.run(Callback::Log, &[], false);
    }

    fn get_type(&self) -> Option<ContextType> {
        match self.0.plugin.kind {
            Kind::Http => Some(ContextType::HttpContext),
            Kind::Tcp => Some(ContextType::StreamContext),
            Kind::Root => None,
        }
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Http(self.new_stream(id))))
    }

    fn create_stream_context(&self, id: u32) -> Option<Box<dyn StreamContext>> {
        Some(Box::new(Tcp(self.new_stream(id))))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        self.0.run(Callback::Delete, &[], false);
    }
}

struct Http(State);
context!(Http);

impl Http {
    /// Reads the stream's script. An error is reported after the callback's entry.
    fn read_script(&mut self) -> Option<String> {
        let name = &self.0.plugin.name;
        let mut text = None;
        if !name.is_empty() {
            text = self.get_http_request_header_bytes(&format!("x-probe-{}", name.to_ascii_lowercase()));
        }
        match Script::parse(&text.or_else(|| self.get_http_request_header_bytes("x-probe"))?) {
            Ok(script) => {
                self.0.own = Some(script);
                None
            }
            Err(why) => Some(why),
        }
    }
}

impl HttpContext for Http {
    fn on_http_request_headers(&mut self, count: usize, end: bool) -> Action {
        let error = self.read_script();
        let outcome = self.0.run(Callback::RequestHeaders, &[count as u64, u64::from(end)], end);
        if let Some(why) = error {
            self.0.report_error(Callback::RequestHeaders, &why);
        }
        action(outcome)
    }

    fn on_http_request_body(&mut self, size: usize, end: bool) -> Action {
        action(self.0.run(Callback::RequestBody, &[size as u64, u64::from(end)], end))
    }

    fn on_http_request_trailers(&mut self, count: usize) -> Action {
        action(self.0.run(Callback::RequestTrailers, &[count as u64], true))
    }

    fn on_http_response_headers(&mut self, count: usize, end: bool) -> Action {
        action(self.0.run(Callback::ResponseHeaders, &[count as u64, u64::from(end)], end))
    }

    fn on_http_response_body(&mut self, size: usize, end: bool) -> Action {
        action(self.0.run(Callback::ResponseBody, &[size as u64, u64::from(end)], end))
    }

    fn on_http_response_trailers(&mut self, count: usize) -> Action {
        action(self.0.run(Callback::ResponseTrailers, &[count as u64], true))
    }

    fn on_log(&mut self) {
        self.0.run(Callback::Log, &[], false);
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        deleted(&mut self.0);
    }
}

struct Tcp(State);
context!(Tcp);

impl StreamContext for Tcp {
    fn on_new_connection(&mut self) -> Action {
        action(self.0.run(Callback::NewConnection, &[], false))
    }

    fn on_downstream_data(&mut self, size: usize, end: bool) -> Action {
        action(self.0.run(Callback::DownstreamData, &[size as u64, u64::from(end)], end))
    }

    fn on_downstream_close(&mut self, peer: PeerType) {
        self.0.run(Callback::DownstreamClose, &[peer as u64], false);
    }

    fn on_upstream_data(&mut self, size: usize, end: bool) -> Action {
        action(self.0.run(Callback::UpstreamData, &[size as u64, u64::from(end)], end))
    }

    fn on_upstream_close(&mut self, peer: PeerType) {
        self.0.run(Callback::UpstreamClose, &[peer as u64], false);
    }

    fn on_log(&mut self) {
        self.0.run(Callback::Log, &[], false);
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        deleted(&mut self.0);
    }
}

/// The SDK has no callback for this: it drops the context.
fn deleted(state: &mut State) {
    shared(|shared| shared.streams.remove(&state.id));
    state.run(Callback::Delete, &[], false);
}
