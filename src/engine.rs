// SPDX-License-Identifier: Apache-2.0
//! The engine: what all workers of a process share. It makes no thread unless `start_ticker` is called.

use crate::abi::LogLevel;
use crate::diagnostics::{self, LogSink};
use crate::error::{Error, ErrorKind, Result};
use crate::foreign::ForeignFunctions;
use crate::metrics::Metrics;
use crate::module::ModuleInner;
use crate::shared::data::SharedData;
use crate::shared::queues::Queues;
use crate::vm::VmState;
use crossbeam_channel::{RecvTimeoutError, Sender};
use hashbrown::HashMap;
use once_cell::sync::OnceCell;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use wasmtime::{Enabled, InstanceAllocationStrategy, Linker, OptLevel, PoolingAllocationConfig};

/// Longest distance between two ticks that `start_ticker` and the configuration accept.
const MAX_TICK: Duration = Duration::from_secs(10);

/// Bytes of memory, and of tables, that a VM of a pool leaves to the next.
const KEEP_RESIDENT: usize = 256 << 10;

/// How an engine is made.
#[derive(Clone)]
pub struct EngineConfig {
    parallel_compilation: bool,
    optimization: bool,
    signal_traps: bool,
    interruption: bool,
    max_stack: usize,
    tick_period: Duration,
    pooling: Option<u32>,
    log: Option<(LogLevel, Arc<dyn LogSink>)>,
    foreign: ForeignFunctions,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            parallel_compilation: false,
            optimization: true,
            signal_traps: true,
            interruption: true,
            max_stack: 512 << 10,
            tick_period: Duration::from_millis(10),
            pooling: None,
            log: None,
            foreign: ForeignFunctions::default(),
        }
    }
}

impl EngineConfig {
    /// The defaults: one thread compiles, optimized code, traps by signal, deadlines on, ticks of 10 ms, no pooling, no log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Compiles with several threads. Not for a process that forks afterwards: a child that compiles would hang.
    pub fn parallel_compilation(&mut self, on: bool) -> &mut Self {
        self.parallel_compilation = on;
        self
    }

    /// Whether code is optimized (the default), which makes it some twentieth faster and its compilation a fourth slower.
    pub fn optimization(&mut self, on: bool) -> &mut Self {
        self.optimization = on;
        self
    }

    /// Whether memory faults of guests are caught by signal handlers (the default) or by checks in the code, which are slower.
    pub fn signal_traps(&mut self, on: bool) -> &mut Self {
        self.signal_traps = on;
        self
    }

    /// Whether guests can be interrupted. Off makes guest code some tenth faster and deadlines void.
    pub fn interruption(&mut self, on: bool) -> &mut Self {
        self.interruption = on;
        self
    }

    /// The time between two ticks, which is the precision of deadlines.
    pub fn tick_period(&mut self, period: Duration) -> Result<&mut Self> {
        if period.is_zero() || period > MAX_TICK {
            let text = format!("a tick period must be more than 0 and at most {MAX_TICK:?}, not {period:?}");
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        self.tick_period = period;
        Ok(self)
    }

    /// Reserves address space for this many VMs, which makes each VM cheaper to make; up to 256 KiB of each of the 100 VMs that ended
    /// last stay for the next. 0 turns it off.
    pub fn pooling(&mut self, max_vms: u32) -> &mut Self {
        self.pooling = (max_vms > 0).then_some(max_vms);
        self
    }

    /// Takes the library's own diagnostics, from this level on.
    pub fn log(&mut self, level: LogLevel, sink: Arc<dyn LogSink>) -> &mut Self {
        self.log = Some((level, sink));
        self
    }

    /// The functions that guests may call by name with `proxy_call_foreign_function`.
    pub fn foreign_functions(&mut self) -> &mut ForeignFunctions {
        &mut self.foreign
    }
}

/// The part of the library that all threads share. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<EngineInner>);

pub struct EngineInner {
    pub(crate) wasm: wasmtime::Engine,
    pub(crate) metrics: Metrics,
    pub(crate) shared_data: SharedData,
    pub(crate) queues: Queues,
    pub(crate) foreign: ForeignFunctions,
    pub(crate) tick_period_ns: u64,
    dispatch: Option<tracing::Dispatch>,
    linker: OnceCell<Linker<VmState>>,
    /// Those that live, by the SHA-256 of their bytes: plugins of one file are compiled once.
    pub(crate) modules: Mutex<HashMap<[u8; 32], Weak<ModuleInner>>>,
    ticker: Mutex<Option<Sender<()>>>,
    process: AtomicU32,
    workers: AtomicU64,
}

impl std::ops::Deref for Engine {
    type Target = EngineInner;
    fn deref(&self) -> &EngineInner {
        &self.0
    }
}

impl Engine {
    /// Makes an engine.
    pub fn new(config: &EngineConfig) -> Result<Self> {
        let mut wasm = wasmtime::Config::new();
        wasm.parallel_compilation(config.parallel_compilation);
        wasm.cranelift_opt_level(if config.optimization { OptLevel::Speed } else { OptLevel::None });
        wasm.signals_based_traps(config.signal_traps);
        wasm.epoch_interruption(config.interruption);
        wasm.max_wasm_stack(config.max_stack);
        if let Some(max_vms) = config.pooling {
            let mut pooling = PoolingAllocationConfig::default();
            pooling.total_core_instances(max_vms).total_memories(max_vms).total_tables(max_vms.saturating_mul(2));
            pooling.max_tables_per_module(2).table_elements(1 << 16);
            // Putting back what a VM has written costs less than unmapping it and the faults of the next.
            pooling.linear_memory_keep_resident(KEEP_RESIDENT).table_keep_resident(KEEP_RESIDENT);
            pooling.pagemap_scan(Enabled::Auto);
            wasm.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling));
        }
        let wasm = wasmtime::Engine::new(&wasm).map_err(|e| {
            Error::new(ErrorKind::NoMemory, format!("the WebAssembly runtime cannot start here: {e:#}"))
        })?;
        Ok(Self(Arc::new(EngineInner {
            wasm,
            metrics: Metrics::new(),
            shared_data: SharedData::new(),
            queues: Queues::new(),
            foreign: config.foreign.clone(),
            tick_period_ns: u64::try_from(config.tick_period.as_nanos()).unwrap_or(u64::MAX),
            dispatch: config.log.clone().map(|(level, sink)| diagnostics::dispatch(level, sink)),
            linker: OnceCell::new(),
            modules: Mutex::default(),
            ticker: Mutex::new(None),
            process: AtomicU32::new(std::process::id()),
            workers: AtomicU64::new(0),
        })))
    }

    /// Advances the deadlines of all guests by one tick. Any thread; safe in a signal handler.
    pub fn tick(&self) {
        self.wasm.increment_epoch();
    }

    /// Starts the thread that ticks, unless it runs. Only after the last fork: a thread does not live on in a child.
    pub fn start_ticker(&self) -> Result<()> {
        let mut ticker = self.ticker.lock();
        if ticker.is_some() {
            return Ok(());
        }
        let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
        let engine = self.wasm.weak();
        let period = Duration::from_nanos(self.tick_period_ns);
        std::thread::Builder::new()
            .name("proxywasm-tick".into())
            .spawn(move || {
                // Ends when the engine goes, or when the sender is dropped.
                while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(period) {
                    match engine.upgrade() {
                        Some(engine) => engine.increment_epoch(),
                        None => break,
                    }
                }
            })
            .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot start the ticker thread: {e}")))?;
        *ticker = Some(stop);
        Ok(())
    }

    /// Stops the thread that `start_ticker` started.
    pub fn stop_ticker(&self) {
        self.ticker.lock().take();
    }

    /// Must be called first in a process made by fork: forgets the threads that stayed in the parent.
    pub fn fork_child(&self) {
        self.stop_ticker();
        self.process.store(std::process::id(), Ordering::Relaxed);
    }

    /// Fails in a process that was forked and did not call `fork_child`.
    pub(crate) fn check_process(&self) -> Result<()> {
        let (made_in, here) = (self.process.load(Ordering::Relaxed), std::process::id());
        if made_in == here {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("the engine was made in process {made_in}, this is process {here}: call proxywasm_engine_fork_child first"),
        ))
    }

    /// The metrics of the library's own registry.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn next_worker_id(&self) -> u64 {
        self.workers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// All hostcalls, linked by name; made once.
    pub(crate) fn linker(&self) -> Result<&Linker<VmState>> {
        self.linker.get_or_try_init(|| {
            crate::hostcalls::linker(&self.wasm)
                .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot link the hostcalls: {e:#}")))
        })
    }

    /// Runs something whose `tracing` events go to the sink of this engine.
    pub(crate) fn diagnose<R>(&self, run: impl FnOnce() -> R) -> R {
        match &self.dispatch {
            Some(dispatch) => tracing::dispatcher::with_default(dispatch, run),
            None => run(),
        }
    }
}
