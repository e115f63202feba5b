// SPDX-License-Identifier: Apache-2.0
//! One shared queue: its items, and who is told of them.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::{Sender, TrySendError};

use crate::abi::Status;

/// Items in one queue at most.
pub const MAX_ITEMS: usize = 65_536;
/// Notices waiting in one mailbox at most. Items may be taken by other workers than the one that is told of them, so
/// the notices need a bound of their own.
pub const MAX_NOTICES: usize = 65_536;
/// What an item is charged besides its bytes, so that empty items are not free.
pub const ITEM_OVERHEAD: usize = 32;
/// Below this capacity the ring of a queue is not worth shrinking.
const KEPT_CAPACITY: usize = 64;

/// What an item of this length is charged.
pub(super) fn item_cost(len: usize) -> usize {
    ITEM_OVERHEAD.saturating_add(len)
}

/// Tells a worker that something came into its mailbox. Called from any thread, never under a lock of the queues.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Who is told about the items of a queue.
#[derive(Clone)]
pub struct QueueTarget {
    /// The worker, by the number the engine gave it.
    pub worker: u64,
    /// The VM that holds the root context.
    pub vm: u64,
    /// The root context that registered.
    pub root_context: u32,
    /// The mailbox of the worker.
    pub mailbox: Sender<QueueReady>,
    /// Called after sending, if the worker has to be woken.
    pub wake: Option<Waker>,
}

/// The notice of one item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueReady {
    /// The VM to call.
    pub vm: u64,
    /// The context to call it with.
    pub root_context: u32,
    /// The queue that got an item.
    pub token: u32,
}

/// A queue. Used under a lock; it never waits and never calls the host.
pub(super) struct Queue {
    token: u32,
    items: VecDeque<Box<[u8]>>,
    target: Option<QueueTarget>,
}

/// What has to wait until the locks are released, because it is or drops code of the host.
#[must_use]
#[derive(Default)]
pub(super) struct Afterwards {
    wake: Option<Waker>,
    gone: Option<QueueTarget>,
}

impl Afterwards {
    /// Drops and calls what has to wait. No lock may be held.
    pub(super) fn run(self) {
        drop(self.gone);
        if let Some(wake) = self.wake {
            wake();
        }
    }
}

/// What became of a notice.
enum Notice {
    Sent,
    /// The worker does not keep up.
    Full,
    /// There is nobody to tell.
    NoTarget,
}

impl Queue {
    /// An empty queue that nobody is told about.
    pub(super) fn new(token: u32) -> Self {
        Self { token, items: VecDeque::new(), target: None }
    }

    /// The number it is known by.
    pub(super) fn token(&self) -> u32 {
        self.token
    }

    /// What is charged for its items.
    pub(super) fn cost(&self) -> usize {
        self.items.iter().map(|item| item_cost(item.len())).sum()
    }

    /// Gives up the target if it is one of those that are gone.
    pub(super) fn forget(&mut self, is_gone: impl Fn(&QueueTarget) -> bool) -> Option<QueueTarget> {
        self.target.take_if(|target| is_gone(target))
    }

    /// Appends the item and tells the target, or does neither.
    pub(super) fn push(&mut self, item: Box<[u8]>) -> Result<Afterwards, Status> {
        if self.items.len() >= MAX_ITEMS {
            return Err(Status::InternalFailure);
        }
        self.items.try_reserve(1).map_err(|_| Status::InternalFailure)?;
        let mut afterwards = Afterwards::default();
        // The notice first, since it may be refused. Who reads it needs the lock to look for the item.
        match self.notify() {
            Notice::Sent => afterwards.wake = self.waker(),
            Notice::Full => return Err(Status::InternalFailure),
            // Also when the worker dropped its mailbox without unregistering.
            Notice::NoTarget => afterwards.gone = self.target.take(),
        }
        self.items.push_back(item);
        Ok(afterwards)
    }

    /// Takes the oldest item.
    pub(super) fn pop(&mut self) -> Option<Box<[u8]>> {
        let item = self.items.pop_front()?;
        // The ring is not charged to the budget beyond its items, so it has to shrink with them.
        let capacity = self.items.capacity();
        if capacity > KEPT_CAPACITY && self.items.len() < capacity / 4 {
            self.items.shrink_to(capacity / 2);
        }
        Some(item)
    }

    /// From now on this one is told.
    pub(super) fn set_target(&mut self, target: QueueTarget) -> Afterwards {
        let gone = self.target.replace(target);
        let mut wake = None;
        if gone.is_none() {
            // Whoever was told of these is gone. Without a new notice they would wait for ever.
            for _ in 0..self.items.len() {
                match self.notify() {
                    Notice::Sent => wake = self.waker(),
                    Notice::Full | Notice::NoTarget => break,
                }
            }
        }
        Afterwards { wake, gone }
    }

    /// Sends one notice. Never blocks: the worker that reads the mailbox may be the one that sends.
    fn notify(&self) -> Notice {
        let Some(target) = &self.target else {
            return Notice::NoTarget;
        };
        if target.mailbox.len() >= MAX_NOTICES {
            return Notice::Full;
        }
        let notice = QueueReady { vm: target.vm, root_context: target.root_context, token: self.token };
        match target.mailbox.try_send(notice) {
            Ok(()) => Notice::Sent,
            Err(TrySendError::Full(_)) => Notice::Full,
            Err(TrySendError::Disconnected(_)) => Notice::NoTarget,
        }
    }

    fn waker(&self) -> Option<Waker> {
        self.target.as_ref().and_then(|target| target.wake.clone())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use crossbeam_channel::{bounded, unbounded, Receiver};

    use super::*;

    fn target(worker: u64) -> (QueueTarget, Receiver<QueueReady>) {
        let (mailbox, notices) = unbounded();
        (QueueTarget { worker, vm: worker * 10, root_context: 1, mailbox, wake: None }, notices)
    }

    fn push(queue: &mut Queue, item: &[u8]) -> Result<(), Status> {
        queue.push(item.into()).map(Afterwards::run)
    }

    #[test]
    fn items_come_in_order_with_a_notice_each() {
        let mut queue = Queue::new(3);
        let (to, notices) = target(7);
        queue.set_target(to).run();
        assert_eq!(queue.pop(), None);
        push(&mut queue, b"one").unwrap();
        push(&mut queue, b"").unwrap();
        assert_eq!(queue.cost(), 2 * ITEM_OVERHEAD + 3);
        let notice = QueueReady { vm: 70, root_context: 1, token: 3 };
        assert_eq!(notices.try_iter().collect::<Vec<_>>(), [notice, notice]);
        assert_eq!(queue.pop().as_deref(), Some(&b"one"[..]));
        assert_eq!(queue.pop().as_deref(), Some(&b""[..]));
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn a_new_target_is_told_of_what_nobody_was_left_to_take() {
        let mut queue = Queue::new(1);
        let (first, first_notices) = target(1);
        let (second, second_notices) = target(2);
        queue.set_target(first.clone()).run();
        push(&mut queue, b"x").unwrap();
        assert!(queue.forget(|target| target.worker == 3).is_none());
        push(&mut queue, b"y").unwrap();
        assert!(queue.forget(|target| target.worker == 1).is_some());
        push(&mut queue, b"z").unwrap();
        assert_eq!(first_notices.len(), 2);
        queue.set_target(second).run();
        assert_eq!(second_notices.len(), 3);
        // One that is replaced got its notices, and is still there to act on them.
        queue.set_target(first).run();
        assert_eq!(first_notices.len(), 2);
    }

    #[test]
    fn a_dropped_mailbox_is_no_target() {
        let mut queue = Queue::new(1);
        let (first, notices) = target(1);
        queue.set_target(first).run();
        drop(notices);
        push(&mut queue, b"x").unwrap();
        let (second, notices) = target(2);
        queue.set_target(second).run();
        assert_eq!(notices.len(), 1);
    }

    #[test]
    fn the_waker_runs_once_for_each_call_that_sent() {
        let mut queue = Queue::new(1);
        let (mut to, notices) = target(1);
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = calls.clone();
        to.wake = Some(Arc::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        queue.set_target(to.clone()).run();
        assert_eq!(calls.load(Ordering::Relaxed), 0);
        push(&mut queue, b"x").unwrap();
        push(&mut queue, b"y").unwrap();
        assert_eq!((calls.load(Ordering::Relaxed), notices.len()), (2, 2));
        drop(queue.forget(|target| target.worker == 1));
        push(&mut queue, b"z").unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 2);
        queue.set_target(to).run();
        assert_eq!((calls.load(Ordering::Relaxed), notices.len()), (3, 5));
    }

    #[test]
    fn a_full_mailbox_refuses_the_item_instead_of_losing_its_notice() {
        let mut queue = Queue::new(1);
        let (mut to, _unused) = target(1);
        let (mailbox, notices) = bounded(1);
        to.mailbox = mailbox;
        queue.set_target(to).run();
        push(&mut queue, b"x").unwrap();
        assert_eq!(push(&mut queue, b"y"), Err(Status::InternalFailure));
        notices.recv().unwrap();
        assert_eq!(queue.pop().as_deref(), Some(&b"x"[..]));
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn items_and_notices_are_bounded() {
        let (mut full, mut empty) = (Queue::new(1), Queue::new(2));
        let (to, notices) = target(1);
        full.set_target(to.clone()).run();
        empty.set_target(to).run();
        for _ in 0..MAX_ITEMS {
            push(&mut full, b"").unwrap();
        }
        assert_eq!(push(&mut empty, b""), Err(Status::InternalFailure));
        notices.recv().unwrap();
        assert_eq!(push(&mut full, b""), Err(Status::InternalFailure));
        push(&mut empty, b"").unwrap();
        while full.pop().is_some() {}
        assert!(full.items.capacity() <= KEPT_CAPACITY);
    }
}
