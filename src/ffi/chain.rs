// SPDX-License-Identifier: Apache-2.0
//! Section: chain.

use super::boundary::{boundary, boundary_void, Failure};
use super::convert::{array, give, handle, out, take};
use super::worker::{proxywasm_instance, proxywasm_worker, Owner};
use crate::chain::{Chain, Isolation};
use crate::worker::InstanceHandle;
use std::rc::Rc;

/// Plugins in the order in which requests pass them; responses pass them backward. Owned, the worker's thread.
pub struct proxywasm_chain {
    pub(super) owner: Rc<Owner>,
    pub(super) chain: Chain,
}

/// Joins instances of one worker to a chain. The array is not needed afterwards. 0 instances make a chain through which everything passes.
///
/// Errors: INVALID_ARGUMENT, WRONG_THREAD, POISONED.
#[no_mangle]
pub extern "C" fn proxywasm_chain_new(
    worker: *const proxywasm_worker,
    instances: *const *const proxywasm_instance,
    count: usize,
    out_chain: *mut *mut proxywasm_chain,
) -> i32 {
    boundary(|| {
        let worker = handle(worker, "worker")?;
        let place = out(out_chain, "out_chain")?;
        worker.0.check_thread()?;
        let mut list: Vec<&InstanceHandle> = Vec::new();
        for &instance in array(instances, count, "instances")? {
            list.push(&handle(instance, "an instance")?.instance);
        }
        let chain = worker.0.with(|core| Ok(core.chain(&list)?))?;
        give(&place, proxywasm_chain { owner: worker.0.clone(), chain });
        Ok(())
    })
}

/// Which VMs the streams of a chain use that begin from now on: a `proxywasm_isolation`. SHARED is the default.
///
/// A VM of a stream's own is made when the stream first needs a plugin in it, and is started as the worker's was: `proxy_on_context_create`,
/// `proxy_on_vm_start` and `proxy_on_configure` run again. It ends with the stream: its calls in flight are cancelled, its ticks cease,
/// `proxy_on_done` of its root contexts does not run. Limits hold for each VM. When it fails, or does not start, that stream ends or goes on
/// by the plugin's failure policy; no other stream notices, also with CLOSED. Queues that it registers go on being announced in the worker's
/// VM, which ticks and listens besides.
///
/// Errors: INVALID_ARGUMENT, WRONG_THREAD, POISONED.
#[no_mangle]
pub extern "C" fn proxywasm_chain_set_isolation(chain: *const proxywasm_chain, isolation: i32) -> i32 {
    boundary(|| {
        let chain = handle(chain, "chain")?;
        let isolation = match isolation {
            0 => Isolation::Shared,
            1 => Isolation::Stream,
            2 => Isolation::Plugin,
            _ => return Err(Failure::invalid(format!("{isolation} is no isolation"))),
        };
        chain.owner.guard(|| {
            chain.chain.set_isolation(isolation);
            Ok(())
        })
    })
}

/// The phases in which any plugin of a chain takes part, as `proxywasm_phase` bits; the others need not be run, so that a proxy keeps its
/// fast paths. Request headers and new connections are always among them: contexts begin there. 0 for NULL and an empty chain.
#[no_mangle]
pub extern "C" fn proxywasm_chain_phases(chain: *const proxywasm_chain) -> u32 {
    handle(chain, "chain").map_or(0, |chain| chain.chain.phases().0)
}

/// Number of plugins of a chain. 0 for NULL.
#[no_mangle]
pub extern "C" fn proxywasm_chain_length(chain: *const proxywasm_chain) -> usize {
    handle(chain, "chain").map_or(0, |chain| chain.chain.len())
}

/// Frees a chain. Streams on it go on.
#[no_mangle]
pub extern "C" fn proxywasm_chain_free(chain: *mut proxywasm_chain) {
    boundary_void(|| match take(chain) {
        Some(chain) => {
            let owner = chain.owner.clone();
            owner.dispose(chain)
        }
        None => Ok(()),
    });
}
