// SPDX-License-Identifier: Apache-2.0
//! Section: worker.

use super::boundary::{boundary, boundary_void, this_thread, Failure, Outcome};
use super::callbacks::{CHost, WakeCell};
use super::convert::{bytes, give, handle, out, take, write_sized};
use super::engine::proxywasm_engine;
use super::plugin::proxywasm_plugin;
use super::types::*;
use super::vtable::proxywasm_host;
use crate::worker::{InstanceHandle, Worker};
use libc::c_void;
use std::cell::{Cell, RefCell};
use std::mem::size_of;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// One event loop's plugins. Owned, the thread that made it or to which it was moved.
pub struct proxywasm_worker(pub(super) Rc<Owner>);

/// A plugin in a worker. Owned, the worker's thread.
pub struct proxywasm_instance {
    pub(super) owner: Rc<Owner>,
    pub(super) instance: InstanceHandle,
}

/// What all handles of a worker hold: it outlives the worker, so that a handle which outlives it is answered and not undefined.
pub(super) struct Owner {
    /// Read on any thread, to find out whether it is the one.
    thread: AtomicUsize,
    state: Cell<OwnerState>,
    worker: RefCell<Option<Worker>>,
    wake: Arc<WakeCell>,
}

/// Whether a worker can be used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OwnerState {
    Sound,
    /// A fault was caught in a call on this worker; what it left behind is not to be trusted.
    Poisoned,
    Freed,
}

impl Owner {
    #[inline(always)]
    pub(super) fn check_thread(&self) -> Outcome {
        if self.thread.load(Ordering::Relaxed) == this_thread() {
            return Ok(());
        }
        let text = "this handle belongs to the thread of its worker";
        Err(Failure::new(proxywasm_result::WRONG_THREAD, text))
    }

    /// Runs something on the worker's thread, while the worker is there and sound. A panic poisons it.
    pub(super) fn guard<R>(&self, run: impl FnOnce() -> Outcome<R>) -> Outcome<R> {
        self.check_thread()?;
        match self.state.get() {
            OwnerState::Sound => {}
            OwnerState::Poisoned => {
                let text = "a fault was caught in this worker earlier: free it and make a new one";
                return Err(Failure::new(proxywasm_result::POISONED, text));
            }
            OwnerState::Freed => return Err(Failure::invalid("the worker of this handle was freed")),
        }
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(result) => result,
            Err(payload) => {
                self.state.set(OwnerState::Poisoned);
                Err(Failure::panic(&*payload))
            }
        }
    }

    /// The same with the worker at hand.
    pub(super) fn with<R>(&self, run: impl FnOnce(&Worker) -> Outcome<R>) -> Outcome<R> {
        self.guard(|| match self.worker.try_borrow().as_deref() {
            Ok(Some(worker)) => run(worker),
            _ => Err(Failure::invalid("the worker of this handle was freed")),
        })
    }

    /// Whether a fault was met.
    pub(super) fn is_poisoned(&self) -> bool {
        self.state.get() == OwnerState::Poisoned
    }

    /// Drops what belongs to the worker on the worker's thread. After a fault it is left alone: it may be inconsistent.
    pub(super) fn dispose<T>(&self, object: Box<T>) -> Outcome {
        if self.check_thread().is_err() || self.is_poisoned() {
            // Leaked on purpose: memory is what it costs.
            let _ = Box::into_raw(object);
            return self.check_thread();
        }
        match catch_unwind(AssertUnwindSafe(|| drop(object))) {
            Ok(()) => Ok(()),
            Err(payload) => {
                self.state.set(OwnerState::Poisoned);
                resume_unwind(payload)
            }
        }
    }
}

/// Makes a worker on this thread. `host` is copied and need not outlive the call; `user_data` is passed to its callbacks.
///
/// Errors: INVALID_ARGUMENT (also: the process was forked and `proxywasm_engine_fork_child` was not called), ABI_MISMATCH.
#[no_mangle]
pub extern "C" fn proxywasm_worker_new(
    engine: *const proxywasm_engine,
    host: *const proxywasm_host,
    user_data: *mut c_void,
    out_worker: *mut *mut proxywasm_worker,
) -> i32 {
    boundary(|| {
        let engine = handle(engine, "engine")?;
        let host = CHost::new(host, user_data)?;
        let place = out(out_worker, "out_worker")?;
        let wake = host.wake_cell();
        let worker = Worker::new(&engine.0, Box::new(host))?;
        let owner = Owner {
            thread: AtomicUsize::new(this_thread()),
            state: Cell::new(OwnerState::Sound),
            worker: RefCell::new(Some(worker)),
            wake,
        };
        give(&place, proxywasm_worker(Rc::new(owner)));
        Ok(())
    })
}

/// Makes the calling thread the one that the worker, its instances, chains and streams belong to. For a proxy that has a lock for each
/// worker and lets several threads into it: the caller sees to it that no other thread is inside a call on the worker or anything of it,
/// and that what the last one did is visible here, as a mutex does both. Costs next to nothing when the thread is the same.
///
/// Errors: INVALID_ARGUMENT, REENTRANT (inside a host callback of the worker), POISONED (it has been moved, and can be freed here).
#[no_mangle]
pub extern "C" fn proxywasm_worker_move(worker: *const proxywasm_worker) -> i32 {
    boundary(|| {
        let owner = &handle(worker, "worker")?.0;
        if let Ok(Some(core)) = owner.worker.try_borrow().as_deref() {
            core.check_outside()?;
        }
        owner.thread.store(this_thread(), Ordering::Relaxed);
        owner.with(|_| Ok(()))
    })
}

/// Adds a plugin: makes its VM or joins one with equal VM id, VM configuration and code, then runs `proxy_on_context_create`,
/// `proxy_on_vm_start` and `proxy_on_configure` for its root context.
///
/// Errors: INVALID_ARGUMENT, WRONG_THREAD, REENTRANT, POISONED, GUEST_TRAP, GUEST_TIMEOUT, GUEST_LIMIT, GUEST_REJECTED, NO_MEMORY.
#[no_mangle]
pub extern "C" fn proxywasm_worker_add_plugin(
    worker: *const proxywasm_worker,
    plugin: *const proxywasm_plugin,
    out_instance: *mut *mut proxywasm_instance,
) -> i32 {
    boundary(|| {
        let (worker, plugin) = (handle(worker, "worker")?, handle(plugin, "plugin")?);
        let place = out(out_instance, "out_instance")?;
        let instance = worker.0.with(|core| Ok(core.add_plugin(&plugin.0)?))?;
        give(&place, proxywasm_instance { owner: worker.0.clone(), instance });
        Ok(())
    })
}

/// Takes a plugin out of its worker and frees the handle, also on failure. Chains that have it go on working, and
/// keep its VM until they are freed. When the last stream with it has
/// ended, `proxy_on_done` of its root context runs; a guest that answers false is kept until it calls `proxy_done`. NULL does nothing.
///
/// Errors: WRONG_THREAD, REENTRANT (the handle stays good with these two), POISONED.
#[no_mangle]
pub extern "C" fn proxywasm_instance_remove(instance: *mut proxywasm_instance) -> i32 {
    boundary(|| {
        // SAFETY: the caller passes NULL or a handle that it has not freed.
        let Some(given) = (unsafe { instance.as_ref() }) else { return Ok(()) };
        let removed = given.owner.with(|core| Ok(core.remove_plugin(given.instance.clone())?));
        let keep = [proxywasm_result::WRONG_THREAD, proxywasm_result::REENTRANT];
        if !removed.as_ref().is_err_and(|failure| keep.contains(&failure.result)) {
            let owner = given.owner.clone();
            take(instance).map_or(Ok(()), |instance| owner.dispose(instance))?;
        }
        removed
    })
}

/// Calls `proxy_on_foreign_function` of a plugin's root context, which reads `argument` as buffer 8 (call data).
///
/// Errors: INVALID_ARGUMENT, WRONG_THREAD, REENTRANT, POISONED, GUEST_TRAP, GUEST_TIMEOUT, GUEST_LIMIT, GUEST_UNAVAILABLE.
#[no_mangle]
pub extern "C" fn proxywasm_instance_on_foreign_function(
    instance: *const proxywasm_instance,
    function_id: u32,
    argument: proxywasm_slice,
) -> i32 {
    boundary(|| {
        let instance = handle(instance, "instance")?;
        let argument = bytes(argument, "argument")?;
        instance.owner.guard(|| Ok(instance.instance.call_foreign(function_id, argument)?))
    })
}

/// Nanoseconds until `proxywasm_worker_on_timeout` wants to be called, 0 when it is due, UINT64_MAX when nothing waits. Ask after
/// every call on the worker, or when `proxywasm_host.timeout_changed` says so.
///
/// Errors: INVALID_ARGUMENT, WRONG_THREAD, POISONED.
#[no_mangle]
pub extern "C" fn proxywasm_worker_timeout_ns(worker: *const proxywasm_worker, out_timeout_ns: *mut u64) -> i32 {
    boundary(|| {
        let worker = handle(worker, "worker")?;
        let place = out(out_timeout_ns, "out_timeout_ns")?;
        place.set(worker.0.with(|core| Ok(core.timeout_ns().unwrap_or(u64::MAX)))?);
        Ok(())
    })
}

/// Runs what is due: `proxy_on_tick`, and new VMs for plugins that failed. Harmless when nothing is.
///
/// Errors: INVALID_ARGUMENT, WRONG_THREAD, REENTRANT, POISONED.
#[no_mangle]
pub extern "C" fn proxywasm_worker_on_timeout(worker: *const proxywasm_worker) -> i32 {
    boundary(|| handle(worker, "worker")?.0.with(|core| Ok(core.on_timeout()?)))
}

/// Does what other threads left for this worker, after `proxywasm_host.wake`: notices of shared queues. Harmless when there is nothing.
///
/// Errors: INVALID_ARGUMENT, WRONG_THREAD, REENTRANT, POISONED.
#[no_mangle]
pub extern "C" fn proxywasm_worker_run_pending(worker: *const proxywasm_worker) -> i32 {
    boundary(|| handle(worker, "worker")?.0.with(|core| Ok(core.run_pending()?)))
}

/// Tells that a queue of the host's own (`proxywasm_host.register_queue`), registered by a plugin of this worker, has an item.
///
/// Errors: INVALID_ARGUMENT, NOT_FOUND, WRONG_THREAD, REENTRANT, POISONED.
#[no_mangle]
pub extern "C" fn proxywasm_worker_queue_ready(worker: *const proxywasm_worker, queue: u32) -> i32 {
    boundary(|| handle(worker, "worker")?.0.with(|core| Ok(core.queue_ready(queue)?)))
}

/// Whether no stream lives and no removed plugin waits for `proxy_done`: the worker can be freed without loss.
///
/// Errors: INVALID_ARGUMENT, WRONG_THREAD, POISONED.
#[no_mangle]
pub extern "C" fn proxywasm_worker_is_idle(worker: *const proxywasm_worker, out_idle: *mut bool) -> i32 {
    boundary(|| {
        let worker = handle(worker, "worker")?;
        let place = out(out_idle, "out_idle")?;
        place.set(worker.0.with(|core| Ok(core.is_idle()))?);
        Ok(())
    })
}

/// Counts of a worker. The caller sets `out_stats->struct_size`.
///
/// Errors: INVALID_ARGUMENT, WRONG_THREAD, POISONED.
#[no_mangle]
pub extern "C" fn proxywasm_worker_get_stats(
    worker: *const proxywasm_worker,
    out_stats: *mut proxywasm_worker_stats,
) -> i32 {
    boundary(|| {
        let stats = handle(worker, "worker")?.0.with(|core| Ok(core.stats()))?;
        let stats = proxywasm_worker_stats {
            struct_size: size_of::<proxywasm_worker_stats>(),
            vms: stats.vms,
            vms_created: stats.vms_created,
            vms_failed: stats.vms_failed,
            streams: stats.streams,
            streams_created: stats.streams_created,
            callouts: stats.callouts,
            memory: stats.memory,
        };
        write_sized(out_stats, &stats, "out_stats")
    })
}

/// Frees a worker. Calls in flight are cancelled; guests run no more, also not their `proxy_on_done`: remove the plugins first where that
/// matters. Streams, chains and instances that are left answer INVALID_ARGUMENT from then on, and must still be freed. Inside a
/// callback of the worker, or on another thread, nothing happens. NULL does nothing.
#[no_mangle]
pub extern "C" fn proxywasm_worker_free(worker: *mut proxywasm_worker) {
    boundary_void(|| {
        // SAFETY: the caller passes NULL or a handle that it has not freed.
        let Some(given) = (unsafe { worker.as_ref() }) else { return Ok(()) };
        let owner = given.0.clone();
        owner.check_thread()?;
        if let Ok(Some(core)) = owner.worker.try_borrow().as_deref() {
            core.check_outside()?;
        }
        owner.wake.close();
        let core = owner.worker.take();
        if !owner.is_poisoned() {
            owner.state.set(OwnerState::Freed);
        }
        take(worker);
        core.map_or(Ok(()), |core| owner.dispose(Box::new(core)))
    });
}
