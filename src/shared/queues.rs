// SPDX-License-Identifier: Apache-2.0
//! Shared queues: named by `vm_id` and name, fed from any VM, announced to the root context that registered last.
//!
//! A queue itself knows no thread. It holds a [`QueueTarget`], puts one [`QueueReady`] per item into that worker's
//! mailbox, and wakes the worker, which then calls the guest on its own thread.

use std::collections::HashMap;

use parking_lot::{Mutex, RwLock};

use super::queue::{item_cost, Queue};
use super::{joined, Budget};
use crate::abi::Status;

pub use super::queue::{QueueReady, QueueTarget, Waker};

/// Bytes all queues keep at most: items, names, [`ITEM_OVERHEAD`] for each item and [`QUEUE_OVERHEAD`] for each queue.
pub const MAX_BYTES: usize = 64 << 20;
/// Length of a queue's name at most.
pub const MAX_NAME_BYTES: usize = 4096;
/// What a queue is charged besides its name.
pub const QUEUE_OVERHEAD: usize = 256;

/// All queues of an engine.
pub struct Queues {
    // Locked exclusively only where queues come and go. Order of locks: the registry, then one queue.
    registry: RwLock<Registry>,
    budget: Budget,
}

#[derive(Default)]
struct Registry {
    vms: HashMap<Box<[u8]>, Vm>,
    queues: HashMap<u32, Mutex<Queue>>,
    last_token: u32,
}

#[derive(Default)]
struct Vm {
    users: usize,
    tokens: HashMap<Box<[u8]>, u32>,
}

impl Default for Queues {
    fn default() -> Self {
        Self::new()
    }
}

impl Queues {
    /// No queues.
    pub fn new() -> Self {
        Self::with_limit(MAX_BYTES)
    }

    fn with_limit(bytes: usize) -> Self {
        Self { registry: RwLock::default(), budget: Budget::new(bytes) }
    }

    /// The token of the queue with this name, which is made if it is new. From now on `target` is told of its items. If
    /// nobody was before, it is told of those that wait, too.
    ///
    /// # Errors
    /// `InternalFailure` beyond [`MAX_NAME_BYTES`] or [`MAX_BYTES`].
    pub fn register(&self, vm_id: &[u8], name: &[u8], target: QueueTarget) -> Result<u32, Status> {
        // A failure drops `target`, which may run code of the host: after the guard, because it is a parameter.
        let mut registry = self.registry.write();
        let queue = registry.find_or_make(&self.budget, vm_id, name)?;
        let token = queue.token();
        let afterwards = queue.set_target(target);
        drop(registry);
        afterwards.run();
        Ok(token)
    }

    /// The token of the queue with this name, which is made if it is new. Whoever is told of its items goes on being told.
    ///
    /// # Errors
    /// As for `register`.
    pub fn open(&self, vm_id: &[u8], name: &[u8]) -> Result<u32, Status> {
        if let Some(token) = self.resolve(vm_id, name) {
            return Ok(token);
        }
        Ok(self.registry.write().find_or_make(&self.budget, vm_id, name)?.token())
    }

    /// The token of the queue with this name. An empty `vm_id` is a `vm_id` like any other here.
    pub fn resolve(&self, vm_id: &[u8], name: &[u8]) -> Option<u32> {
        self.registry.read().vms.get(vm_id)?.tokens.get(name).copied()
    }

    /// Appends a copy of `value`, and tells the target, if there is one.
    ///
    /// # Errors
    /// `NotFound` without such a queue; `InternalFailure` beyond [`MAX_ITEMS`], [`MAX_NOTICES`] or [`MAX_BYTES`], or
    /// when a bounded mailbox is full. Nothing is stored then.
    pub fn enqueue(&self, token: u32, value: &[u8]) -> Result<(), Status> {
        let registry = self.registry.read();
        let queue = registry.queues.get(&token).ok_or(Status::NotFound)?;
        let cost = item_cost(value.len());
        self.budget.take(cost)?;
        // Copied before the queue is locked, so that others wait only for the push.
        let pushed = joined(&[value]).and_then(|item| queue.lock().push(item));
        drop(registry);
        match pushed {
            Ok(afterwards) => {
                afterwards.run();
                Ok(())
            }
            Err(status) => {
                self.budget.give(cost);
                Err(status)
            }
        }
    }

    /// Takes the oldest item: `out` becomes it, and is empty in case of an error.
    ///
    /// # Errors
    /// `NotFound` without such a queue, `Empty` without an item.
    pub fn dequeue(&self, token: u32, out: &mut Vec<u8>) -> Result<(), Status> {
        out.clear();
        let registry = self.registry.read();
        let queue = registry.queues.get(&token).ok_or(Status::NotFound)?;
        let item = queue.lock().pop().ok_or(Status::Empty)?;
        drop(registry);
        self.budget.give(item_cost(item.len()));
        // The block changes hands: no copy that could fail after the item has left the queue.
        *out = item.into_vec();
        Ok(())
    }

    /// Forgets every target of this worker; queues and items stay. No notice is sent to it after this returned.
    pub fn unregister_worker(&self, worker: u64) {
        self.unregister(|target| target.worker == worker);
    }

    /// Nobody is told of a VM's queues from now on. Items stay, and are announced to who registers next.
    pub fn unregister_vm(&self, worker: u64, vm: u64) {
        self.unregister(|target| (target.worker, target.vm) == (worker, vm));
    }

    fn unregister(&self, is_gone: impl Fn(&QueueTarget) -> bool) {
        let registry = self.registry.read();
        let gone: Vec<QueueTarget> =
            registry.queues.values().filter_map(|queue| queue.lock().forget(&is_gone)).collect();
        drop(registry);
        drop(gone);
    }

    /// Counts one more user of the `vm_id`.
    pub fn retain(&self, vm_id: &[u8]) {
        let mut registry = self.registry.write();
        if let Some(vm) = registry.vms.get_mut(vm_id) {
            vm.users += 1;
        } else {
            registry.vms.insert(vm_id.into(), Vm { users: 1, ..Vm::default() });
        }
    }

    /// Counts one user less; when it was the last, drops the queues of the `vm_id`, whose tokens become unknown.
    /// Without a user nothing happens.
    pub fn release(&self, vm_id: &[u8]) {
        let gone = self.registry.write().release(vm_id);
        for (name, queue) in gone {
            self.budget.give(QUEUE_OVERHEAD + name.len() + queue.into_inner().cost());
        }
    }
}

impl Registry {
    fn find_or_make(&mut self, budget: &Budget, vm_id: &[u8], name: &[u8]) -> Result<&mut Queue, Status> {
        let known = self.vms.get(vm_id).and_then(|vm| vm.tokens.get(name));
        let token = match known {
            Some(&token) => token,
            None => self.make(budget, vm_id, name)?,
        };
        self.queues.get_mut(&token).map(Mutex::get_mut).ok_or(Status::InternalFailure)
    }

    fn make(&mut self, budget: &Budget, vm_id: &[u8], name: &[u8]) -> Result<u32, Status> {
        if name.len() > MAX_NAME_BYTES {
            return Err(Status::InternalFailure);
        }
        let name = joined(&[name])?;
        if !self.vms.contains_key(vm_id) {
            self.vms.insert(vm_id.into(), Vm::default());
        }
        let vm = self.vms.get_mut(vm_id).ok_or(Status::InternalFailure)?;
        vm.tokens.try_reserve(1).map_err(|_| Status::InternalFailure)?;
        self.queues.try_reserve(1).map_err(|_| Status::InternalFailure)?;
        budget.take(QUEUE_OVERHEAD + name.len())?;
        // 0 is no token, and after a wrap the old ones may still be in use.
        let mut token = self.last_token.wrapping_add(1);
        while token == 0 || self.queues.contains_key(&token) {
            token = token.wrapping_add(1);
        }
        self.last_token = token;
        vm.tokens.insert(name, token);
        self.queues.insert(token, Mutex::new(Queue::new(token)));
        Ok(token)
    }

    fn release(&mut self, vm_id: &[u8]) -> Vec<(Box<[u8]>, Mutex<Queue>)> {
        match self.vms.get_mut(vm_id) {
            Some(vm) if vm.users == 1 => {}
            Some(vm) => {
                vm.users = vm.users.saturating_sub(1);
                return Vec::new();
            }
            None => return Vec::new(),
        }
        let tokens = self.vms.remove(vm_id).map(|vm| vm.tokens).unwrap_or_default();
        let gone = tokens.into_iter().filter_map(|(name, token)| Some((name, self.queues.remove(&token)?))).collect();
        self.queues.shrink_to_fit();
        gone
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use std::sync::Arc;
    use std::thread;

    use crossbeam_channel::{bounded, unbounded, Receiver};

    use super::super::queue::ITEM_OVERHEAD;
    use super::*;

    fn target(worker: u64) -> (QueueTarget, Receiver<QueueReady>) {
        let (mailbox, notices) = unbounded();
        (QueueTarget { worker, vm: worker * 10, root_context: 1, mailbox, wake: None }, notices)
    }

    fn taken(queues: &Queues, token: u32) -> Result<Vec<u8>, Status> {
        let mut out = b"old".to_vec();
        let result = queues.dequeue(token, &mut out);
        assert!(result.is_ok() || out.is_empty());
        result.map(|()| out)
    }

    #[test]
    fn tokens_name_queues() {
        let queues = Queues::new();
        let (to, _notices) = target(1);
        assert_eq!(queues.register(b"v", b"a", to.clone()), Ok(1));
        assert_eq!(queues.register(b"v", b"b", to.clone()), Ok(2));
        assert_eq!(queues.register(b"v", b"a", to.clone()), Ok(1));
        assert_eq!(queues.register(b"w", b"a", to), Ok(3));
        assert_eq!(queues.resolve(b"v", b"b"), Some(2));
        assert_eq!(queues.resolve(b"w", b"a"), Some(3));
        assert_eq!(queues.resolve(b"w", b"b"), None);
        assert_eq!(queues.resolve(b"x", b"a"), None);
        assert_eq!(queues.resolve(b"", b"a"), None);
    }

    #[test]
    fn tokens_skip_zero_and_those_in_use_after_a_wrap() {
        let queues = Queues::new();
        let (to, _notices) = target(1);
        assert_eq!(queues.register(b"v", b"a", to.clone()), Ok(1));
        queues.registry.write().last_token = u32::MAX - 1;
        assert_eq!(queues.register(b"v", b"b", to.clone()), Ok(u32::MAX));
        assert_eq!(queues.register(b"v", b"c", to), Ok(2));
    }

    #[test]
    fn items_go_through_the_queue_of_their_token() {
        let queues = Queues::new();
        let (to, notices) = target(7);
        let token = queues.register(b"v", b"q", to).unwrap();
        assert_eq!(taken(&queues, token), Err(Status::Empty));
        assert_eq!(taken(&queues, 99), Err(Status::NotFound));
        assert_eq!(queues.enqueue(99, b"x"), Err(Status::NotFound));
        queues.enqueue(token, b"one").unwrap();
        assert_eq!(notices.try_iter().collect::<Vec<_>>(), [QueueReady { vm: 70, root_context: 1, token }]);
        assert_eq!(taken(&queues, token).unwrap(), b"one");
        assert_eq!(taken(&queues, token), Err(Status::Empty));
    }

    #[test]
    fn the_last_registrant_is_told() {
        let queues = Queues::new();
        let (first, first_notices) = target(1);
        let (second, second_notices) = target(2);
        let token = queues.register(b"v", b"q", first.clone()).unwrap();
        queues.enqueue(token, b"x").unwrap();
        queues.register(b"v", b"q", second).unwrap();
        queues.enqueue(token, b"y").unwrap();
        assert_eq!((first_notices.len(), second_notices.len()), (1, 1));
        queues.register(b"v", b"q", first).unwrap();
        queues.enqueue(token, b"z").unwrap();
        assert_eq!((first_notices.len(), second_notices.len()), (2, 1));
    }

    #[test]
    fn opening_takes_nothing_over() {
        let queues = Queues::new();
        let token = queues.open(b"v", b"q").unwrap();
        queues.enqueue(token, b"x").unwrap();
        let (first, notices) = target(1);
        assert_eq!(queues.register(b"v", b"q", first), Ok(token));
        assert_eq!(queues.open(b"v", b"q"), Ok(token));
        queues.enqueue(token, b"y").unwrap();
        assert_eq!(notices.len(), 2);
        assert_eq!(queues.open(b"v", &[b'n'; MAX_NAME_BYTES + 1]), Err(Status::InternalFailure));
    }

    #[test]
    fn unregistering_a_worker_keeps_the_items() {
        let queues = Queues::new();
        let (first, first_notices) = target(1);
        let (second, second_notices) = target(2);
        let token = queues.register(b"v", b"q", first.clone()).unwrap();
        let other = queues.register(b"v", b"r", second.clone()).unwrap();
        queues.unregister_worker(1);
        queues.enqueue(token, b"x").unwrap();
        queues.enqueue(other, b"y").unwrap();
        assert_eq!((first_notices.len(), second_notices.len()), (0, 1));
        queues.register(b"v", b"q", second).unwrap();
        assert_eq!(second_notices.len(), 2);
        assert_eq!(taken(&queues, token).unwrap(), b"x");
    }

    #[test]
    fn the_waker_runs_outside_every_lock() {
        let queues = Arc::new(Queues::new());
        let (mut to, notices) = target(1);
        let (inner, again) = (Arc::downgrade(&queues), to.clone());
        to.wake = Some(Arc::new(move || {
            // Each of these would hang on a lock that the caller still holds.
            let queues = inner.upgrade().unwrap();
            queues.retain(b"other");
            queues.dequeue(1, &mut Vec::new()).unwrap();
            queues.register(b"other", b"q", again.clone()).unwrap();
        }));
        assert_eq!(queues.register(b"v", b"q", to.clone()), Ok(1));
        queues.enqueue(1, b"x").unwrap();
        assert_eq!(taken(&queues, 1), Err(Status::Empty));
        queues.unregister_worker(1);
        queues.enqueue(1, b"y").unwrap();
        assert_eq!(taken(&queues, 1).unwrap(), b"y");
        queues.enqueue(1, b"z").unwrap();
        queues.register(b"v", b"q", to).unwrap();
        assert_eq!(taken(&queues, 1), Err(Status::Empty));
        assert_eq!(notices.len(), 2);
    }

    #[test]
    fn a_target_is_dropped_outside_every_lock() {
        struct OnDrop(std::sync::Weak<Queues>);
        impl Drop for OnDrop {
            fn drop(&mut self) {
                self.0.upgrade().unwrap().retain(b"other");
            }
        }
        let queues = Arc::new(Queues::new());
        let watched = || {
            let on_drop = OnDrop(Arc::downgrade(&queues));
            let (mut to, notices) = target(1);
            to.wake = Some(Arc::new(move || assert!(on_drop.0.strong_count() > 0)));
            (to, notices)
        };
        queues.retain(b"v");
        let (to, _notices) = watched();
        let token = queues.register(b"v", b"q", to).unwrap();
        queues.register(b"v", b"q", watched().0).unwrap();
        queues.enqueue(token, b"to a mailbox that is gone").unwrap();
        queues.register(b"v", b"q", watched().0).unwrap();
        queues.unregister_worker(1);
        queues.register(b"v", &[b'n'; MAX_NAME_BYTES + 1], watched().0).unwrap_err();
        queues.register(b"v", b"q", watched().0).unwrap();
        queues.release(b"v");
        assert_eq!(queues.registry.read().vms[&b"other"[..]].users, 5);
    }

    #[test]
    fn the_last_user_takes_the_queues_along() {
        let queues = Queues::new();
        let (to, _notices) = target(1);
        queues.retain(b"v");
        queues.retain(b"v");
        let token = queues.register(b"v", b"q", to.clone()).unwrap();
        let other = queues.register(b"w", b"q", to.clone()).unwrap();
        queues.enqueue(token, b"x").unwrap();
        queues.enqueue(other, b"y").unwrap();
        queues.release(b"v");
        assert_eq!(queues.resolve(b"v", b"q"), Some(token));
        queues.release(b"v");
        assert_eq!(queues.resolve(b"v", b"q"), None);
        assert_eq!(queues.enqueue(token, b"x"), Err(Status::NotFound));
        assert_eq!(taken(&queues, other).unwrap(), b"y");
        assert_eq!(queues.budget.used(), QUEUE_OVERHEAD + 1);
        queues.release(b"v");
        queues.release(b"w");
        queues.retain(b"v");
        assert_eq!(queues.register(b"v", b"q", to), Ok(other + 1));
    }

    #[test]
    fn guests_cannot_fill_the_host() {
        let (to, _notices) = target(1);
        let queues = Queues::with_limit(QUEUE_OVERHEAD + MAX_NAME_BYTES + 2 * ITEM_OVERHEAD);
        let long = [b'n'; MAX_NAME_BYTES + 1];
        assert_eq!(queues.register(b"v", &long, to.clone()), Err(Status::InternalFailure));
        let token = queues.register(b"v", &long[1..], to.clone()).unwrap();
        assert_eq!(queues.register(b"v", b"q", to), Err(Status::InternalFailure));
        assert_eq!(queues.resolve(b"v", b"q"), None);
        assert_eq!(queues.enqueue(token, &[0; ITEM_OVERHEAD + 1]), Err(Status::InternalFailure));
        queues.enqueue(token, &[0; ITEM_OVERHEAD]).unwrap();
        assert_eq!(queues.enqueue(token, b""), Err(Status::InternalFailure));
        taken(&queues, token).unwrap();
        assert_eq!(queues.budget.used(), QUEUE_OVERHEAD + MAX_NAME_BYTES);
    }

    #[test]
    fn a_refused_item_is_not_charged() {
        let queues = Queues::new();
        let (mut to, _unused) = target(1);
        let (mailbox, _notices) = bounded(0);
        to.mailbox = mailbox;
        let token = queues.register(b"v", b"q", to).unwrap();
        assert_eq!(queues.enqueue(token, b"x"), Err(Status::InternalFailure));
        assert_eq!(queues.budget.used(), QUEUE_OVERHEAD + 1);
    }

    #[test]
    fn two_threads_feed_one_worker() {
        let queues = Queues::new();
        let (to, notices) = target(1);
        let token = queues.register(b"v", b"q", to).unwrap();
        let mut got = Vec::new();
        thread::scope(|scope| {
            for sender in 0..2u8 {
                let queues = &queues;
                scope.spawn(move || (0..100).for_each(|item| queues.enqueue(token, &[sender, item]).unwrap()));
            }
            for _ in 0..200 {
                notices.recv().unwrap();
                got.push(taken(&queues, token).unwrap());
            }
        });
        assert!(notices.is_empty());
        for sender in 0..2 {
            let items: Vec<u8> = got.iter().filter(|item| item[0] == sender).map(|item| item[1]).collect();
            assert_eq!(items, (0..100).collect::<Vec<u8>>());
        }
    }
}
