// SPDX-License-Identifier: Apache-2.0
//! Lets requests wait in a list. A tick resumes them all; a list that is full lets its oldest one go.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use serde::Deserialize;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::<Root>::default());
}}

#[derive(Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    period_ms: u64,
    capacity: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config { period_ms: 1000, capacity: usize::MAX }
    }
}

type Waiting = Rc<RefCell<VecDeque<u32>>>;

#[derive(Default)]
struct Root {
    config: Config,
    waiting: Waiting,
}

fn resume(context: u32) {
    match hostcalls::set_effective_context(context) {
        Ok(()) => hostcalls::resume_http_request().unwrap(),
        Err(status) => log::warn!("postponed: request {context} is gone: {status:?}"),
    }
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        match serde_json::from_slice(&self.get_plugin_configuration().unwrap_or_else(|| b"{}".to_vec())) {
            Ok(config) => self.config = config,
            Err(error) => {
                log::error!("postponed: configuration refused: {error}");
                return false;
            }
        }
        self.set_tick_period(Duration::from_millis(self.config.period_ms));
        true
    }

    fn on_tick(&mut self) {
        for context in self.waiting.take() {
            log::info!("postponed: {context} resumed by a tick");
            resume(context);
        }
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Postponed { id, capacity: self.config.capacity, waiting: Rc::clone(&self.waiting) }))
    }
}

struct Postponed {
    id: u32,
    capacity: usize,
    waiting: Waiting,
}

impl Context for Postponed {
    fn on_done(&mut self) -> bool {
        // The client may have gone before the tick.
        self.waiting.borrow_mut().retain(|id| *id != self.id);
        true
    }
}

impl HttpContext for Postponed {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let mut waiting = self.waiting.borrow_mut();
        waiting.push_back(self.id);
        if waiting.len() > self.capacity {
            let oldest = waiting.pop_front().unwrap_or(self.id);
            if oldest == self.id {
                return Action::Continue;
            }
            log::info!("postponed: {oldest} resumed by {}", self.id);
            resume(oldest);
        }
        Action::Pause
    }
}
