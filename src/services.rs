// SPDX-License-Identifier: Apache-2.0
//! What a worker gives to its VMs: the host, the clock, the tables of calls and timers, the mailbox, the counts.

use crate::abi::LogLevel;
use crate::callout::Completion;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::host::{Host, LogRecord, StreamData};
use crate::plugin::Plugin;
use crate::shared::queues::{QueueReady, QueueTarget};
use crate::timer::Timers;
use crate::token::{Call, Token, TokenTable};
use crate::vm::Vm;
use crossbeam_channel::{Receiver, Sender};
use hashbrown::HashMap;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::{Instant, SystemTime};

/// Counts of a worker.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Stats {
    /// VMs alive.
    pub vms: u64,
    /// VMs made.
    pub vms_created: u64,
    /// VMs that failed.
    pub vms_failed: u64,
    /// Streams alive.
    pub streams: u64,
    /// Streams made.
    pub streams_created: u64,
    /// Callouts in flight.
    pub callouts: u64,
    /// Linear memory of all VMs in bytes.
    pub memory: u64,
}

pub(crate) struct Services {
    pub(crate) engine: Engine,
    pub(crate) host: Box<dyn Host>,
    /// Number of the worker in its engine.
    pub(crate) worker: u64,
    timers: RefCell<Timers>,
    pub(crate) stats: RefCell<Stats>,
    tokens: RefCell<TokenTable>,
    /// Set while a call of the host runs: what the host calls meanwhile is refused or queued.
    entered: Cell<bool>,
    closed: Cell<bool>,
    pending: RefCell<VecDeque<(Token, Completion)>>,
    /// Something waits in `pending`, or `announce_timeout` may have something to say.
    after_call: Cell<bool>,
    vms: RefCell<HashMap<u64, Weak<Vm>>>,
    /// VMs that end when the call of the host does.
    retired: RefCell<Vec<Rc<Vm>>>,
    /// Who registered which queue of the host's.
    host_queues: RefCell<HashMap<u32, QueueOwner>>,
    mailbox: (Sender<QueueReady>, Receiver<QueueReady>),
    /// When a VM that is down may be made again; u64::MAX when none waits.
    retry_at: Cell<u64>,
    announced: Cell<u64>,
    vm_serial: Cell<u64>,
    started: Instant,
}

#[derive(Clone)]
struct QueueOwner {
    vm: u64,
    root: u32,
}

impl Services {
    pub(crate) fn new(engine: &Engine, host: Box<dyn Host>) -> Self {
        Self {
            engine: engine.clone(),
            host,
            worker: engine.next_worker_id(),
            timers: RefCell::default(),
            stats: RefCell::default(),
            tokens: RefCell::default(),
            entered: Cell::new(false),
            closed: Cell::new(false),
            pending: RefCell::default(),
            after_call: Cell::new(false),
            vms: RefCell::default(),
            retired: RefCell::default(),
            host_queues: RefCell::default(),
            mailbox: crossbeam_channel::unbounded(),
            retry_at: Cell::new(u64::MAX),
            announced: Cell::new(u64::MAX),
            vm_serial: Cell::new(0),
            started: Instant::now(),
        }
    }

    /// Fails inside a host callback.
    pub(crate) fn check_outside(&self) -> Result<()> {
        if self.entered.get() {
            return Err(Error::new(ErrorKind::Reentrant, "not allowed inside a host callback of the same worker"));
        }
        Ok(())
    }

    /// The worker has ended: guests run no more, the host is called no more.
    pub(crate) fn close(&self) {
        self.closed.set(true);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Runs a call of the host; refused inside another one. Completions that came meanwhile are delivered at the end.
    pub(crate) fn enter<R>(&self, run: impl FnOnce() -> R) -> Result<R> {
        self.check_outside()?;
        self.entered.set(true);
        let result = run();
        while self.after_call.take() {
            self.drop_retired();
            self.deliver_pending();
            self.announce_timeout();
        }
        self.entered.set(false);
        Ok(result)
    }

    fn deliver_pending(&self) {
        loop {
            let Some((token, completion)) = self.pending.borrow_mut().pop_front() else { return };
            // A stale one was found when it came; what became stale since is dropped.
            let _ = completion.deliver(self, token);
        }
    }

    /// Delivers a completion now, or, inside a callback, when the outer call returns.
    pub(crate) fn complete(&self, token: Token, mut completion: Completion) -> Result<()> {
        let call = self.call(token)?;
        if call.answered {
            return Err(unknown_token(token));
        }
        let ends = completion.ends(&call)?;
        if self.entered.get() {
            completion.own();
            self.pending.borrow_mut().push_back((token, completion));
            self.after_call.set(true);
            if ends {
                self.tokens.borrow_mut().set_answered(token);
            }
            return Ok(());
        }
        self.enter(|| completion.deliver(self, token))?
    }

    pub(crate) fn now_monotonic_ns(&self) -> u64 {
        // Go's runtime takes 0 for a broken clock.
        self.host.now_monotonic_ns().unwrap_or_else(|| self.started.elapsed().as_nanos() as u64).max(1)
    }

    pub(crate) fn now_realtime_ns(&self) -> u64 {
        self.host.now_realtime_ns().unwrap_or_else(|| {
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
        })
    }

    pub(crate) fn log(
        &self,
        plugin: &Plugin,
        stream: Option<StreamData>,
        context_id: u32,
        level: LogLevel,
        message: &[u8],
    ) {
        let config = plugin.config();
        let record = LogRecord {
            level,
            context_id,
            plugin: &config.name,
            root_id: &config.root_id,
            vm_id: &config.vm_id,
            message,
        };
        self.host.log(stream, &record);
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.stats.borrow_mut());
    }

    // Calls in flight

    pub(crate) fn begin_call(&self, call: Call) -> Token {
        self.tokens.borrow_mut().insert(call)
    }

    pub(crate) fn call(&self, token: Token) -> Result<Call> {
        self.tokens
            .borrow_mut()
            .get(token)
            .cloned()
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("token {} names no call in flight", token.0)))
    }

    pub(crate) fn end_call(&self, token: Token) -> Option<Call> {
        self.tokens.borrow_mut().remove(token)
    }

    /// Ends a call of which nobody wants to hear; the host is told unless it is through with it.
    pub(crate) fn cancel_call(&self, token: Token) {
        if self.end_call(token).is_some_and(|call| !call.answered) {
            self.host.cancel_call(token);
        }
    }

    pub(crate) fn calls_in_flight(&self) -> usize {
        self.tokens.borrow().len()
    }

    pub(crate) fn all_calls(&self) -> Vec<Token> {
        self.tokens.borrow().tokens()
    }

    // VMs

    /// A number that no other VM of the worker has had.
    pub(crate) fn next_vm_serial(&self) -> u64 {
        self.vm_serial.set(self.vm_serial.get() + 1);
        self.vm_serial.get()
    }

    pub(crate) fn add_vm(&self, serial: u64, vm: Weak<Vm>) {
        self.vms.borrow_mut().insert(serial, vm);
    }

    pub(crate) fn remove_vm(&self, serial: u64) {
        self.vms.borrow_mut().remove(&serial);
    }

    /// The VM of a stream that ends goes with it. That is said to the host (of its calls), so not inside a callback.
    pub(crate) fn retire(&self, vm: Rc<Vm>) {
        if self.entered.get() {
            self.retired.borrow_mut().push(vm);
            self.after_call.set(true);
        }
    }

    fn drop_retired(&self) {
        loop {
            let Some(vm) = self.retired.borrow_mut().pop() else { return };
            drop(vm);
        }
    }

    pub(crate) fn vm(&self, serial: u64) -> Option<Rc<Vm>> {
        self.vms.borrow().get(&serial)?.upgrade()
    }

    pub(crate) fn all_vms(&self) -> Vec<Rc<Vm>> {
        self.vms.borrow().values().filter_map(Weak::upgrade).collect()
    }

    // Queues

    pub(crate) fn queue_target(&self, vm: u64, root_context: u32) -> QueueTarget {
        let mailbox = self.mailbox.0.clone();
        QueueTarget { worker: self.worker, vm, root_context, mailbox, wake: self.host.waker() }
    }

    /// Nobody is told of a VM's queues any more.
    pub(crate) fn unregister_queues(&self, vm: u64) {
        self.host_queues.borrow_mut().retain(|_, owner| owner.vm != vm);
        self.engine.queues.unregister_vm(self.worker, vm);
    }

    pub(crate) fn own_host_queue(&self, queue: u32, vm: u64, root: u32) {
        self.host_queues.borrow_mut().insert(queue, QueueOwner { vm, root });
    }

    pub(crate) fn next_notice(&self) -> Option<QueueReady> {
        self.mailbox.1.try_recv().ok()
    }

    pub(crate) fn host_queue_notice(&self, queue: u32) -> Result<QueueReady> {
        let owner = self.host_queues.borrow().get(&queue).cloned();
        let owner = owner.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("queue {queue} is registered by no plugin of this worker"))
        })?;
        Ok(QueueReady { vm: owner.vm, root_context: owner.root, token: queue })
    }

    // Time

    /// Sets, replaces or, with a period of 0, cancels the ticks of a root context.
    pub(crate) fn set_ticks(&self, vm: &Weak<Vm>, root: u32, period_ns: u64) {
        let now = self.now_monotonic_ns();
        self.timers.borrow_mut().set(vm, root, period_ns, now);
        self.after_call.set(true);
    }

    /// Cancels all ticks of a VM.
    pub(crate) fn cancel_ticks(&self, vm: &Weak<Vm>) {
        self.timers.borrow_mut().remove_vm(vm);
    }

    /// The root contexts whose tick is due.
    pub(crate) fn due_ticks(&self, now_ns: u64) -> Vec<(Weak<Vm>, u32)> {
        self.after_call.set(true);
        self.timers.borrow_mut().due(now_ns)
    }

    /// Asks to be called at this time, to make a VM anew.
    pub(crate) fn retry_at(&self, at_ns: u64) {
        self.retry_at.set(self.retry_at.get().min(at_ns));
        self.after_call.set(true);
    }

    /// Whether the time to make a VM anew has come.
    pub(crate) fn retry_due(&self, now_ns: u64) -> bool {
        let due = self.retry_at.get() <= now_ns;
        if due {
            self.retry_at.set(u64::MAX);
        }
        due
    }

    pub(crate) fn next_deadline_ns(&self) -> Option<u64> {
        let retry = Some(self.retry_at.get()).filter(|&at| at != u64::MAX);
        self.timers.borrow().next_ns().into_iter().chain(retry).min()
    }

    /// Tells the host when its next deadline has come nearer than it knows.
    fn announce_timeout(&self) {
        let next = self.next_deadline_ns().unwrap_or(u64::MAX);
        if self.announced.replace(next) > next {
            self.host.timeout_changed();
        }
    }
}

fn unknown_token(token: Token) -> Error {
    Error::new(ErrorKind::NotFound, format!("token {} names no call in flight", token.0))
}
