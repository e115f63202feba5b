// SPDX-License-Identifier: Apache-2.0
//! Sets and removes fields of JSON bodies: of responses, of requests, or of both.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use serde::Deserialize;
use serde_json::{Map, Value};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::<Root>::default());
}}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    request: Option<Edit>,
    response: Option<Edit>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Edit {
    set: Map<String, Value>,
    remove: Vec<String>,
}

impl Config {
    fn parse(text: &[u8]) -> Result<Self, String> {
        if text.trim_ascii().is_empty() {
            return Err("it is empty".into());
        }
        let config: Config = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        match (&config.request, &config.response) {
            (None, None) => Err("neither \"request\" nor \"response\" is given".into()),
            _ => Ok(config),
        }
    }
}

impl Edit {
    /// The body with the edit made, or nothing when it is not a JSON object.
    fn apply(&self, body: &[u8]) -> Option<Vec<u8>> {
        let mut object: Map<String, Value> = serde_json::from_slice(body).ok()?;
        for name in &self.remove {
            object.shift_remove(name);
        }
        for (name, value) in &self.set {
            object.insert(name.clone(), value.clone());
        }
        serde_json::to_vec(&object).ok()
    }
}

fn is_plain_json(content_type: Option<Vec<u8>>, content_encoding: Option<Vec<u8>>) -> bool {
    let content_type = content_type.unwrap_or_default().to_ascii_lowercase();
    let media_type = content_type
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    content_encoding.is_none()
        && (media_type == b"application/json" || media_type.ends_with(b"+json"))
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
                log::error!("rewrite-json: configuration refused: {why}");
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
        Some(Box::new(RewriteJson {
            config,
            request: None,
            response: None,
        }))
    }
}

/// For each direction: how much of a body that is to be rewritten is held back so far.
struct RewriteJson {
    config: Rc<Config>,
    request: Option<usize>,
    response: Option<usize>,
}

impl Context for RewriteJson {}

impl RewriteJson {
    fn rewrite_request(&mut self) {
        let (Some(size), Some(edit)) = (self.request.take(), &self.config.request) else {
            return;
        };
        match edit.apply(&self.get_http_request_body(0, size).unwrap_or_default()) {
            Some(body) => self.set_http_request_body(0, size, &body),
            None => log::warn!("rewrite-json: the request is no JSON object, left as it is"),
        }
    }

    fn rewrite_response(&mut self) {
        let (Some(size), Some(edit)) = (self.response.take(), &self.config.response) else {
            return;
        };
        match edit.apply(&self.get_http_response_body(0, size).unwrap_or_default()) {
            Some(body) => self.set_http_response_body(0, size, &body),
            None => log::warn!("rewrite-json: the response is no JSON object, left as it is"),
        }
    }
}

// The headers are gone before the body is complete, so its new length cannot be told: content-length is
// removed, and the proxy frames the body by itself. Holding the headers back is no way out, because most
// proxies then hold the body back as well.
impl HttpContext for RewriteJson {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        if self.config.response.is_some() {
            // A compressed response could not be read.
            self.remove_http_request_header("accept-encoding");
        }
        let content_type = self.get_http_request_header_bytes("content-type");
        let content_encoding = self.get_http_request_header_bytes("content-encoding");
        if self.config.request.is_some()
            && !end_of_stream
            && is_plain_json(content_type, content_encoding)
        {
            self.request = Some(0);
            self.remove_http_request_header("content-length");
        }
        Action::Continue
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if self.request.is_none() {
            return Action::Continue;
        }
        self.request = Some(size);
        if !end_of_stream {
            return Action::Pause;
        }
        self.rewrite_request();
        Action::Continue
    }

    // Where trailers follow, they end the body.
    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        self.rewrite_request();
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        let content_type = self.get_http_response_header_bytes("content-type");
        let content_encoding = self.get_http_response_header_bytes("content-encoding");
        let partial =
            self.get_http_response_header_bytes(":status").as_deref() == Some(b"206".as_slice());
        let wanted = self.config.response.is_some() && !end_of_stream && !partial;
        if wanted && is_plain_json(content_type, content_encoding) {
            self.response = Some(0);
            self.remove_http_response_header("content-length");
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if self.response.is_none() {
            return Action::Continue;
        }
        self.response = Some(size);
        if !end_of_stream {
            return Action::Pause;
        }
        self.rewrite_response();
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        self.rewrite_response();
        Action::Continue
    }
}
