// SPDX-License-Identifier: Apache-2.0
//! Asks an HTTP service about every request, and holds the request until the answer is there:
//! 200 lets it pass, another status refuses it with 403, no answer with 503.

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
    cluster: String,
    authority: String,
    path: String,
    timeout_ms: u64,
    forward: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            cluster: String::new(),
            authority: String::new(),
            path: "/".into(),
            timeout_ms: 1000,
            forward: vec!["authorization".into()],
        }
    }
}

impl Config {
    fn parse(text: &[u8]) -> Result<Self, String> {
        if text.trim_ascii().is_empty() {
            return Err("it is empty".into());
        }
        let mut config: Config = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if config.cluster.is_empty() {
            return Err("\"cluster\" is missing".into());
        }
        if !config.path.starts_with('/') {
            return Err("\"path\" does not start with /".into());
        }
        // To the ABI, 0 means to wait for ever; the call carries 32 bits of milliseconds.
        if !(1..=u64::from(u32::MAX)).contains(&config.timeout_ms) {
            return Err("\"timeout_ms\" is out of range".into());
        }
        if config.authority.is_empty() {
            config.authority = config.cluster.clone();
        }
        Ok(config)
    }
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
                log::error!("auth-callout: configuration refused: {why}");
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
        Some(Box::new(AuthCallout {
            config,
            allowed: false,
        }))
    }
}

struct AuthCallout {
    config: Rc<Config>,
    allowed: bool,
}

impl AuthCallout {
    fn refuse(&self, status: u32, body: &str) {
        let headers = vec![("content-type", "text/plain")];
        self.send_http_response(status, headers, Some(body.as_bytes()));
    }

    fn hold_until_allowed(&self) -> Action {
        if self.allowed {
            Action::Continue
        } else {
            Action::Pause
        }
    }
}

impl HttpContext for AuthCallout {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let mut asked = vec![
            (":method".to_string(), "GET".to_string()),
            (":path".to_string(), self.config.path.clone()),
            (":authority".to_string(), self.config.authority.clone()),
        ];
        let original = [
            ("x-original-method", ":method"),
            ("x-original-path", ":path"),
        ];
        let forward = self
            .config
            .forward
            .iter()
            .map(|name| (name.as_str(), name.as_str()));
        for (to, from) in original.into_iter().chain(forward) {
            // As bytes: a client may send what is not UTF-8, and the SDK panics on making it a String.
            if let Some(value) = self.get_http_request_header_bytes(from) {
                asked.push((to.to_string(), String::from_utf8_lossy(&value).into_owned()));
            }
        }
        let asked = asked
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let timeout = Duration::from_millis(self.config.timeout_ms);
        if let Err(status) =
            self.dispatch_http_call(&self.config.cluster, asked, None, vec![], timeout)
        {
            log::error!(
                "auth-callout: cannot call {}: {status:?}",
                self.config.cluster
            );
            self.refuse(503, "authorization is not available\n");
        }
        Action::Pause
    }

    // Some proxies go on with the body while the headers wait.
    fn on_http_request_body(&mut self, _size: usize, _end_of_stream: bool) -> Action {
        self.hold_until_allowed()
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        self.hold_until_allowed()
    }
}

impl Context for AuthCallout {
    fn on_http_call_response(
        &mut self,
        _token: u32,
        headers: usize,
        _body: usize,
        _trailers: usize,
    ) {
        // A call that failed has no headers, not even a status.
        if headers == 0 {
            log::warn!("auth-callout: no answer from {}", self.config.cluster);
            return self.refuse(503, "authorization is not available\n");
        }
        match self
            .get_http_call_response_header_bytes(":status")
            .as_deref()
        {
            Some(b"200") => {
                self.allowed = true;
                self.resume_http_request();
            }
            _ => self.refuse(403, "forbidden\n"),
        }
    }
}
