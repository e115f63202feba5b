// SPDX-License-Identifier: Apache-2.0
//! Asks a gRPC service to greet the user of each request, and lets those pass that it greets.

use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use serde::Deserialize;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::<Root>::default());
}}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    upstream: String,
    service: String,
    method: String,
    timeout_ms: u64,
    /// What the message of a good answer begins with.
    allow: String,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            upstream: "grpc".into(),
            service: "helloworld.Greeter".into(),
            method: "SayHello".into(),
            timeout_ms: 1000,
            allow: "Hello".into(),
        }
    }
}

#[derive(Default)]
struct Root {
    config: Rc<Config>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        match serde_json::from_slice(&self.get_plugin_configuration().unwrap_or_else(|| b"{}".to_vec())) {
            Ok(config) => self.config = Rc::new(config),
            Err(error) => {
                log::error!("grpc-auth: configuration refused: {error}");
                return false;
            }
        }
        true
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(GrpcAuth { config: Rc::clone(&self.config) }))
    }
}

/// A message whose field 1 is a string.
fn encode(text: &[u8]) -> Vec<u8> {
    let mut message = vec![0x0a];
    let mut size = text.len();
    while size > 0x7f {
        message.push(size as u8 | 0x80);
        size >>= 7;
    }
    message.push(size as u8);
    message.extend(text);
    message
}

fn decode(message: &[u8]) -> Option<&[u8]> {
    let mut rest = message.strip_prefix(&[0x0a])?;
    let (mut size, mut shift) = (0, 0);
    while let Some((byte, after)) = rest.split_first() {
        size |= usize::from(byte & 0x7f).checked_shl(shift)?;
        (rest, shift) = (after, shift + 7);
        if byte & 0x80 == 0 {
            return rest.get(..size);
        }
    }
    None
}

struct GrpcAuth {
    config: Rc<Config>,
}

impl GrpcAuth {
    fn refuse(&self, status: u32, body: &str) {
        self.send_http_response(status, vec![("content-type", "text/plain")], Some(body.as_bytes()));
    }
}

impl HttpContext for GrpcAuth {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let Some(user) = self.get_http_request_header_bytes("x-user") else {
            self.refuse(401, "who is it?\n");
            return Action::Pause;
        };
        let Config { upstream, service, method, timeout_ms, .. } = &*self.config;
        let metadata = vec![("x-asked-by", b"grpc-auth".as_slice())];
        let timeout = Duration::from_millis(*timeout_ms);
        let call = self.dispatch_grpc_call(upstream, service, method, metadata, Some(&encode(&user)), timeout);
        if let Err(status) = call {
            log::error!("grpc-auth: cannot call {upstream}: {status:?}");
            self.refuse(503, "authorization is not available\n");
        }
        Action::Pause
    }
}

impl Context for GrpcAuth {
    fn on_grpc_call_response(&mut self, _token: u32, status: u32, size: usize) {
        if status != 0 {
            log::warn!("grpc-auth: {status} {}", self.get_grpc_status().1.unwrap_or_default());
            return self.refuse(503, "authorization is not available\n");
        }
        let answer = self.get_grpc_call_response_body(0, size).unwrap_or_default();
        match decode(&answer) {
            Some(message) if message.starts_with(self.config.allow.as_bytes()) => {
                self.set_http_request_header_bytes("x-greeting", Some(message));
                self.resume_http_request();
            }
            _ => self.refuse(403, "forbidden\n"),
        }
    }
}
