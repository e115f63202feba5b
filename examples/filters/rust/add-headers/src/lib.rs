// SPDX-License-Identifier: Apache-2.0
//! Adds the headers named in its configuration to every request and every response.

use std::collections::BTreeMap;
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::<Root>::default());
}}

type Headers = BTreeMap<String, String>;

#[derive(Default)]
struct Config {
    request: Headers,
    response: Headers,
}

impl Config {
    fn parse(text: &[u8]) -> Result<Self, String> {
        if text.trim_ascii().is_empty() {
            let one = |name: &str, value: &str| Headers::from([(name.into(), value.into())]);
            return Ok(Config {
                request: one("x-proxy-wasm", "rust"),
                response: one("x-plugin", "rust-add-headers"),
            });
        }
        let sections: BTreeMap<String, Headers> =
            serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let mut config = Config::default();
        for (section, headers) in sections {
            check(&headers)?;
            match section.as_str() {
                "request" => config.request = headers,
                "response" => config.response = headers,
                _ => return Err(format!("unknown field {section:?}")),
            }
        }
        Ok(config)
    }
}

fn check(headers: &Headers) -> Result<(), String> {
    for (name, value) in headers {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || !name.bytes().all(known) {
            return Err(format!("{name:?} is not a header name"));
        }
        // A line break would let a value become another header.
        if value.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(format!("the value of {name:?} has a control character"));
        }
    }
    Ok(())
}

#[derive(Default)]
struct Root {
    config: Rc<Config>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        match Config::parse(&self.get_plugin_configuration().unwrap_or_default()) {
            Ok(config) => self.config = Rc::new(config),
            Err(why) => {
                log::error!("add-headers: configuration refused: {why}");
                return false;
            }
        }
        true
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        let config = Rc::clone(&self.config);
        Some(Box::new(AddHeaders { config }))
    }
}

struct AddHeaders {
    config: Rc<Config>,
}

impl Context for AddHeaders {}

impl HttpContext for AddHeaders {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        for (name, value) in &self.config.request {
            self.add_http_request_header(name, value);
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        for (name, value) in &self.config.response {
            self.add_http_response_header(name, value);
        }
        Action::Continue
    }
}
