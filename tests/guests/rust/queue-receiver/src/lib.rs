// SPDX-License-Identifier: Apache-2.0
//! A service without streams: registers a shared queue, and logs what comes through it.

use proxy_wasm::traits::{Context, RootContext};
use proxy_wasm::types::LogLevel;
use serde::Deserialize;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Receiver));
}}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    queue: String,
}

impl Default for Config {
    fn default() -> Self {
        Config { queue: "requests".into() }
    }
}

struct Receiver;

impl Context for Receiver {}

impl RootContext for Receiver {
    fn on_configure(&mut self, _size: usize) -> bool {
        let text = self.get_plugin_configuration().unwrap_or_else(|| b"{}".to_vec());
        match serde_json::from_slice::<Config>(&text) {
            Ok(config) => {
                let id = self.register_shared_queue(&config.queue);
                log::info!("queue-receiver: {} is queue {id}", config.queue);
                true
            }
            Err(error) => {
                log::error!("queue-receiver: configuration refused: {error}");
                false
            }
        }
    }

    // Items may come faster than they are announced, so it takes all there are.
    fn on_queue_ready(&mut self, queue: u32) {
        loop {
            match self.dequeue_shared_queue(queue) {
                Ok(Some(line)) => log::info!("queue-receiver: {}", String::from_utf8_lossy(&line)),
                Ok(None) => return,
                Err(status) => return log::error!("queue-receiver: {status:?}"),
            }
        }
    }
}
