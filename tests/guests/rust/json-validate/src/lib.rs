// SPDX-License-Identifier: Apache-2.0
//! Holds a request body until it is there as a whole, and refuses it with 400 if it is not JSON.

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use serde::de::IgnoredAny;
use serde::Deserialize;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::<Root>::default());
}}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// Holds the headers back as well: for proxies that show plugins the body even so.
    hold_headers: bool,
}

#[derive(Default)]
struct Root {
    config: Config,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        match serde_json::from_slice(&self.get_plugin_configuration().unwrap_or_else(|| b"{}".to_vec())) {
            Ok(config) => self.config = config,
            Err(error) => {
                log::error!("json-validate: configuration refused: {error}");
                return false;
            }
        }
        true
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Validate { hold_headers: self.config.hold_headers, json: false, size: 0 }))
    }
}

struct Validate {
    hold_headers: bool,
    json: bool,
    size: usize,
}

impl Context for Validate {}

impl Validate {
    fn validate(&mut self) -> Action {
        self.json = false;
        let body = self.get_http_request_body(0, self.size).unwrap_or_default();
        match serde_json::from_slice::<IgnoredAny>(&body) {
            Ok(_) => Action::Continue,
            Err(error) => {
                let text = format!("bad JSON: {error}\n");
                self.send_http_response(400, vec![("content-type", "text/plain")], Some(text.as_bytes()));
                Action::Pause
            }
        }
    }
}

impl HttpContext for Validate {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        let content_type = self.get_http_request_header_bytes("content-type").unwrap_or_default();
        self.json = !end_of_stream && content_type.starts_with(b"application/json");
        if self.json && self.hold_headers {
            Action::Pause
        } else {
            Action::Continue
        }
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if !self.json {
            return Action::Continue;
        }
        self.size = size;
        if end_of_stream {
            self.validate()
        } else {
            Action::Pause
        }
    }

    // Where trailers follow, they end the body.
    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        if self.json {
            self.validate()
        } else {
            Action::Continue
        }
    }
}
