// SPDX-License-Identifier: Apache-2.0
//! A plugin in a worker, and the VM slot that it shares with others. Where a stream gets its VM is decided here and nowhere else.

use crate::abi::LogLevel;
use crate::chain::Isolation;
use crate::context::Root;
use crate::error::{Error, ErrorKind, Result};
use crate::host::StreamData;
use crate::plugin::{FailurePolicy, Plugin};
use crate::services::Services;
use crate::vm::Vm;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

/// A plugin in a worker.
pub(crate) struct Instance {
    pub(crate) services: Rc<Services>,
    pub(crate) plugin: Plugin,
    slot: Rc<VmSlot>,
    root: RefCell<Option<Rc<Root>>>,
    /// Streams that have a context of it.
    streams: Cell<u32>,
    removed: Cell<bool>,
    /// It failed under a policy that makes no new VM.
    down: Cell<bool>,
}

/// The VM of all plugins of a worker with one VM key, while there is one.
pub(crate) struct VmSlot {
    services: Rc<Services>,
    vm: RefCell<Option<Rc<Vm>>>,
    members: RefCell<Vec<Weak<Instance>>>,
    /// VMs in a row that failed before a stream ended well.
    failures: Cell<u32>,
    /// When the next one may be made.
    retry_at_ns: Cell<u64>,
}

impl VmSlot {
    pub(crate) fn new(services: &Rc<Services>) -> Rc<Self> {
        Rc::new(Self {
            services: services.clone(),
            vm: RefCell::new(None),
            members: RefCell::default(),
            failures: Cell::new(0),
            retry_at_ns: Cell::new(0),
        })
    }

    /// The VM, made if there is none.
    fn vm(self: &Rc<Self>, plugin: &Plugin) -> Result<Rc<Vm>> {
        if let Some(vm) = &*self.vm.borrow() {
            return Ok(vm.clone());
        }
        let slot = Rc::downgrade(self);
        let on_failure = move |vm: &Vm| {
            if let Some(slot) = slot.upgrade() {
                slot.vm_failed(vm);
            }
        };
        let vm = Vm::start(&self.services, plugin, Some(Box::new(on_failure)))?;
        *self.vm.borrow_mut() = Some(vm.clone());
        Ok(vm)
    }

    /// Its VM failed: the members lose their roots, and the back-off begins.
    fn vm_failed(&self, vm: &Vm) {
        *self.vm.borrow_mut() = None;
        for member in self.members() {
            *member.root.borrow_mut() = None;
            if member.plugin.config().failure_policy != FailurePolicy::Reload {
                member.down.set(true);
            }
        }
        self.count_failure(&vm.plugin, vm.proven());
    }

    /// Decides when the next VM may be made.
    fn count_failure(&self, plugin: &Plugin, proven: bool) {
        let backoff = plugin.config().reload;
        let failures = if proven { 1 } else { self.failures.get().saturating_add(1) };
        self.failures.set(failures);
        let now = self.services.now_monotonic_ns();
        let base = u64::try_from(backoff.base.as_nanos()).unwrap_or(u64::MAX);
        let max = u64::try_from(backoff.max.as_nanos()).unwrap_or(u64::MAX);
        let wait = match failures {
            n if !proven && backoff.limit > 0 && n >= backoff.limit => u64::MAX,
            // The first failure says little about the next VM.
            0 | 1 => 0,
            n => base.saturating_mul(1 << (n - 2).min(32)).min(max),
        };
        self.retry_at_ns.set(now.saturating_add(wait));
        if wait != u64::MAX {
            self.services.retry_at(now.saturating_add(wait));
        }
        self.services.engine.diagnose(|| {
            let plugin = &plugin.config().name;
            match wait {
                0 => {}
                u64::MAX => tracing::error!(plugin, failures, "the plugin stays down: too many failures in a row"),
                _ => tracing::warn!(plugin, failures, wait_ms = wait / 1_000_000, "the plugin waits for a new VM"),
            }
        });
    }

    fn members(&self) -> Vec<Rc<Instance>> {
        self.members.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    /// Makes the VM anew if it is down and may be, with the roots of all members, so that their ticks and queues go on.
    pub(crate) fn retry(&self, now_ns: u64) {
        let mut down = self.members();
        down.retain(|member| member.root.borrow().is_none() && !member.removed.get() && !member.down.get());
        match self.retry_at_ns.get() {
            _ if down.is_empty() => {}
            u64::MAX => {}
            later if later > now_ns => self.services.retry_at(later),
            // A failure is logged, and sets the next time.
            _ => down.iter().for_each(|member| drop(member.acquire())),
        }
    }

    fn leave(&self, instance: &Instance) {
        self.members
            .borrow_mut()
            .retain(|member| member.upgrade().is_some_and(|member| !std::ptr::eq(&*member, instance)));
    }

    /// Whether nothing needs it any more: no member, no root context that waits for `proxy_done`.
    pub(crate) fn is_idle(&self) -> bool {
        !self.members.borrow().iter().any(|member| member.strong_count() > 0)
            && !self.vm.borrow().as_ref().is_some_and(|vm| vm.is_draining())
    }
}

impl Instance {
    /// Adds a plugin to a slot and starts it.
    pub(crate) fn start(services: &Rc<Services>, slot: &Rc<VmSlot>, plugin: &Plugin) -> Result<Rc<Self>> {
        let instance = Rc::new(Self {
            services: services.clone(),
            plugin: plugin.clone(),
            slot: slot.clone(),
            root: RefCell::new(None),
            streams: Cell::new(0),
            removed: Cell::new(false),
            down: Cell::new(false),
        });
        let vm_id = plugin.config().vm_id.as_bytes();
        services.engine.shared_data.retain(vm_id);
        services.engine.queues.retain(vm_id);
        slot.members.borrow_mut().push(Rc::downgrade(&instance));
        let started = instance.start_root();
        if let Err(error) = started {
            slot.leave(&instance);
            return Err(error);
        }
        Ok(instance)
    }

    fn start_root(&self) -> Result<(Rc<Vm>, Rc<Root>)> {
        let vm = self.slot.vm(&self.plugin)?;
        // Instances with one root key share a root context.
        let shared = self.slot.members().into_iter().find_map(|member| {
            let root = member.root.borrow().clone()?;
            (root.plugin.root_key == self.plugin.root_key).then_some(root)
        });
        let root = match shared {
            Some(root) => root,
            None => vm.start_root(&self.plugin)?,
        };
        *self.root.borrow_mut() = Some(root.clone());
        Ok((vm, root))
    }

    /// The VM and the root context for a stream. `held` are those that the stream has already.
    pub(crate) fn acquire_for(
        &self,
        isolation: Isolation,
        stream: StreamData,
        held: impl Iterator<Item = (Rc<Vm>, Rc<Root>)>,
    ) -> Result<(Rc<Vm>, Rc<Root>)> {
        match isolation {
            Isolation::Shared => self.acquire(),
            Isolation::Stream => self.acquire_private(stream, held),
            Isolation::Plugin => self.acquire_private(stream, std::iter::empty()),
        }
    }

    /// A VM that one stream has for itself, with a root context that is started as that of the worker was. What becomes of it, and what
    /// has become of the worker's, concerns no other stream: there is no back-off.
    fn acquire_private(
        &self,
        stream: StreamData,
        held: impl Iterator<Item = (Rc<Vm>, Rc<Root>)>,
    ) -> Result<(Rc<Vm>, Rc<Root>)> {
        let mut shared = None;
        for (vm, root) in held {
            if root.plugin.root_key == self.plugin.root_key {
                return Ok((vm, root));
            }
            if vm.plugin.vm_key == self.plugin.vm_key {
                shared = Some(vm);
            }
        }
        let log = |error: &Error| {
            self.services.log(&self.plugin, Some(stream), 0, LogLevel::Error, error.to_string().as_bytes());
        };
        let vm = match shared {
            Some(vm) => vm,
            None => Vm::start(&self.services, &self.plugin, None).inspect_err(log)?,
        };
        match vm.start_root(&self.plugin) {
            Ok(root) => Ok((vm, root)),
            Err(error) => {
                // A trap was logged where it was caught.
                if !vm.failed() {
                    log(&error);
                }
                Err(error)
            }
        }
    }

    /// The worker's VM and the root context there. Fails while the plugin is down.
    fn acquire(&self) -> Result<(Rc<Vm>, Rc<Root>)> {
        if let Some(root) = &*self.root.borrow() {
            if let Some(vm) = root.vm.upgrade() {
                return Ok((vm, root.clone()));
            }
        }
        if self.down.get() || self.services.now_monotonic_ns() < self.slot.retry_at_ns.get() {
            let text = format!("plugin {} is down", self.plugin.config().name);
            return Err(Error::new(ErrorKind::GuestUnavailable, text));
        }
        let failures = self.slot.failures.get();
        self.start_root().inspect_err(|error| {
            self.services.log(&self.plugin, None, 0, LogLevel::Error, error.to_string().as_bytes());
            // A trap was counted where it was caught.
            if self.slot.failures.get() == failures {
                self.slot.count_failure(&self.plugin, false);
            }
        })
    }

    /// A stream has taken up the plugin.
    pub(crate) fn stream_began(&self) {
        self.streams.set(self.streams.get() + 1);
    }

    /// A stream has let go of the plugin, and gives its VM back unless that has failed.
    pub(crate) fn stream_ended(&self, vm: Option<Rc<Vm>>) {
        self.streams.set(self.streams.get() - 1);
        match vm {
            Some(vm) if vm.is_private() => self.services.retire(vm),
            Some(vm) if !vm.failed() => {
                vm.prove();
                self.slot.failures.set(0);
            }
            _ => {}
        }
        if self.removed.get() && self.streams.get() == 0 {
            self.end_root();
        }
    }

    /// The plugin is wanted no longer: its root context ends when its last stream has ended.
    pub(crate) fn remove(&self) {
        if !self.removed.replace(true) && self.streams.get() == 0 {
            self.end_root();
        }
    }

    fn end_root(&self) {
        let root = self.root.borrow_mut().take();
        if let Some(root) = root {
            let others = self.slot.members();
            let shared =
                others.iter().any(|member| member.root.borrow().as_ref().is_some_and(|other| Rc::ptr_eq(other, &root)));
            if let Some(vm) = root.vm.upgrade().filter(|_| !shared) {
                vm.shut_down_root(&root);
            }
        }
        self.slot.leave(self);
    }

    /// Calls `proxy_on_foreign_function` of the root context.
    pub(crate) fn call_foreign(&self, function: u32, argument: &[u8]) -> Result<()> {
        let (vm, root) = self.acquire()?;
        let mut body = crate::body::Body::new();
        body.push(crate::body::Chunk::owned(bytes::Bytes::copy_from_slice(argument)));
        vm.with_state(|state| state.call_data.argument = Some(body))?;
        let size = argument.len() as u32;
        let result =
            vm.call(crate::context::Context::Root(root.clone()), "proxy_on_foreign_function", |exports, store| {
                exports.on_foreign_function.as_ref().map_or(Ok(()), |f| f.call(store, (root.id, function, size)))
            });
        let _ = vm.with_state(|state| state.call_data.argument = None);
        result
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let vm_id = self.plugin.config().vm_id.as_bytes();
        self.services.engine.shared_data.release(vm_id);
        self.services.engine.queues.release(vm_id);
    }
}
