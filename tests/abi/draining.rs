// SPDX-License-Identifier: Apache-2.0
//! Plugins that are removed, and workers that end.

use crate::support::{chunk, forwarded, Event, Setup};
use crate::trace::*;
use proxywasm::Direction::{Request, Response};
use proxywasm::*;

fn setup(guest: Guest) -> Setup {
    let setup = Setup::with(&guest.build(), PluginConfig::new("plugin"));
    setup.mock.take_log();
    setup
}

fn remove(setup: &mut Setup) {
    let instance = setup.instances.remove(0);
    setup.worker.remove_plugin(instance).unwrap();
}

/// A setup without its chain and instances, which keep a VM alive.
fn worker_alone(setup: Setup) -> Worker {
    let Setup { worker, instances, chain, .. } = setup;
    drop((instances, chain));
    worker
}

#[test]
fn a_removed_plugin_is_told_done_and_deleted_and_its_vm_goes() {
    let mut setup = setup(Guest::everything());
    remove(&mut setup);
    assert_eq!(setup.mock.take_log(), ["done 1", "delete 1"]);
    let worker = worker_alone(setup);
    worker.run_pending().unwrap();
    assert_eq!((worker.stats().vms, worker.stats().memory, worker.stats().vms_created), (0, 0, 1));
    assert!(worker.is_idle());
}

#[test]
fn a_plugin_with_live_streams_ends_with_the_last_of_them_and_the_chain_works_until_then() {
    let mut setup = setup(Guest::everything());
    let (one, two) = (setup.http(1), setup.http(2));
    one.on_headers(Request, 0, false).unwrap();
    two.on_headers(Request, 0, true).unwrap();
    setup.mock.take_log();
    remove(&mut setup);
    assert!(setup.mock.take_log().is_empty());
    one.on_body(Request, &chunk("x"), true).unwrap();
    assert_eq!(forwarded(&one, Request), "x");
    one.on_headers(Response, 0, true).unwrap();
    one.finish().unwrap();
    assert_eq!(setup.mock.take_log(), ["request_body 2 1 1", "response_headers 2 0 1", "done 2", "delete 2"]);
    two.finish().unwrap();
    assert_eq!(setup.mock.take_log(), ["done 3", "delete 3", "done 1", "delete 1"]);
    drop((one, two));
    let worker = worker_alone(setup);
    worker.run_pending().unwrap();
    assert_eq!(worker.stats().vms, 0);
}

#[test]
fn a_chain_takes_new_streams_while_an_old_one_drains() {
    let mut setup = setup(Guest::everything());
    let old = setup.http(1);
    old.on_headers(Request, 0, true).unwrap();
    remove(&mut setup);
    setup.mock.take_log();
    let new = setup.http(2);
    assert_eq!(told(&new.on_headers(Request, 0, true).unwrap()), (Action::Continue, true, false, true));
    assert_eq!(setup.mock.take_log(), ["context_create 3 1", "request_headers 3 0 1"]);
    old.finish().unwrap();
    assert_eq!(setup.mock.take_log(), ["done 2", "delete 2"]);
    new.finish().unwrap();
    assert_eq!(setup.mock.take_log(), ["done 3", "delete 3", "done 1", "delete 1"]);
}

#[test]
fn a_root_that_is_not_done_goes_on_until_it_calls_proxy_done() {
    let guest = Guest::everything()
        .on("configure", "(call $tick_ms (i32.const 10)) (i32.const 1)")
        .gives("done", 0)
        .on("tick", "(if (i32.eq (call $next) (i32.const 2)) (then (call $status (call $proxy_done))))");
    let mut setup = setup(guest);
    remove(&mut setup);
    assert_eq!(setup.mock.take_log(), ["done 1"]);
    assert!(!setup.worker.is_idle());
    let mock = setup.mock.clone();
    let worker = worker_alone(setup);
    worker.run_pending().unwrap();
    assert_eq!(worker.stats().vms, 1, "the VM is needed until then");
    mock.advance(10);
    worker.on_timeout().unwrap();
    assert_eq!(mock.take_log(), ["tick 1"]);
    mock.advance(10);
    worker.on_timeout().unwrap();
    assert_eq!(mock.take_log(), ["tick 1", "status=0", "delete 1"]);
    assert!(worker.is_idle());
    assert_eq!(worker.timeout_ns(), None, "its ticks end with it");
    worker.run_pending().unwrap();
    assert_eq!(worker.stats().vms, 0);
}

#[test]
fn a_call_that_a_draining_root_waits_for_is_answered() {
    let guest = Guest::everything()
        .on("done", "(drop (call $call)) (i32.const 0)")
        .on("http_call_response", "(drop (call $proxy_done))");
    let mut setup = setup(guest);
    remove(&mut setup);
    let token = setup.mock.last_token();
    setup.mock.take_log();
    setup.worker.http_call_complete(token, None).unwrap();
    assert_eq!(setup.mock.take_log(), ["http_call_response 1 4 0 0 0", "delete 1"]);
}

#[test]
fn proxy_done_without_anything_pending_is_not_found() {
    let setup = setup(Guest::everything().on("foreign_function", "(call $status (call $proxy_done))"));
    setup.instances[0].call_foreign(0, b"").unwrap();
    assert_eq!(setup.mock.take_log(), ["foreign_function 1 0 0", "status=1"]);
}

#[test]
fn proxy_done_a_second_time_is_not_found() {
    let guest = Guest::everything()
        .gives("done", 0)
        .on("tick", "(call $status (call $proxy_done)) (call $status (call $proxy_done))");
    let mut setup = setup(guest.on("configure", "(call $tick_ms (i32.const 10)) (i32.const 1)"));
    remove(&mut setup);
    setup.mock.take_log();
    setup.mock.advance(10);
    setup.worker.on_timeout().unwrap();
    assert_eq!(setup.mock.take_log(), ["tick 1", "status=0", "status=1", "delete 1"]);
}

#[test]
fn plugins_with_equal_keys_share_a_root_that_ends_with_the_last() {
    let wasm = Guest::everything().build();
    let config = || PluginConfig::new("same");
    let mut setup = Setup::chain(&[(&wasm, config()), (&wasm, config())]);
    assert_eq!(setup.mock.take_log(), ["context_create 1 0", "vm_start 1 0", "configure 1 0"]);
    remove(&mut setup);
    assert!(setup.mock.take_log().is_empty(), "the other needs it");
    let chain = setup.worker.chain(&[&setup.instances[0]]).unwrap();
    let stream = setup.worker.stream(&chain, StreamKind::Http, StreamData(1)).unwrap();
    stream.on_headers(Request, 0, true).unwrap();
    stream.finish().unwrap();
    assert_eq!(setup.mock.take_log()[0], "context_create 2 1");
    remove(&mut setup);
    assert_eq!(setup.mock.take_log(), ["done 1", "delete 1"]);
}

#[test]
fn a_new_configuration_of_a_plugin_gets_a_new_root_while_the_old_one_drains() {
    let wasm = Guest::everything().build();
    let mut setup = Setup::with(&wasm, PluginConfig::new("plugin"));
    let old = setup.http(1);
    old.on_headers(Request, 0, true).unwrap();
    let mut config = PluginConfig::new("plugin");
    config.configuration = b"new".to_vec();
    let plugin = Plugin::new(&Module::compile(&setup.engine, &wasm).unwrap(), config).unwrap();
    setup.mock.take_log();
    let new = setup.worker.add_plugin(&plugin).unwrap();
    assert_eq!(setup.mock.take_log(), ["context_create 3 0", "vm_start 3 0", "configure 3 3"]);
    remove(&mut setup);
    let chain = setup.worker.chain(&[&new]).unwrap();
    let stream = setup.worker.stream(&chain, StreamKind::Http, StreamData(2)).unwrap();
    stream.on_headers(Request, 0, true).unwrap();
    assert_eq!(setup.mock.take_log(), ["context_create 4 3", "request_headers 4 0 1"]);
    old.finish().unwrap();
    assert_eq!(setup.mock.take_log(), ["done 2", "delete 2", "done 1", "delete 1"]);
    assert_eq!((setup.worker.stats().vms, setup.worker.stats().vms_created), (1, 1));
}

#[test]
fn the_same_plugin_added_again_after_its_end_starts_anew() {
    let wasm = Guest::everything().build();
    let mut setup = Setup::with(&wasm, PluginConfig::new("plugin"));
    let plugin = setup.instances[0].plugin().clone();
    remove(&mut setup);
    let Setup { mock, worker, chain, .. } = setup;
    drop(chain);
    mock.take_log();
    let _again = worker.add_plugin(&plugin).unwrap();
    assert_eq!(mock.take_log(), ["context_create 1 0", "vm_start 1 0", "configure 1 0"]);
    assert_eq!((worker.stats().vms, worker.stats().vms_created), (1, 2));
}

#[test]
fn a_removed_plugin_whose_vm_failed_ends_quietly() {
    let mut setup = setup(Guest::everything().on("foreign_function", "(unreachable)"));
    let stream = setup.http(1);
    stream.on_headers(Request, 0, true).unwrap();
    let _ = setup.instances[0].call_foreign(0, b"");
    setup.mock.take_log();
    remove(&mut setup);
    stream.finish().unwrap();
    setup.mock.advance(10_000);
    setup.worker.on_timeout().unwrap();
    assert!(setup.mock.take_log().is_empty());
    assert_eq!((setup.worker.stats().vms, setup.worker.stats().vms_created), (0, 1));
}

#[test]
fn a_trap_while_it_is_told_the_end_ends_it_all_the_same() {
    for phase in ["done", "delete"] {
        let mut setup = setup(Guest::everything().on(phase, "(unreachable)"));
        remove(&mut setup);
        assert_eq!(critical(&setup.mock).len(), 1, "{phase}");
        let worker = worker_alone(setup);
        worker.run_pending().unwrap();
        assert_eq!((worker.stats().vms, worker.is_idle()), (0, true), "{phase}");
    }
}

#[test]
fn a_worker_that_ends_cancels_its_calls_and_calls_nobody() {
    let setup = setup(Guest::everything().on("request_headers", "(drop (call $call)) (i32.const 1)"));
    let stream = setup.http(1);
    stream.on_headers(Request, 0, true).unwrap();
    let token = setup.mock.last_token();
    setup.mock.take_events();
    let Setup { mock, worker, instances, chain, engine } = setup;
    mock.take_log();
    drop(worker);
    assert_eq!(mock.take_events(), [Event::Cancel { token }]);
    // What outlives it is answered, and reaches neither guest nor host.
    let _ = stream.on_body(Request, &chunk("x"), true);
    let _ = stream.finish();
    let _ = instances[0].call_foreign(1, b"");
    drop((stream, chain, instances, engine));
    assert!(mock.take_log().is_empty());
    assert!(mock.take_events().is_empty());
}

#[test]
fn a_stream_that_is_dropped_without_finish_leaves_the_vm_without_running_it() {
    let setup = setup(
        Guest::everything().on("foreign_function", "(call $status (call $proxy_set_effective_context (i32.const 2)))"),
    );
    let stream = setup.http(1);
    stream.on_headers(Request, 0, true).unwrap();
    setup.mock.take_log();
    drop(stream);
    assert!(setup.mock.take_log().is_empty());
    setup.instances[0].call_foreign(0, b"").unwrap();
    assert_eq!(setup.mock.take_log()[1], "status=2", "its context is gone");
    assert_eq!((setup.worker.stats().streams, setup.worker.stats().streams_created), (0, 1));
}
