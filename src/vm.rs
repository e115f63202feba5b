// SPDX-License-Identifier: Apache-2.0
//! A VM: one instance of a module, the contexts inside it, and the one way in which the host calls a guest.

use crate::abi::pairs::PairList;
use crate::abi::{AbiVersion, LogLevel};
use crate::callout::CallData;
use crate::context::{Context, Root};
use crate::deferred::Deferred;
use crate::error::{Error, ErrorKind, Result};
use crate::exports::Exports;
use crate::host::StreamData;
use crate::limits::MemoryLimiter;
use crate::memory::GuestMemory;
use crate::plugin::Plugin;
use crate::services::Services;
use crate::token::Token;
use crate::wasi::{ProcExit, Stdio};
use hashbrown::HashMap;
use std::cell::{Cell, RefCell, RefMut};
use std::rc::{Rc, Weak};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, TypedFunc, WasmBacktrace};

/// Which hostcalls are allowed just now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    Normal,
    /// `_initialize` or `_start` runs: there is no plugin yet to act for.
    Starting,
    /// The guest's allocator runs, in the middle of a hostcall.
    Allocating,
}

/// What hostcalls see: the data of the store.
pub(crate) struct VmState {
    pub(crate) services: Rc<Services>,
    pub(crate) vm: Weak<Vm>,
    pub(crate) serial: u64,
    /// The plugin for which the VM was made; those that share it have the same VM id, VM configuration and environment.
    pub(crate) plugin: Plugin,
    pub(crate) abi: AbiVersion,
    pub(crate) mode: Mode,
    /// `proxy_on_configure` runs.
    pub(crate) configuring: bool,
    pub(crate) memory: Option<GuestMemory>,
    /// Counted, so that a hostcall can hold it while it runs.
    pub(crate) allocator: Option<Rc<TypedFunc<(u32,), u32>>>,
    pub(crate) contexts: HashMap<u32, Context>,
    /// The context of the callback that runs. None between callbacks: a context that is kept keeps its stream, and that the VM.
    current: Option<Context>,
    /// What stands for it while the module starts.
    vm_context: Context,
    /// What `proxy_set_effective_context` put in its place.
    pub(crate) effective: Option<Context>,
    pub(crate) deferred: Vec<Deferred>,
    pub(crate) call_data: CallData,
    /// Calls in flight by the guest's number.
    pub(crate) calls: HashMap<u32, Token>,
    pub(crate) next_call: u32,
    pub(crate) limiter: MemoryLimiter,
    pub(crate) stdio: Stdio,
    /// Buffers for values on their way between host and guest, kept so that hostcalls do not allocate.
    pub(crate) value: RefCell<Vec<u8>>,
    pub(crate) name: RefCell<Vec<u8>>,
    pub(crate) pairs: RefCell<PairList>,
    next_context: u32,
    /// Every id has been given once: from now on one may be in use.
    context_ids_used_up: bool,
}

impl VmState {
    /// The context on which hostcalls act.
    pub(crate) fn context(&self) -> &Context {
        self.effective.as_ref().or(self.current.as_ref()).unwrap_or(&self.vm_context)
    }

    pub(crate) fn stream_data(&self) -> Option<StreamData> {
        self.context().stream().map(|(stream, _)| stream.data())
    }

    /// A context id that no live context has, counted from 1.
    fn new_context_id(&mut self) -> u32 {
        loop {
            self.next_context = self.next_context.wrapping_add(1);
            self.context_ids_used_up |= self.next_context == 0;
            let taken = self.context_ids_used_up && self.contexts.contains_key(&self.next_context);
            if self.next_context != 0 && !taken {
                return self.next_context;
            }
        }
    }
}

pub(crate) struct Vm {
    pub(crate) services: Rc<Services>,
    pub(crate) serial: u64,
    pub(crate) plugin: Plugin,
    pub(crate) exports: Exports,
    store: RefCell<Store<VmState>>,
    failed: Cell<bool>,
    /// Whether a stream has run to its end in it: then its failure is not one of a VM that cannot work.
    proven: Cell<bool>,
    /// Contexts of streams that ended while the guest ran.
    orphans: RefCell<Vec<u32>>,
    /// None: one stream has the VM for itself.
    on_failure: Option<OnFailure>,
}

/// Callbacks that run one after the other in one context.
pub(crate) struct Visit<'a> {
    exports: &'a Exports,
    store: &'a mut Store<VmState>,
    ticks: u64,
    /// The one that runs.
    callback: &'static str,
}

impl Visit<'_> {
    /// Runs a callback, with the whole time that one may take.
    pub(crate) fn call<R>(
        &mut self,
        callback: &'static str,
        run: impl FnOnce(&Exports, &mut Store<VmState>) -> wasmtime::Result<R>,
    ) -> wasmtime::Result<R> {
        self.callback = callback;
        self.store.set_epoch_deadline(self.ticks);
        self.store.data_mut().effective = None;
        run(self.exports, self.store)
    }
}

/// Is told that a VM has failed.
pub(crate) type OnFailure = Box<dyn Fn(&Vm)>;

impl Vm {
    /// Instantiates a module and runs its entry functions. `on_failure` is told when the VM has failed later on; a VM without it is
    /// private: one stream's, which ends with the stream.
    pub(crate) fn start(services: &Rc<Services>, plugin: &Plugin, on_failure: Option<OnFailure>) -> Result<Rc<Self>> {
        let serial = services.next_vm_serial();
        let state = VmState {
            services: services.clone(),
            vm: Weak::new(),
            serial,
            plugin: plugin.clone(),
            abi: plugin.module.abi,
            mode: Mode::Starting,
            configuring: false,
            memory: None,
            allocator: None,
            contexts: HashMap::new(),
            current: None,
            vm_context: Context::Vm(plugin.clone()),
            effective: None,
            deferred: Vec::new(),
            call_data: CallData::default(),
            calls: HashMap::new(),
            next_call: 0,
            limiter: MemoryLimiter::new(&plugin.config().limits),
            stdio: Stdio::default(),
            value: RefCell::default(),
            name: RefCell::default(),
            pairs: RefCell::default(),
            next_context: 0,
            context_ids_used_up: false,
        };
        let mut store = Store::new(&services.engine.wasm, state);
        store.limiter(|state| &mut state.limiter);
        store.set_epoch_deadline(plugin.start_deadline_ticks);
        let started = Self::instantiate(&mut store, plugin);
        // What the guest printed is logged whether it started or not.
        store.data_mut().flush_stdio();
        let exports = started.map_err(|error| {
            let (kind, text) = explain(&error, store.data().limiter.refused);
            Error::new(kind, format!("cannot start the module: {text}")).context(whose(plugin))
        })?;
        services.count(|stats| {
            stats.vms += 1;
            stats.vms_created += 1;
        });
        let vm = Rc::new_cyclic(|weak| {
            store.data_mut().vm = weak.clone();
            store.data_mut().mode = Mode::Normal;
            Self {
                services: services.clone(),
                serial,
                plugin: plugin.clone(),
                exports,
                store: RefCell::new(store),
                failed: Cell::new(false),
                proven: Cell::new(false),
                orphans: RefCell::default(),
                on_failure,
            }
        });
        services.add_vm(serial, Rc::downgrade(&vm));
        Ok(vm)
    }

    fn instantiate(store: &mut Store<VmState>, plugin: &Plugin) -> wasmtime::Result<Exports> {
        let instance = plugin.pre.instantiate(&mut *store)?;
        let mut exports = Exports::resolve(store, &instance, plugin.module.abi, &plugin.config().capabilities)?;
        let memory = instance.get_memory(&mut *store, "memory");
        store.data_mut().memory = memory.map(GuestMemory::new);
        store.data_mut().allocator = exports.malloc.take().or_else(|| exports.memory_allocate.take()).map(Rc::new);
        // A reactor is initialized, and its main runs if there is one; a command is started.
        if let Some(initialize) = &exports.initialize {
            initialize.call(&mut *store, ())?;
            if let Some(main) = &exports.main {
                main.call(&mut *store, (0, 0))?;
            } else if let Some(main) = &exports.main_void {
                main.call(&mut *store, ())?;
            }
        } else if let Some(start) = &exports.start {
            start.call(&mut *store, ())?;
        }
        Ok(exports)
    }

    pub(crate) fn failed(&self) -> bool {
        self.failed.get()
    }

    /// Whether one stream has it for itself.
    pub(crate) fn is_private(&self) -> bool {
        self.on_failure.is_none()
    }

    pub(crate) fn proven(&self) -> bool {
        self.proven.get()
    }

    /// Runs a callback of the guest in a context. What hostcalls put off is done before this returns. When the guest traps, the VM
    /// has failed and everything that hangs on it has been told.
    pub(crate) fn call<R>(
        &self,
        context: Context,
        callback: &'static str,
        run: impl FnOnce(&Exports, &mut Store<VmState>) -> wasmtime::Result<R>,
    ) -> Result<R> {
        self.visit(context, |visit| visit.call(callback, run))
    }

    /// Runs several callbacks in a row in one context, for little more than one call costs beside them. What hostcalls put off is
    /// done after the last.
    pub(crate) fn visit<R>(
        &self,
        context: Context,
        run: impl FnOnce(&mut Visit<'_>) -> wasmtime::Result<R>,
    ) -> Result<R> {
        let ticks = context.plugin().deadline_ticks;
        self.visit_within(context, ticks, run)
    }

    fn visit_within<R>(
        &self,
        context: Context,
        ticks: u64,
        run: impl FnOnce(&mut Visit<'_>) -> wasmtime::Result<R>,
    ) -> Result<R> {
        let mut store = self.begin(context)?;
        let mut visit = Visit { exports: &self.exports, store: &mut store, ticks, callback: "" };
        let (result, callback) = (run(&mut visit), visit.callback);
        match result {
            Ok(value) => {
                self.end(store);
                Ok(value)
            }
            Err(error) => Err(self.fail(store, &error, callback)),
        }
    }

    /// What comes before each callback, or each visit. Not inlined, like what comes after it: a proxy does much between two requests,
    /// and finds little code in the cache.
    #[inline(never)]
    fn begin(&self, context: Context) -> Result<RefMut<'_, Store<VmState>>> {
        if self.failed.get() || self.services.is_closed() {
            return Err(Error::new(ErrorKind::GuestUnavailable, "the VM of the plugin has failed"));
        }
        let Ok(mut store) = self.store.try_borrow_mut() else {
            return Err(Error::new(ErrorKind::Internal, "the VM runs already"));
        };
        let state = store.data_mut();
        state.current = Some(context);
        state.limiter.refused = false;
        Ok(store)
    }

    /// What comes after a callback, or a visit, that has returned.
    #[inline(never)]
    fn end(&self, mut store: RefMut<'_, Store<VmState>>) {
        let state = store.data_mut();
        if state.stdio.is_pending() {
            state.flush_stdio();
        }
        state.effective = None;
        state.current = None;
        let deferred = (!state.deferred.is_empty()).then(|| std::mem::take(&mut state.deferred));
        drop(store);
        if let Some(deferred) = deferred {
            self.run_deferred(deferred);
        }
        if !self.orphans.borrow().is_empty() {
            self.forget_orphans();
        }
    }

    fn run_deferred(&self, mut deferred: Vec<Deferred>) {
        for action in deferred.drain(..) {
            action.run(self);
        }
        // Given back for its memory, unless one of the actions made the guest put off more.
        if let Ok(mut store) = self.store.try_borrow_mut() {
            let state = store.data_mut();
            if state.deferred.is_empty() {
                state.deferred = deferred;
            }
        }
    }

    /// Ends the VM: one record in the log, then all that waits on it is told.
    #[cold]
    fn fail(&self, mut store: RefMut<'_, Store<VmState>>, error: &wasmtime::Error, callback: &str) -> Error {
        self.failed.set(true);
        let state = store.data_mut();
        state.flush_stdio();
        state.effective = None;
        state.deferred.clear();
        let (kind, text) = explain(error, state.limiter.refused);
        let plugin = state.context().plugin().clone();
        let context_id = state.context().id();
        let stream = state.stream_data();
        let current = state.current.take();
        let contexts = std::mem::take(&mut state.contexts);
        let (weak, calls) = (state.vm.clone(), std::mem::take(&mut state.calls));
        drop(store);
        drop(current);

        let text = format!("{} failed in {callback}, context {context_id}: {text}", whose(&plugin));
        let services = &self.services;
        services.log(&plugin, stream, context_id, LogLevel::Critical, text.as_bytes());
        services.count(|stats| stats.vms_failed += 1);
        calls.into_values().for_each(|token| services.cancel_call(token));
        self.detach(&weak);
        if let Some(on_failure) = &self.on_failure {
            on_failure(self);
        }
        services.host.vm_failed(&plugin.config().name, kind);
        for context in contexts.into_values() {
            if let Context::Stream(stream, index) = context {
                stream.plugin_failed(index);
            }
        }
        Error::new(kind, text)
    }

    /// Nothing may reach the VM from outside any more.
    fn detach(&self, weak: &Weak<Self>) {
        self.services.cancel_ticks(weak);
        self.services.remove_vm(self.serial);
        // Those of a private one are the worker's.
        if !self.is_private() {
            self.services.unregister_queues(self.serial);
        }
    }

    // Contexts

    /// Makes a root context for a plugin and starts it.
    pub(crate) fn start_root(self: &Rc<Self>, plugin: &Plugin) -> Result<Rc<Root>> {
        let id = self.with_state(VmState::new_context_id)?;
        let root = Rc::new(Root {
            id,
            plugin: plugin.clone(),
            vm: Rc::downgrade(self),
            pending_done: Cell::new(false),
            call_status: RefCell::default(),
        });
        let context = Context::Root(root.clone());
        self.with_state(|state| state.contexts.insert(id, context.clone()))?;
        let ticks = plugin.start_deadline_ticks;
        let (vm_size, size) =
            (plugin.config().vm_configuration.len() as u32, plugin.config().configuration.len() as u32);
        self.visit_within(context.clone(), ticks, |visit| {
            visit.call("proxy_on_context_create", |exports, store| {
                exports.on_context_create.as_ref().map_or(Ok(()), |create| create.call(store, (id, 0)))
            })
        })?;
        let accepted = self.visit_within(context.clone(), ticks, |visit| {
            visit.call("proxy_on_vm_start", |exports, store| {
                exports.on_vm_start.as_ref().map_or(Ok(1), |start| start.call(store, (id, vm_size)))
            })
        })?;
        self.accept(&root, accepted, "proxy_on_vm_start")?;
        let accepted = self.visit_within(context, ticks, |visit| {
            visit.call("proxy_on_configure", |exports, store| {
                store.data_mut().configuring = true;
                let accepted =
                    exports.on_configure.as_ref().map_or(Ok(1), |configure| configure.call(&mut *store, (id, size)));
                store.data_mut().configuring = false;
                accepted
            })
        })?;
        self.accept(&root, accepted, "proxy_on_configure")?;
        Ok(root)
    }

    fn accept(&self, root: &Root, accepted: u32, callback: &str) -> Result<()> {
        if accepted != 0 {
            return Ok(());
        }
        self.forget_root(root);
        let text = format!("{callback} returned false: the plugin refuses its configuration, its log says why");
        Err(Error::new(ErrorKind::GuestRejected, text).context(whose(&root.plugin)))
    }

    /// Takes a root context out of the tables.
    fn forget_root(&self, root: &Root) {
        self.services.set_ticks(&root.vm, root.id, 0);
        let _ = self.with_state(|state| state.contexts.remove(&root.id));
    }

    /// Tells a root context that it is no longer needed; it ends now, or when the guest calls `proxy_done`.
    pub(crate) fn shut_down_root(&self, root: &Rc<Root>) {
        let id = root.id;
        let done = self.call(Context::Root(root.clone()), "proxy_on_done", |exports, store| {
            exports.on_done.as_ref().map_or(Ok(1), |done| done.call(store, (id,)))
        });
        match done {
            Ok(0) => root.pending_done.set(true),
            _ => self.delete_root(root),
        }
    }

    /// Ends a root context.
    pub(crate) fn delete_root(&self, root: &Rc<Root>) {
        root.pending_done.set(false);
        let id = root.id;
        // A trap is dealt with inside; the root goes either way.
        let _ = self.call(Context::Root(root.clone()), "proxy_on_delete", |exports, store| {
            exports.on_delete.as_ref().map_or(Ok(()), |delete| delete.call(store, (id,)))
        });
        self.forget_root(root);
    }

    /// Whether a root context waits for `proxy_done`.
    pub(crate) fn is_draining(&self) -> bool {
        let pending = |state: &mut VmState| {
            state.contexts.values().any(|context| matches!(context, Context::Root(root) if root.pending_done.get()))
        };
        self.with_state(pending).unwrap_or(false)
    }

    pub(crate) fn root(&self, id: u32) -> Option<Rc<Root>> {
        self.with_state(|state| match state.contexts.get(&id) {
            Some(Context::Root(root)) => Some(root.clone()),
            _ => None,
        })
        .ok()
        .flatten()
    }

    /// Enters a stream context in the tables and gives its id.
    pub(crate) fn add_stream_context(&self, context: impl FnOnce(u32) -> Context) -> Result<u32> {
        self.with_state(|state| {
            let id = state.new_context_id();
            state.contexts.insert(id, context(id));
            id
        })
    }

    /// Takes a stream context out of the tables. While the guest runs, in a stream that is dropped inside a callback of the host,
    /// that waits until it has returned.
    pub(crate) fn remove_stream_context(&self, id: u32) {
        if self.with_state(|state| state.contexts.remove(&id)).is_err() {
            self.orphans.borrow_mut().push(id);
        }
    }

    fn forget_orphans(&self) {
        let orphans = self.orphans.take();
        let contexts = self.with_state(|state| {
            let remove = |id: u32| state.contexts.remove(&id);
            orphans.into_iter().filter_map(remove).collect::<Vec<_>>()
        });
        // They may hold the last of a stream, which ends outside the borrow.
        drop(contexts);
    }

    /// A stream has run to its end here.
    pub(crate) fn prove(&self) {
        self.proven.set(true);
    }

    /// Reaches the state between callbacks.
    pub(crate) fn with_state<R>(&self, run: impl FnOnce(&mut VmState) -> R) -> Result<R> {
        match self.store.try_borrow_mut() {
            Ok(mut store) => Ok(run(store.data_mut())),
            Err(_) => Err(Error::new(ErrorKind::Internal, "the VM runs already")),
        }
    }

    /// Linear memory in bytes.
    pub(crate) fn memory_size(&self) -> u64 {
        let Ok(store) = self.store.try_borrow() else { return 0 };
        store.data().memory.as_ref().map_or(0, |memory| memory.size(&store) as u64)
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let state = self.store.get_mut().data_mut();
        let (weak, calls) = (std::mem::take(&mut state.vm), std::mem::take(&mut state.calls));
        self.detach(&weak);
        self.services.count(|stats| stats.vms -= 1);
        // Those of a worker that has ended were cancelled with it.
        calls.into_values().for_each(|token| self.services.cancel_call(token));
    }
}

fn whose(plugin: &Plugin) -> String {
    let config = plugin.config();
    format!("plugin {} (root id {:?})", config.name, config.root_id)
}

/// What kind of failure an error of the runtime is, and its text with the guest's backtrace.
fn explain(error: &wasmtime::Error, memory_refused: bool) -> (ErrorKind, String) {
    let trap = error.downcast_ref::<Trap>();
    let (kind, cause) = match trap {
        Some(Trap::Interrupt) => (ErrorKind::GuestTimeout, "the deadline has passed".to_owned()),
        Some(Trap::StackOverflow) => (ErrorKind::GuestTrap, "stack overflow".to_owned()),
        Some(trap) if memory_refused => {
            (ErrorKind::GuestLimit, format!("{trap} after memory beyond the limit was refused"))
        }
        Some(trap) => (ErrorKind::GuestTrap, trap.to_string()),
        None => match error.downcast_ref::<ProcExit>() {
            Some(exit) => (ErrorKind::GuestTrap, exit.to_string()),
            None if error.is::<PoolConcurrencyLimitError>() => (ErrorKind::NoMemory, error.to_string()),
            None => (ErrorKind::GuestTrap, error.root_cause().to_string()),
        },
    };
    match error.downcast_ref::<WasmBacktrace>() {
        Some(backtrace) => (kind, format!("{cause}\n{backtrace}")),
        None => (kind, cause),
    }
}
