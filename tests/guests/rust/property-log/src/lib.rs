// SPDX-License-Identifier: Apache-2.0
//! An access log from properties: one line for each request.

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{ContextType, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root));
}}

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Line))
    }
}

struct Line;

impl Context for Line {}

impl Line {
    fn text(&self, path: Vec<&str>) -> String {
        self.get_property(path).map_or("-".into(), |value| String::from_utf8_lossy(&value).into_owned())
    }

    /// Integers and durations: 64 bits, least byte first.
    fn number(&self, path: Vec<&str>) -> Option<u64> {
        self.get_property(path)?.try_into().ok().map(u64::from_le_bytes)
    }
}

impl HttpContext for Line {
    fn on_log(&mut self) {
        let number = |path| self.number(path).map_or("-".into(), |number| number.to_string());
        log::info!(
            "property-log: {} \"{} {} {}\" {} in={} out={} agent={:?} timed={}",
            self.text(vec!["source", "address"]),
            self.text(vec!["request", "method"]),
            self.text(vec!["request", "path"]),
            self.text(vec!["request", "protocol"]),
            number(vec!["response", "code"]),
            number(vec!["request", "size"]),
            number(vec!["response", "size"]),
            self.text(vec!["request", "headers", "user-agent"]),
            self.number(vec!["request", "duration"]).is_some(),
        );
    }
}
