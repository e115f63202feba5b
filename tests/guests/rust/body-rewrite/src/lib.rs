// SPDX-License-Identifier: Apache-2.0
//! Replaces a text in response bodies, when they are there as a whole.

use std::rc::Rc;

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
    replace: String,
    with: String,
}

impl Default for Config {
    fn default() -> Self {
        Config { replace: "secret".into(), with: "[hidden]".into() }
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
                log::error!("body-rewrite: configuration refused: {error}");
                return false;
            }
        }
        true
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Rewrite { config: Rc::clone(&self.config), size: 0 }))
    }
}

struct Rewrite {
    config: Rc<Config>,
    size: usize,
}

impl Context for Rewrite {}

impl Rewrite {
    fn rewrite(&self) {
        if self.size == 0 {
            return;
        }
        let body = self.get_http_response_body(0, self.size).unwrap_or_default();
        // What is not UTF-8 is no text.
        if let Ok(text) = String::from_utf8(body) {
            let text = text.replace(&self.config.replace, &self.config.with);
            self.set_http_response_body(0, self.size, text.as_bytes());
        }
    }
}

impl HttpContext for Rewrite {
    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        // The new length is not known before the headers go.
        self.set_http_response_header("content-length", None);
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.size = size;
        if !end_of_stream {
            return Action::Pause;
        }
        self.rewrite();
        Action::Continue
    }

    // Where trailers follow, they end the body.
    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        self.rewrite();
        Action::Continue
    }
}
