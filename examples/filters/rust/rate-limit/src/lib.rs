// SPDX-License-Identifier: Apache-2.0
//! Allows each client so many requests in each window of time, counted across all workers.

use std::rc::Rc;
use std::time::UNIX_EPOCH;

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
    limit: u32,
    window_seconds: u64,
    header: String,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            limit: 60,
            window_seconds: 60,
            header: "x-client-id".into(),
        }
    }
}

impl Config {
    fn parse(text: &[u8]) -> Result<Self, String> {
        if text.trim_ascii().is_empty() {
            return Ok(Config::default());
        }
        let config: Config = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if config.window_seconds == 0 {
            return Err("\"window_seconds\" is 0".into());
        }
        if config.header.is_empty() {
            return Err("\"header\" is empty".into());
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
                log::error!("rate-limit: configuration refused: {why}");
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
        Some(Box::new(RateLimit { config }))
    }
}

/// What is shared about a client. One entry a client, not one a window, since an entry cannot be deleted.
#[derive(Default)]
struct Usage {
    window: u64,
    requests: u32,
}

impl Usage {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (window, requests) = bytes.split_first_chunk()?;
        let requests = u32::from_le_bytes(requests.try_into().ok()?);
        Some(Usage {
            window: u64::from_le_bytes(*window),
            requests,
        })
    }

    fn encode(&self) -> Vec<u8> {
        [
            &self.window.to_le_bytes()[..],
            &self.requests.to_le_bytes()[..],
        ]
        .concat()
    }
}

struct RateLimit {
    config: Rc<Config>,
}

impl Context for RateLimit {}

impl RateLimit {
    /// Counts a request of this client and returns how many it has made in the window.
    fn count(&self, client: &str, window: u64) -> u32 {
        let key = format!(
            "rate-limit:{}:{}:{client}",
            self.config.header, self.config.window_seconds
        );
        for _ in 0..16 {
            let (value, cas) = self.get_shared_data(&key);
            let mut usage = value
                .and_then(|bytes| Usage::decode(&bytes))
                .unwrap_or_default();
            if usage.window != window {
                usage = Usage {
                    window,
                    requests: 0,
                };
            }
            usage.requests = usage.requests.saturating_add(1);
            // Refused when another worker wrote after we read. (A client's very first write has nothing to
            // compare with, so two workers may count that one as the same request.)
            if self
                .set_shared_data(&key, Some(&usage.encode()), cas)
                .is_ok()
            {
                return usage.requests;
            }
        }
        log::warn!("rate-limit: too much contention, a request goes uncounted");
        0
    }
}

impl HttpContext for RateLimit {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let client = self
            .get_http_request_header_bytes(&self.config.header)
            .unwrap_or_default();
        let client = String::from_utf8_lossy(&client);
        let now = self
            .get_current_time()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let period = self.config.window_seconds;
        if self.count(&client, now / period) <= self.config.limit {
            return Action::Continue;
        }
        let wait = (period - now % period).to_string();
        let headers = vec![("content-type", "text/plain"), ("retry-after", &wait)];
        self.send_http_response(429, headers, Some(b"too many requests\n"));
        Action::Pause
    }
}
