// SPDX-License-Identifier: Apache-2.0
//! Changes what the client of a TCP connection sends, and logs how much went each way.

use std::rc::Rc;

use proxy_wasm::traits::{Context, RootContext, StreamContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::<Root>::default());
}}

#[derive(Default)]
enum Config {
    #[default]
    Uppercase,
    Censor(String),
}

impl Config {
    fn parse(text: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
        match *text.split_whitespace().collect::<Vec<_>>() {
            [] | ["uppercase"] => Ok(Config::Uppercase),
            ["censor", word] => Ok(Config::Censor(word.into())),
            _ => Err(format!(
                "{text:?} is neither \"uppercase\" nor \"censor WORD\""
            )),
        }
    }

    fn apply(&self, data: &mut [u8]) {
        match self {
            Config::Uppercase => data.make_ascii_uppercase(),
            Config::Censor(word) => {
                let mut at = 0;
                while at + word.len() <= data.len() {
                    let here = &mut data[at..at + word.len()];
                    if here == word.as_bytes() {
                        here.fill(b'*');
                        at += word.len();
                    } else {
                        at += 1;
                    }
                }
            }
        }
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
                log::error!("tcp: configuration refused: {why}");
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
        Some(Box::new(Connection {
            id,
            config,
            from_downstream: 0,
            from_upstream: 0,
        }))
    }
}

struct Connection {
    id: u32,
    config: Rc<Config>,
    from_downstream: usize,
    from_upstream: usize,
}

impl Context for Connection {}

impl StreamContext for Connection {
    fn on_new_connection(&mut self) -> Action {
        log::info!("tcp: connection {} opened", self.id);
        Action::Continue
    }

    fn on_downstream_data(&mut self, size: usize, _end_of_stream: bool) -> Action {
        self.from_downstream += size;
        if let Some(mut data) = self.get_downstream_data(0, size) {
            // Chunk by chunk: a word the network cut in two goes through.
            self.config.apply(&mut data);
            self.set_downstream_data(0, size, &data);
        }
        Action::Continue
    }

    fn on_upstream_data(&mut self, size: usize, _end_of_stream: bool) -> Action {
        self.from_upstream += size;
        Action::Continue
    }

    fn on_log(&mut self) {
        log::info!(
            "tcp: connection {} closed: {} bytes from downstream, {} from upstream",
            self.id,
            self.from_downstream,
            self.from_upstream
        );
    }
}
