// SPDX-License-Identifier: Apache-2.0
//! The mock host, guests in WebAssembly text, and a worker set up for one test.

mod allocator;
mod guest;
mod host;
mod script;

pub use allocator::allocated;
pub use guest::{guest, guest_of, guest_with, CALLBACKS};
pub use host::{Event, Mock, MockHost};
pub use script::{encoded, in_configure, in_request, run_exchange, script, script_of, script_with, Script};

use proxywasm::*;

/// A worker with one plugin or more, in one chain, on a mock host.
pub struct Setup {
    pub mock: Mock,
    pub engine: Engine,
    pub worker: Worker,
    pub instances: Vec<InstanceHandle>,
    pub chain: Chain,
}

/// A plugin configuration named `test`.
pub fn config() -> PluginConfig {
    PluginConfig::new("test")
}

/// A config changed by `change`.
pub fn config_with(change: impl FnOnce(&mut PluginConfig)) -> PluginConfig {
    let mut config = config();
    change(&mut config);
    config
}

impl Setup {
    /// One plugin with the default configuration.
    pub fn new(wasm: &[u8]) -> Self {
        Self::chain(&[(wasm, config())])
    }

    /// One plugin.
    pub fn with(wasm: &[u8], config: PluginConfig) -> Self {
        Self::chain(&[(wasm, config)])
    }

    /// Several plugins, in the order in which requests pass them.
    pub fn chain(plugins: &[(&[u8], PluginConfig)]) -> Self {
        Self::try_chain(plugins).expect("the plugins start")
    }

    /// The same, when a plugin may not start.
    pub fn try_chain(plugins: &[(&[u8], PluginConfig)]) -> Result<Self> {
        let engine = Engine::new(&EngineConfig::new())?;
        Self::on_engine(&engine, &Mock::default(), plugins)
    }

    /// The same, on an engine and a mock of the caller's.
    pub fn on_engine(engine: &Engine, mock: &Mock, plugins: &[(&[u8], PluginConfig)]) -> Result<Self> {
        let worker = Worker::new(engine, Box::new(MockHost(mock.clone())))?;
        let mut instances = Vec::new();
        for (wasm, config) in plugins {
            let plugin = Plugin::new(&Module::compile(engine, wasm)?, config.clone())?;
            instances.push(worker.add_plugin(&plugin)?);
        }
        let chain = worker.chain(&instances.iter().collect::<Vec<_>>())?;
        Ok(Self { mock: mock.clone(), engine: engine.clone(), worker, instances, chain })
    }

    /// An HTTP stream whose data is `id`.
    pub fn http(&self, id: usize) -> StreamHandle {
        self.worker.stream(&self.chain, StreamKind::Http, StreamData(id)).unwrap()
    }

    /// A TCP stream whose data is `id`.
    pub fn tcp(&self, id: usize) -> StreamHandle {
        self.worker.stream(&self.chain, StreamKind::Tcp, StreamData(id)).unwrap()
    }

    /// Begins an HTTP stream and shows it request headers without a body; gives what the guest logged meanwhile.
    pub fn request_log(&self) -> Vec<String> {
        self.mock.take_log();
        let stream = self.http(1);
        stream.on_headers(Direction::Request, 0, true).unwrap();
        let log = self.mock.take_log();
        stream.finish().unwrap();
        log
    }
}

/// One chunk of body.
pub fn chunk(text: &str) -> Vec<Chunk> {
    vec![Chunk::owned(text.as_bytes().to_vec())]
}

/// What a direction has ready to forward, as text.
pub fn forwarded(stream: &StreamHandle, direction: Direction) -> String {
    stream.forward(direction).slices().map(String::from_utf8_lossy).collect()
}
