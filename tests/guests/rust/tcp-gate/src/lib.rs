// SPDX-License-Identifier: Apache-2.0
//! Lets TCP connections pass that begin with one of the allowed words, greets the upstream for them, and counts bytes.

use std::rc::Rc;

use proxy_wasm::traits::{Context, RootContext, StreamContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, PeerType};
use serde::Deserialize;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::<Root>::default());
}}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    allow: Vec<String>,
    greeting: String,
}

impl Default for Config {
    fn default() -> Self {
        Config { allow: vec!["HELLO".into()], greeting: "GATE\n".into() }
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
                log::error!("tcp-gate: configuration refused: {error}");
                return false;
            }
        }
        true
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::StreamContext)
    }

    fn create_stream_context(&self, id: u32) -> Option<Box<dyn StreamContext>> {
        let config = Rc::clone(&self.config);
        Some(Box::new(Gate { id, config, open: false, from_downstream: 0, from_upstream: 0 }))
    }
}

struct Gate {
    id: u32,
    config: Rc<Config>,
    open: bool,
    from_downstream: usize,
    from_upstream: usize,
}

impl Context for Gate {}

impl StreamContext for Gate {
    fn on_downstream_data(&mut self, size: usize, end_of_stream: bool) -> Action {
        if !self.open {
            let data = self.get_downstream_data(0, size).unwrap_or_default();
            let allow = &self.config.allow;
            if !allow.iter().any(|word| data.starts_with(word.as_bytes())) {
                // What waits is there again with what comes next.
                let too_short = allow.iter().any(|word| word.as_bytes().starts_with(&data));
                if end_of_stream || !too_short {
                    log::warn!("tcp-gate: connection {} refused", self.id);
                    self.close_downstream();
                }
                return Action::Pause;
            }
            self.open = true;
            self.set_downstream_data(0, 0, self.config.greeting.as_bytes());
        }
        self.from_downstream += size;
        Action::Continue
    }

    fn on_downstream_close(&mut self, peer: PeerType) {
        log::info!("tcp-gate: connection {} closed by {peer:?}", self.id);
    }

    fn on_upstream_data(&mut self, size: usize, _end_of_stream: bool) -> Action {
        self.from_upstream += size;
        Action::Continue
    }

    fn on_log(&mut self) {
        let (down, up) = (self.from_downstream, self.from_upstream);
        log::info!("tcp-gate: connection {}: {down} bytes from downstream, {up} from upstream", self.id);
    }
}
