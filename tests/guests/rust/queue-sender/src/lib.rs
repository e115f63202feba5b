// SPDX-License-Identifier: Apache-2.0
//! Puts a line about each request into a shared queue that another VM registered.

use std::cell::Cell;
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
    vm_id: String,
    queue: String,
    #[serde(skip)]
    resolved: Cell<Option<u32>>,
}

impl Default for Config {
    fn default() -> Self {
        Config { vm_id: "receiver".into(), queue: "requests".into(), resolved: Cell::default() }
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
                log::error!("queue-sender: configuration refused: {error}");
                return false;
            }
        }
        true
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Sender { config: Rc::clone(&self.config) }))
    }
}

struct Sender {
    config: Rc<Config>,
}

impl Context for Sender {}

impl Sender {
    /// The receiver may start after the first requests.
    fn queue(&self) -> Option<u32> {
        let config = &self.config;
        if config.resolved.get().is_none() {
            config.resolved.set(self.resolve_shared_queue(&config.vm_id, &config.queue));
        }
        config.resolved.get()
    }

    fn header(&self, name: &str) -> String {
        String::from_utf8_lossy(&self.get_http_request_header_bytes(name).unwrap_or_default()).into_owned()
    }
}

impl HttpContext for Sender {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let line = format!("{} {}", self.header(":method"), self.header(":path"));
        match self.queue() {
            Some(queue) => {
                if let Err(status) = self.enqueue_shared_queue(queue, Some(line.as_bytes())) {
                    log::error!("queue-sender: {status:?}");
                    self.config.resolved.set(None);
                }
            }
            None => log::warn!("queue-sender: {} has no queue {}", self.config.vm_id, self.config.queue),
        }
        Action::Continue
    }
}
