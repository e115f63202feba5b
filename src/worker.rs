// SPDX-License-Identifier: Apache-2.0
//! A worker: the plugins of one event loop, on one thread.

use crate::abi::pairs::PairList;
use crate::body::Chunk;
use crate::callout::{Completion, HttpResponse};
use crate::chain::Chain;
use crate::context::Context;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::host::{Host, StreamData};
use crate::instance::{Instance, VmSlot};
use crate::plugin::Plugin;
use crate::services::{Services, Stats};
use crate::shared::queues::QueueReady;
use crate::stream::{StreamHandle, StreamKind};
use crate::token::Token;
use hashbrown::HashMap;
use std::cell::RefCell;
use std::rc::Rc;

/// One event loop's plugins. Stays on the thread that made it.
pub struct Worker {
    services: Rc<Services>,
    /// By VM key.
    slots: RefCell<HashMap<[u8; 32], Rc<VmSlot>>>,
}

/// A plugin in a worker. Dropping it without `Worker::remove_plugin` ends it without telling the guest.
#[derive(Clone)]
pub struct InstanceHandle(Rc<Instance>);

impl InstanceHandle {
    /// The plugin.
    pub fn plugin(&self) -> &Plugin {
        &self.0.plugin
    }

    /// Calls `proxy_on_foreign_function` of the plugin's root context. The guest reads the argument as buffer 8.
    pub fn call_foreign(&self, function: u32, argument: &[u8]) -> Result<()> {
        self.0.services.enter(|| self.0.call_foreign(function, argument))?
    }
}

impl Worker {
    /// Makes a worker that speaks to a proxy through `host`.
    pub fn new(engine: &Engine, host: Box<dyn Host>) -> Result<Self> {
        engine.check_process()?;
        Ok(Self { services: Rc::new(Services::new(engine, host)), slots: RefCell::default() })
    }

    /// Adds a plugin: joins or makes its VM, starts and configures its root context.
    pub fn add_plugin(&self, plugin: &Plugin) -> Result<InstanceHandle> {
        self.services.enter(|| {
            let slot = self.slot(plugin);
            Instance::start(&self.services, &slot, plugin).map(InstanceHandle)
        })?
    }

    fn slot(&self, plugin: &Plugin) -> Rc<VmSlot> {
        let mut slots = self.slots.borrow_mut();
        slots.entry(plugin.vm_key).or_insert_with(|| VmSlot::new(&self.services)).clone()
    }

    /// Ends a plugin once its last stream has ended; its root context may put its end off until it calls `proxy_done`.
    pub fn remove_plugin(&self, instance: InstanceHandle) -> Result<()> {
        self.services.enter(|| {
            instance.0.remove();
            drop(instance);
            self.drop_idle_slots();
        })
    }

    fn drop_idle_slots(&self) {
        let idle: Vec<_> = self.slots.borrow_mut().extract_if(|_, slot| slot.is_idle()).collect();
        // Their VMs end outside the borrow.
        drop(idle);
    }

    /// Joins plugins to a chain, in the order in which requests pass them.
    pub fn chain(&self, instances: &[&InstanceHandle]) -> Result<Chain> {
        Chain::new(&self.services, instances.iter().map(|instance| instance.0.clone()).collect())
    }

    /// Begins a stream. `data` is what the host will know it by.
    pub fn stream(&self, chain: &Chain, kind: StreamKind, data: StreamData) -> Result<StreamHandle> {
        StreamHandle::new(chain, kind, data)
    }

    /// Nanoseconds until `on_timeout` wants to be called; none: nothing waits for time.
    pub fn timeout_ns(&self) -> Option<u64> {
        let next = self.services.next_deadline_ns()?;
        Some(next.saturating_sub(self.services.now_monotonic_ns()))
    }

    /// Runs what is due: ticks, and VMs that may be made anew.
    pub fn on_timeout(&self) -> Result<()> {
        self.services.enter(|| {
            let now = self.services.now_monotonic_ns();
            if self.services.retry_due(now) {
                let slots: Vec<_> = self.slots.borrow().values().cloned().collect();
                slots.iter().for_each(|slot| slot.retry(now));
            }
            let due = self.services.due_ticks(now);
            for (vm, root) in due {
                let Some(vm) = vm.upgrade() else { continue };
                let Some(root) = vm.root(root) else { continue };
                // A trap is reported and dealt with where it is caught.
                let _ = vm.call(Context::Root(root.clone()), "proxy_on_tick", |exports, store| {
                    exports.on_tick.as_ref().map_or(Ok(()), |tick| tick.call(store, (root.id,)))
                });
            }
        })
    }

    /// Delivers what other threads left: notices of shared queues.
    pub fn run_pending(&self) -> Result<()> {
        self.services.enter(|| {
            while let Some(notice) = self.services.next_notice() {
                self.queue_notice(&notice);
            }
            self.drop_idle_slots();
        })
    }

    /// A queue of the host's, which a plugin here registered, has an item.
    pub fn queue_ready(&self, queue: u32) -> Result<()> {
        self.services.enter(|| {
            let notice = self.services.host_queue_notice(queue)?;
            self.queue_notice(&notice);
            Ok(())
        })?
    }

    fn queue_notice(&self, notice: &QueueReady) {
        let Some(vm) = self.services.vm(notice.vm) else { return };
        let Some(root) = vm.root(notice.root_context) else { return };
        let _ = vm.call(Context::Root(root.clone()), "proxy_on_queue_ready", |exports, store| {
            exports.on_queue_ready.as_ref().map_or(Ok(()), |ready| ready.call(store, (root.id, notice.token)))
        });
    }

    /// The answer to an HTTP call; `None` when it failed.
    pub fn http_call_complete(&self, token: Token, response: Option<HttpResponse>) -> Result<()> {
        self.services.complete(token, Completion::Http(response))
    }

    /// Initial metadata of a gRPC stream.
    pub fn grpc_initial_metadata(&self, token: Token, metadata: PairList) -> Result<()> {
        self.services.complete(token, Completion::GrpcInitialMetadata(metadata))
    }

    /// A message of a gRPC call, which ends it, or of a gRPC stream.
    pub fn grpc_message(&self, token: Token, message: Vec<Chunk>) -> Result<()> {
        self.services.complete(token, Completion::GrpcMessage(message))
    }

    /// Trailing metadata of a gRPC stream.
    pub fn grpc_trailing_metadata(&self, token: Token, metadata: PairList) -> Result<()> {
        self.services.complete(token, Completion::GrpcTrailingMetadata(metadata))
    }

    /// The end of a gRPC stream, or the failure of a gRPC call.
    pub fn grpc_close(&self, token: Token, status: u32, message: &[u8]) -> Result<()> {
        self.services.complete(token, Completion::GrpcClose { status, message: message.to_vec() })
    }

    /// Fails inside a host callback.
    pub(crate) fn check_outside(&self) -> Result<()> {
        self.services.check_outside()
    }

    /// Whether no stream lives and no root context waits for `proxy_done`: the worker can be dropped without loss.
    pub fn is_idle(&self) -> bool {
        self.services.stats.borrow().streams == 0 && self.services.all_vms().iter().all(|vm| !vm.is_draining())
    }

    /// Counts.
    pub fn stats(&self) -> Stats {
        let mut stats = *self.services.stats.borrow();
        stats.callouts = self.services.calls_in_flight() as u64;
        stats.memory = self.services.all_vms().iter().map(|vm| vm.memory_size()).sum();
        stats
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.services.engine.queues.unregister_worker(self.services.worker);
        self.services.all_calls().into_iter().for_each(|token| self.services.cancel_call(token));
        self.services.close();
    }
}

/// A host that has nothing but a log, and perhaps queues, for a trial start.
struct TrialHost(Box<dyn Host>);

impl Host for TrialHost {
    fn log(&self, stream: Option<StreamData>, record: &crate::host::LogRecord<'_>) {
        self.0.log(stream, record);
    }
    fn log_level(&self) -> crate::abi::LogLevel {
        self.0.log_level()
    }
    fn get_property(&self, stream: Option<StreamData>, path: &[u8], out: &mut Vec<u8>) -> crate::host::HostResult {
        self.0.get_property(stream, path, out)
    }
    fn http_call(&self, _: Option<StreamData>, _: Token, _: &crate::host::HttpCall<'_>) -> crate::host::HostResult {
        // A trial reaches no one; the guest is told as if the call could be started, and never hears of it again.
        Ok(())
    }
    fn queues(&self) -> Option<&dyn crate::host::HostQueues> {
        self.0.queues()
    }
}

/// Starts a plugin in a VM that is thrown away, to find out whether it would start: for configuration checks.
pub fn validate(plugin: &Plugin, host: Box<dyn Host>) -> Result<()> {
    let worker = Worker::new(&plugin.module.engine, Box::new(TrialHost(host)))?;
    match worker.add_plugin(plugin) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::GuestUnavailable => {
            Err(Error::new(ErrorKind::GuestTrap, error.to_string()))
        }
        Err(error) => Err(error),
    }
}
