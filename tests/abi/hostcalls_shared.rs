// SPDX-License-Identifier: Apache-2.0
//! Shared data and shared queues.
//!
//! | hostcall | tests |
//! |---|---|
//! | `proxy_get_shared_data`, `proxy_set_shared_data` | `shared_data_*`, `data_*` |
//! | `proxy_register_shared_queue`, `proxy_resolve_shared_queue` | `registering_*`, `resolving_*` |
//! | `proxy_enqueue_shared_queue`, `proxy_dequeue_shared_queue` | `queues_*`, `items_*`, `enqueuing_*` |
//! | all | `a_pointer_*`, `a_host_with_*` |

use crate::support::*;
use proxywasm::abi::Status;
use proxywasm::*;
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

fn with_vm_id(vm_id: &str) -> PluginConfig {
    config_with(|config| config.vm_id = vm_id.into())
}

fn engine() -> Engine {
    Engine::new(&EngineConfig::new()).unwrap()
}

/// A worker of its own on an engine, whose start has been checked.
fn worker(engine: &Engine, script: &Script, vm_id: &str) -> Setup {
    let setup = Setup::on_engine(engine, &Mock::default(), &[(&script.wasm, with_vm_id(vm_id))]).unwrap();
    script.check_start(&setup.mock);
    setup
}

#[test]
fn shared_data_of_an_unknown_key_is_not_found() {
    in_configure("get_shared_data 'k' out 24 ; @16 @20 @24 => 1 7 7 7");
}

#[test]
fn shared_data_that_was_set_is_read_with_its_cas() {
    in_configure(
        "set_shared_data 'k' 'value' 0
         get_shared_data 'k' out 24 ; text @24 => 0 [value] 1
         set_shared_data 'k' 'other' 0
         get_shared_data 'k' out 24 ; text @24 => 0 [other] 2",
    );
}

#[test]
fn shared_data_is_written_with_the_right_cas_only() {
    in_configure(
        "set_shared_data 'k' 'one' 0
         get_shared_data 'k' out 28 ; @28 => 0 1
         set_shared_data 'k' 'two' @28
         set_shared_data 'k' 'three' @28 => 8
         set_shared_data 'k' 'three' 99 => 8
         get_shared_data 'k' out 28 ; text => 0 [two]
         set_shared_data 'k' 'three' @28
         get_shared_data 'k' out 24 ; text => 0 [three]
         set_shared_data 'k' 'any' 0",
    );
}

#[test]
fn shared_data_of_a_new_key_takes_any_cas() {
    in_configure("set_shared_data 'k' 'value' 42\n get_shared_data 'k' out 24 ; text => 0 [value]");
}

#[test]
fn shared_data_has_one_counter_for_all_keys() {
    in_configure(
        "set_shared_data 'a' '' 0
         set_shared_data 'b' '' 0
         get_shared_data 'b' out 24 ; @24 => 0 2
         set_shared_data 'a' '' 1
         get_shared_data 'a' out 24 ; @24 => 0 3",
    );
}

#[test]
fn shared_data_may_be_empty_which_is_ok_null_and_0_with_a_cas() {
    in_configure("set_shared_data 'k' '' 0\n get_shared_data 'k' out 24 ; @16 @20 @24 => 0 0 0 1");
    in_configure(
        "set_shared_data 'k' 'x' 0\n set_shared_data 'k' 0 0 0\n get_shared_data 'k' out 24 ; @16 @20 => 0 0 0",
    );
    in_configure("set_shared_data '' 'x' 0\n get_shared_data '' out 24 ; text => 0 [x]");
}

#[test]
fn shared_data_takes_any_bytes() {
    in_configure("set_shared_data '\\0k' 'a\\0b' 0\n get_shared_data '\\0k' out 24 ; text => 0 [a\\0b]\n get_shared_data '' out 24 => 1");
}

#[test]
fn shared_data_with_a_key_beyond_64_kib_is_an_internal_failure() {
    in_configure("set_shared_data 65536 65536 'x' 0\n set_shared_data 65536 65537 'x' 0 => 10");
}

#[test]
fn data_is_seen_by_all_workers_of_an_engine_and_guarded_by_cas_between_them() {
    let engine = engine();
    let writer = script(&[
        ("configure", "set_shared_data 'k' 'one' 0"),
        ("foreign_function", "set_shared_data 'k' 'lost' 1 => 8"),
    ]);
    let reader =
        script(&[("configure", "get_shared_data 'k' out 28 ; text @28 => 0 [one] 1\n set_shared_data 'k' 'two' @28")]);
    let first = worker(&engine, &writer, "vm");
    let _second = worker(&engine, &reader, "vm");
    first.instances[0].call_foreign(0, b"").unwrap();
    writer.check(&first.mock, &["foreign_function"]);
}

#[test]
fn data_of_another_vm_id_or_another_engine_is_not_seen() {
    let engine = engine();
    let writer = script(&[("configure", "set_shared_data 'k' 'one' 0")]);
    let reader = script(&[("configure", "get_shared_data 'k' out 24 => 1")]);
    let _writer = worker(&engine, &writer, "vm");
    worker(&engine, &reader, "other");
    worker(&engine, &reader, "");
    worker(&self::engine(), &reader, "vm");
}

#[test]
fn data_is_dropped_with_the_last_plugin_of_its_vm_id() {
    let engine = engine();
    let writer = script(&[("configure", "set_shared_data 'k' 'one' 0")]);
    let keeper = script(&[]);
    let there = script(&[("configure", "get_shared_data 'k' out 24 ; text => 0 [one]")]);
    let gone = script(&[("configure", "get_shared_data 'k' out 24 => 1")]);
    let kept = worker(&engine, &keeper, "vm");
    drop(worker(&engine, &writer, "vm"));
    drop(worker(&engine, &there, "vm"));
    drop(kept);
    worker(&engine, &gone, "vm");
}

#[test]
fn a_pointer_outside_memory_is_an_invalid_memory_access() {
    in_configure(
        "set_shared_data -8 4 'v' 0 => 6
         set_shared_data 'k' -8 4 0 => 6
         set_shared_data 1024 -1 'v' 0 => 6
         get_shared_data 'k' out 24 => 1
         set_shared_data 'k' 'v' 0
         get_shared_data -8 4 out 24 => 6
         get_shared_data 'k' -8 20 24 => 6
         get_shared_data 'k' 16 -8 24 => 6
         get_shared_data 'k' out -8 => 6
         get_shared_data 'k' out 262141 => 6
         register_shared_queue -8 4 28 => 6
         register_shared_queue 'q' -8 => 6
         register_shared_queue 'q' 262141 => 6
         resolve_shared_queue '' 'q' 28 => 1
         register_shared_queue 'q' 28
         resolve_shared_queue -8 4 'q' 28 => 6
         resolve_shared_queue '' -8 4 28 => 6
         resolve_shared_queue '' 'q' -8 => 6
         enqueue_shared_queue @28 -8 4 => 6
         enqueue_shared_queue @28 1024 -1 => 6
         dequeue_shared_queue @28 out => 7",
    );
}

#[test]
fn registering_a_queue_again_gives_the_same_token_and_tokens_are_never_0() {
    in_configure(
        "register_shared_queue 'a' 28 ; @28 => 0 1
         register_shared_queue 'b' 32 ; @32 => 0 2
         register_shared_queue 'a' 36 ; @36 => 0 1",
    );
}

#[test]
fn registering_a_name_beyond_4096_bytes_is_an_internal_failure() {
    in_configure("register_shared_queue 65536 4096 28\n register_shared_queue 65536 4097 28 ; @28 => 10 1");
}

#[test]
fn resolving_finds_queues_by_vm_id_and_name_and_an_empty_vm_id_is_the_own() {
    let engine = engine();
    let one = script(&[(
        "configure",
        "register_shared_queue 'q' 28 ; @28 => 0 1
         resolve_shared_queue 'one' 'q' 32 ; @32 => 0 1
         resolve_shared_queue '' 'q' 32 ; @32 => 0 1
         resolve_shared_queue '' 'unknown' 24 ; @24 => 1 7
         resolve_shared_queue 'unknown' 'q' 24 => 1",
    )]);
    let two = script(&[(
        "configure",
        "resolve_shared_queue '' 'q' 24 => 1
         resolve_shared_queue 'one' 'q' 28 ; @28 => 0 1
         register_shared_queue 'q' 32 ; @32 => 0 2
         resolve_shared_queue '' 'q' 24 ; @24 => 0 2",
    )]);
    let _one = worker(&engine, &one, "one");
    worker(&engine, &two, "two");
}

#[test]
fn queues_that_are_unknown_are_not_found_and_an_empty_one_is_empty() {
    in_configure(
        "enqueue_shared_queue 1 'x' => 1
         dequeue_shared_queue 1 out => 1
         enqueue_shared_queue 0 'x' => 1
         register_shared_queue 'q' 28
         dequeue_shared_queue @28 out ; @16 @20 => 7 7 7",
    );
}

#[test]
fn items_come_out_in_order_and_an_empty_item_is_ok_null_and_0() {
    in_configure(
        "register_shared_queue 'q' 28
         enqueue_shared_queue @28 'one'
         enqueue_shared_queue @28 ''
         enqueue_shared_queue @28 'th\\0ree'
         dequeue_shared_queue @28 out ; text => 0 [one]
         dequeue_shared_queue @28 out ; @16 @20 => 0 0 0
         dequeue_shared_queue @28 out ; text => 0 [th\\0ree]
         dequeue_shared_queue @28 out => 7",
    );
}

#[test]
fn items_are_not_lost_to_a_guest_that_cannot_be_given_them() {
    in_configure(
        "register_shared_queue 'q' 28
         enqueue_shared_queue @28 'item'
         dequeue_shared_queue @28 -8 20 => 6
         dequeue_shared_queue @28 16 -8 => 6
         dequeue_shared_queue @28 out ; text => 0 [item]",
    );
}

#[test]
fn enqueuing_tells_the_worker_that_registered_once_for_each_item_and_not_before_it_runs_its_pending() {
    let engine = engine();
    let consumer = script(&[
        ("configure", "register_shared_queue 'q' 28 ; @28 => 0 1"),
        ("queue_ready", "say $0 => 1\n same $1 @28\n dequeue_shared_queue @28 out ; text => 0 [item]"),
    ]);
    let producer = script(&[(
        "configure",
        "resolve_shared_queue 'c' 'q' 28
         enqueue_shared_queue @28 'item'
         enqueue_shared_queue @28 'item'",
    )]);
    let first = worker(&engine, &consumer, "c");
    let second = worker(&engine, &producer, "p");
    assert_eq!(first.mock.take_log(), [""; 0]);
    second.worker.run_pending().unwrap();
    assert_eq!(first.mock.take_log(), [""; 0]);
    first.worker.run_pending().unwrap();
    consumer.check(&first.mock, &["queue_ready", "queue_ready"]);
    first.worker.run_pending().unwrap();
    assert_eq!(first.mock.take_log(), [""; 0]);
}

#[test]
fn enqueuing_to_an_own_queue_is_told_after_the_callback() {
    let script = script(&[
        ("configure", "register_shared_queue 'q' 28\n enqueue_shared_queue @28 'item'"),
        ("queue_ready", "dequeue_shared_queue $1 out ; text => 0 [item]"),
    ]);
    let setup = script.setup();
    setup.worker.run_pending().unwrap();
    script.check(&setup.mock, &["queue_ready"]);
}

#[test]
fn registering_last_takes_over_the_notices() {
    let engine = engine();
    let consumer = script(&[
        ("configure", "register_shared_queue 'q' 28 ; @28 => 0 1"),
        ("queue_ready", "dequeue_shared_queue $1 out ; text => 0 [item]"),
        ("foreign_function", "enqueue_shared_queue @28 'item'"),
    ]);
    let first = worker(&engine, &consumer, "vm");
    let second = worker(&engine, &consumer, "vm");
    first.instances[0].call_foreign(0, b"").unwrap();
    consumer.check(&first.mock, &["foreign_function"]);
    first.worker.run_pending().unwrap();
    assert_eq!(first.mock.take_log(), [""; 0]);
    second.worker.run_pending().unwrap();
    consumer.check(&second.mock, &["queue_ready"]);
}

#[test]
fn registering_from_a_stream_tells_its_root() {
    let script = script(&[
        ("request_headers", "say $0 => 2\n register_shared_queue 'q' 28\n enqueue_shared_queue @28 ''"),
        ("queue_ready", "say $0 => 1"),
    ]);
    let setup = script.setup();
    setup.http(1).on_headers(Direction::Request, 1, true).unwrap();
    setup.worker.run_pending().unwrap();
    script.check(&setup.mock, &["request_headers", "queue_ready"]);
}

#[test]
fn queues_are_dropped_with_the_last_plugin_of_their_vm_id() {
    let engine = engine();
    let owner = script(&[("configure", "register_shared_queue 'q' 28")]);
    let other = script(&[
        ("configure", "resolve_shared_queue 'owner' 'q' 28\n enqueue_shared_queue @28 'x'"),
        ("foreign_function", "resolve_shared_queue 'owner' 'q' 24 => 1\n enqueue_shared_queue @28 'x' => 1"),
    ]);
    let first = worker(&engine, &owner, "owner");
    let second = worker(&engine, &other, "other");
    drop(first);
    second.instances[0].call_foreign(0, b"").unwrap();
    other.check(&second.mock, &["foreign_function"]);
}

/// A host that can be woken, and one that has its own services.
#[derive(Default)]
struct OwnHost {
    mock: Mock,
    wakes: Arc<AtomicU32>,
    services: bool,
    asked: RefCell<Vec<String>>,
    last: Cell<u32>,
}

impl OwnHost {
    fn ask(&self, what: &str, parts: &[&[u8]]) {
        let parts: Vec<_> = parts.iter().map(|part| String::from_utf8_lossy(part)).collect();
        self.asked.borrow_mut().push(format!("{what} {}", parts.join(" ")));
    }
}

/// Hands a shared host to a worker.
struct Shared(std::rc::Rc<OwnHost>);

impl Host for Shared {
    fn log(&self, stream: Option<StreamData>, record: &LogRecord<'_>) {
        MockHost(self.0.mock.clone()).log(stream, record);
    }
    fn waker(&self) -> Option<Waker> {
        let wakes = self.0.wakes.clone();
        Some(Arc::new(move || {
            wakes.fetch_add(1, Ordering::Relaxed);
        }))
    }
    fn shared_data(&self) -> Option<&dyn HostSharedData> {
        self.0.services.then_some(&*self.0 as &dyn HostSharedData)
    }
    fn queues(&self) -> Option<&dyn HostQueues> {
        self.0.services.then_some(&*self.0 as &dyn HostQueues)
    }
}

impl HostSharedData for OwnHost {
    fn get(&self, vm_id: &[u8], key: &[u8], out: &mut Vec<u8>) -> HostResult<u32> {
        self.ask("get", &[vm_id, key]);
        out.extend_from_slice(b"hosts");
        Ok(77)
    }
    fn set(&self, vm_id: &[u8], key: &[u8], value: &[u8], cas: u32) -> HostResult {
        self.ask("set", &[vm_id, key, value, cas.to_string().as_bytes()]);
        Err(Status::CasMismatch)
    }
}

impl HostQueues for OwnHost {
    fn register(&self, vm_id: &[u8], name: &[u8]) -> HostResult<u32> {
        self.ask("register", &[vm_id, name]);
        self.last.set(31);
        Ok(31)
    }
    fn resolve(&self, vm_id: &[u8], name: &[u8]) -> HostResult<u32> {
        self.ask("resolve", &[vm_id, name]);
        Err(Status::NotFound)
    }
    fn enqueue(&self, queue: u32, value: &[u8]) -> HostResult {
        self.ask("enqueue", &[queue.to_string().as_bytes(), value]);
        Err(Status::InternalFailure)
    }
    fn dequeue(&self, queue: u32, out: &mut Vec<u8>) -> HostResult {
        self.ask("dequeue", &[queue.to_string().as_bytes()]);
        out.extend_from_slice(b"item");
        Ok(())
    }
}

#[test]
fn enqueuing_wakes_the_worker_from_the_thread_of_the_other() {
    let engine = engine();
    let consumer = script(&[
        ("configure", "register_shared_queue 'q' 28"),
        ("queue_ready", "dequeue_shared_queue $1 out ; text => 0 [item]"),
    ]);
    let host = std::rc::Rc::new(OwnHost::default());
    let worker = Worker::new(&engine, Box::new(Shared(host.clone()))).unwrap();
    let module = Module::compile(&engine, &consumer.wasm).unwrap();
    let _instance = worker.add_plugin(&Plugin::new(&module, with_vm_id("c")).unwrap()).unwrap();
    consumer.check_start(&host.mock);
    assert_eq!(host.wakes.load(Ordering::Relaxed), 0);
    let other = engine.clone();
    std::thread::spawn(move || {
        let lines = "resolve_shared_queue 'c' 'q' 28\n enqueue_shared_queue @28 'item'";
        self::worker(&other, &script(&[("configure", lines)]), "p");
    })
    .join()
    .unwrap();
    assert_eq!(host.wakes.load(Ordering::Relaxed), 1);
    worker.run_pending().unwrap();
    consumer.check(&host.mock, &["queue_ready"]);
}

#[test]
fn a_host_with_its_own_shared_data_and_queues_is_asked() {
    let engine = engine();
    let script = script(&[
        (
            "configure",
            "get_shared_data 'k' out 24 ; text @24 => 0 [hosts] 77
             set_shared_data 'k' 'v' 5 => 8
             register_shared_queue 'q' 28 ; @28 => 0 31
             resolve_shared_queue '' 'r' 24 => 1
             enqueue_shared_queue 31 'x' => 10
             dequeue_shared_queue 31 out ; text => 0 [item]",
        ),
        ("queue_ready", "say $0 => 1\n say $1 => 31"),
    ]);
    let host = std::rc::Rc::new(OwnHost { services: true, ..OwnHost::default() });
    let worker = Worker::new(&engine, Box::new(Shared(host.clone()))).unwrap();
    let module = Module::compile(&engine, &script.wasm).unwrap();
    let _instance = worker.add_plugin(&Plugin::new(&module, with_vm_id("vm")).unwrap()).unwrap();
    script.check_start(&host.mock);
    let asked = ["get vm k", "set vm k v 5", "register vm q", "resolve vm r", "enqueue 31 x", "dequeue 31"];
    assert_eq!(*host.asked.borrow(), asked);
    worker.queue_ready(31).unwrap();
    script.check(&host.mock, &["queue_ready"]);
    assert_eq!(worker.queue_ready(32).unwrap_err().kind(), ErrorKind::NotFound);
}
