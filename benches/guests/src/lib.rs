// SPDX-License-Identifier: Apache-2.0
//! The guest of the benchmarks. Its configuration names the workload: f0 to f4.

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};
use std::hint::black_box;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root(Workload::Empty)));
}}

#[derive(Clone, Copy)]
enum Workload {
    Empty,
    OneHeader,
    ManyHeaders,
    AllHeaders,
    Body,
}

struct Root(Workload);

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        self.0 = match self.get_plugin_configuration().as_deref() {
            Some(b"f0") => Workload::Empty,
            Some(b"f1") => Workload::OneHeader,
            Some(b"f2") => Workload::ManyHeaders,
            Some(b"f3") => Workload::AllHeaders,
            Some(b"f4") => Workload::Body,
            _ => return false,
        };
        true
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(match self.0 {
            Workload::Empty => Box::new(Empty),
            Workload::OneHeader => Box::new(OneHeader),
            Workload::ManyHeaders => Box::new(ManyHeaders),
            Workload::AllHeaders => Box::new(AllHeaders),
            Workload::Body => Box::new(Body),
        })
    }
}

/// The SDK's own callbacks, which do nothing.
struct Empty;

impl Context for Empty {}
impl HttpContext for Empty {}

/// Reads one header, adds one.
struct OneHeader;

impl Context for OneHeader {}
impl HttpContext for OneHeader {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        black_box(self.get_http_request_header("user-agent"));
        self.add_http_request_header("x-bench", "1");
        Action::Continue
    }
}

/// Reads a header 200 times.
struct ManyHeaders;

impl Context for ManyHeaders {}
impl HttpContext for ManyHeaders {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        for _ in 0..200 {
            black_box(self.get_http_request_header("user-agent"));
        }
        Action::Continue
    }
}

/// Reads the whole map and sets it as it was.
struct AllHeaders;

impl Context for AllHeaders {}
impl HttpContext for AllHeaders {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let headers = self.get_http_request_headers();
        let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.set_http_request_headers(pairs);
        Action::Continue
    }
}

/// Reads the whole body and sets it as it was.
struct Body;

impl Context for Body {}
impl HttpContext for Body {
    fn on_http_request_body(&mut self, size: usize, _end_of_stream: bool) -> Action {
        if let Some(body) = self.get_http_request_body(0, size) {
            self.set_http_request_body(0, size, &body);
        }
        Action::Continue
    }
}
