// SPDX-License-Identifier: Apache-2.0
//! Streams with VMs of their own: what they share and what not, what a failure touches, and that nothing is left of them.

use crate::support::*;
use crate::trace::*;
use proxywasm::abi::LogLevel;
use proxywasm::Direction::{Request, Response};
use proxywasm::*;

const PRIVATE: [Isolation; 2] = [Isolation::Stream, Isolation::Plugin];

/// Plugins in a chain of which each stream has its own VMs. What they logged while they started is forgotten.
fn isolated(isolation: Isolation, plugins: &[(&[u8], PluginConfig)]) -> Setup {
    let setup = Setup::chain(plugins);
    assert_eq!(setup.chain.isolation(), Isolation::Shared);
    setup.chain.set_isolation(isolation);
    setup.mock.take_log();
    setup
}

fn one(isolation: Isolation, guest: &Guest) -> Setup {
    isolated(isolation, &[(&guest.build(), config())])
}

fn named_alike(name: &str) -> PluginConfig {
    PluginConfig::new(name)
}

fn request(setup: &Setup, id: usize) -> StreamHandle {
    let stream = setup.http(id);
    assert_eq!(told(&stream.on_headers(Request, 0, true).unwrap()), (Action::Continue, true, false, true));
    stream
}

/// VMs alive besides those of the worker.
fn private_vms(setup: &Setup, shared: u64) -> u64 {
    setup.worker.stats().vms - shared
}

/// Logs how often it was called, and gives `result`.
fn counts(guest: Guest, callback: &str, result: &str) -> Guest {
    guest.quiet(
        callback,
        &format!("(call $number (i32.const 1000) (i32.const 1) (i64.extend_i32_u (call $next))) {result}"),
    )
}

// Memory

#[test]
fn what_a_stream_leaves_in_memory_no_other_stream_finds() {
    let guest = counts(counts(Guest::new(), "request_headers", "(i32.const 0)"), "response_headers", "(i32.const 0)");
    let seen = |isolation| {
        let setup = one(isolation, &guest);
        for id in 1..=3 {
            let stream = request(&setup, id);
            stream.on_headers(Response, 0, true).unwrap();
            stream.finish().unwrap();
        }
        setup.mock.take_log()
    };
    assert_eq!(seen(Isolation::Shared), ["s=1", "s=2", "s=3", "s=4", "s=5", "s=6"]);
    for isolation in PRIVATE {
        assert_eq!(seen(isolation), ["s=1", "s=2", "s=1", "s=2", "s=1", "s=2"], "{isolation:?}");
    }
}

#[test]
fn streams_that_live_at_the_same_time_have_different_vms() {
    for isolation in PRIVATE {
        let setup = one(isolation, &counts(Guest::new(), "request_headers", "(i32.const 0)"));
        let streams: Vec<_> = (1..=5).map(|id| request(&setup, id)).collect();
        assert_eq!(setup.mock.take_log(), ["s=1"; 5]);
        assert_eq!(private_vms(&setup, 1), 5);
        drop(streams);
        assert_eq!(private_vms(&setup, 1), 0);
    }
}

#[test]
fn plugins_of_one_vm_key_share_the_vm_of_a_stream_or_not() {
    let guest = counts(Guest::new(), "request_headers", "(i32.const 0)").build();
    let run = |isolation, second: PluginConfig| {
        let shared = if second.vm_id.is_empty() { 1 } else { 2 };
        let setup = isolated(isolation, &[(&guest, named_alike("one")), (&guest, second)]);
        let _stream = request(&setup, 1);
        (setup.mock.take_log(), private_vms(&setup, shared))
    };
    let (both, each) = (["s=1", "s=2"], ["s=1", "s=1"]);
    let expect =
        |seen: (Vec<String>, u64), log: [&str; 2], vms| assert_eq!(seen, (log.map(str::to_owned).to_vec(), vms));
    expect(run(Isolation::Stream, named_alike("two")), both, 1);
    expect(run(Isolation::Stream, named_alike("one")), both, 1);
    expect(run(Isolation::Stream, named("two")), each, 2);
    expect(run(Isolation::Plugin, named_alike("two")), each, 2);
    expect(run(Isolation::Plugin, named_alike("one")), each, 2);
}

// The start

#[test]
fn a_stream_replays_the_start_of_each_root_context_and_ends_none() {
    let guest = Guest::new()
        .log("context_create")
        .log("vm_start")
        .log("configure")
        .log("request_headers")
        .log("done")
        .log("delete")
        .build();
    let config = |name: &str| {
        let mut config = named_alike(name);
        config.configuration = name.as_bytes().to_vec();
        config
    };
    let setup = isolated(Isolation::Stream, &[(&guest, config("a")), (&guest, config("bb"))]);
    request(&setup, 1).finish().unwrap();
    let expected = [
        "a: context_create 1 0",
        "a: vm_start 1 0",
        "a: configure 1 1",
        "a: context_create 2 1",
        "a: request_headers 2 0 1",
        "bb: context_create 3 0",
        "bb: vm_start 3 0",
        "bb: configure 3 2",
        "bb: context_create 4 3",
        "bb: request_headers 4 0 1",
        "a: done 2",
        "a: delete 2",
        "bb: done 4",
        "bb: delete 4",
    ];
    assert_eq!(log_by_plugin(&setup.mock), expected);
}

#[test]
fn plugins_with_one_root_key_share_the_root_context_of_a_stream() {
    let guest = Guest::new().log("vm_start").build();
    let starts = |isolation| {
        let setup = isolated(isolation, &[(&guest, config()), (&guest, config())]);
        request(&setup, 1);
        setup.mock.take_log().len()
    };
    assert_eq!((starts(Isolation::Stream), starts(Isolation::Plugin)), (1, 2));
}

#[test]
fn no_vm_is_made_before_a_plugin_is_needed() {
    let guest = Guest::new().log("vm_start").quiet("request_headers", "(i32.const 1)");
    let (first, second) = (guest.build(), Guest::new().log("vm_start").build());
    let setup = isolated(Isolation::Stream, &[(&first, named("first")), (&second, named("second"))]);
    let stream = setup.http(1);
    assert_eq!(private_vms(&setup, 2), 0);
    stream.on_headers(Request, 0, true).unwrap();
    assert_eq!(private_vms(&setup, 2), 1, "the second is not reached");
    assert_eq!(log_by_plugin(&setup.mock), ["first: vm_start 1 0"]);
}

#[test]
fn isolation_is_that_of_the_chain_when_the_stream_began() {
    let setup = one(Isolation::Shared, &counts(Guest::new(), "request_headers", "(i32.const 0)"));
    let (before, _seen) = (setup.http(1), request(&setup, 2));
    setup.chain.set_isolation(Isolation::Plugin);
    let after = setup.http(3);
    setup.chain.set_isolation(Isolation::Shared);
    for stream in [&before, &after] {
        stream.on_headers(Request, 0, true).unwrap();
    }
    assert_eq!(setup.mock.take_log(), ["s=1", "s=2", "s=1"]);
}

#[test]
fn a_tcp_connection_has_a_vm_of_its_own() {
    let guest = counts(counts(Guest::new(), "new_connection", "(i32.const 0)"), "downstream_data", "(i32.const 0)");
    let setup = one(Isolation::Stream, &guest);
    for id in 1..=2 {
        let stream = setup.tcp(id);
        stream.on_new_connection().unwrap();
        stream.on_data(Request, &chunk("x"), false).unwrap();
        assert_eq!(setup.mock.take_log(), ["s=1", "s=2"]);
    }
}

/// Starts well once (in the worker), and later as `body` says. Told apart by shared data.
fn starts_once(callback: &str, body: &str) -> Guest {
    let set =
        "(call $proxy_set_shared_data (i32.const 1000) (i32.const 1) (i32.const 1000) (i32.const 1) (i32.const 0))";
    let get = "(call $proxy_get_shared_data (i32.const 1000) (i32.const 1) (global.get $out) (global.get $out_len) (global.get $out_cas))";
    Guest::new().quiet(callback, &format!("(if (result i32) {get} (then (drop {set}) (i32.const 1)) (else {body}))"))
}

#[test]
fn a_vm_that_does_not_start_is_answered_by_policy_with_one_record() {
    let cases = [
        ("(i32.const 0)", ErrorKind::GuestRejected, LogLevel::Error),
        ("(unreachable)", ErrorKind::GuestTrap, LogLevel::Critical),
    ];
    for (body, kind, level) in cases {
        for policy in [FailurePolicy::Reload, FailurePolicy::Closed, FailurePolicy::Open] {
            let guest = starts_once("configure", body);
            let setup =
                isolated(Isolation::Stream, &[(&guest.build(), config_with(|config| config.failure_policy = policy))]);
            for id in 1..=3 {
                let outcome = setup.http(id).on_headers(Request, 0, true).unwrap();
                assert_eq!(outcome.failure.as_ref().map(Error::kind), Some(kind), "{policy:?} {outcome:?}");
                let passed = policy == FailurePolicy::Open;
                assert_eq!(outcome.action, if passed { Action::Continue } else { Action::LocalResponse });
                assert_eq!(outcome.headers, passed);
                let log = std::mem::take(&mut setup.mock.0.borrow_mut().log);
                assert_eq!(log.iter().map(|(level, ..)| *level).collect::<Vec<_>>(), [level], "{log:?}");
            }
            let answers = local_responses(&setup.mock).len();
            assert_eq!(answers, if policy == FailurePolicy::Open { 0 } else { 3 });
            assert_eq!(private_vms(&setup, 1), 0);
        }
    }
}

#[test]
fn the_start_deadline_applies_to_what_a_stream_replays() {
    let engine = Engine::new(&EngineConfig::new()).unwrap();
    engine.start_ticker().unwrap();
    let guest = starts_once("configure", "(loop $forever (br $forever)) (i32.const 1)");
    let config = config_with(|config| config.limits.start_deadline_ns = 100_000_000);
    let setup = Setup::on_engine(&engine, &Mock::default(), &[(&guest.build(), config)]).unwrap();
    setup.chain.set_isolation(Isolation::Stream);
    let failure = setup.http(1).on_headers(Request, 0, true).unwrap().failure.unwrap();
    assert_eq!(failure.kind(), ErrorKind::GuestTimeout);
}

#[test]
fn more_vms_than_are_pooled_fail_with_no_memory_and_leave_the_others_alone() {
    let engine = Engine::new(EngineConfig::new().pooling(3)).unwrap();
    let guest = counts(Guest::new(), "request_headers", "(i32.const 0)");
    let setup = Setup::on_engine(&engine, &Mock::default(), &[(&guest.build(), config())]).unwrap();
    setup.chain.set_isolation(Isolation::Stream);
    let (one, _two, three) = (request(&setup, 1), request(&setup, 2), setup.http(3));
    let failure = three.on_headers(Request, 0, true).unwrap().failure.unwrap();
    assert_eq!(failure.kind(), ErrorKind::NoMemory, "{failure}");
    drop(one);
    // What the first had written is not there any more.
    setup.mock.take_log();
    request(&setup, 4);
    assert_eq!(setup.mock.take_log(), ["s=1"]);
}

// Failures

#[test]
fn a_trap_ends_its_own_stream_by_policy_and_no_other() {
    // The first byte of the response decides.
    let guest = Guest::new()
        .quiet("request_headers", "(i32.const 0)")
        .quiet("response_headers", "(if (local.get 1) (then (unreachable))) (i32.const 0)")
        .log("log");
    for policy in [FailurePolicy::Reload, FailurePolicy::Closed, FailurePolicy::Open] {
        for isolation in PRIVATE {
            let config = config_with(|config| config.failure_policy = policy);
            let setup = isolated(isolation, &[(&guest.build(), config)]);
            let (victim, other) = (request(&setup, 1), request(&setup, 2));
            let outcome = victim.on_headers(Response, 1, true).unwrap();
            assert_eq!(outcome.failure.unwrap().kind(), ErrorKind::GuestTrap);
            let passed = policy == FailurePolicy::Open;
            assert_eq!(outcome.action, if passed { Action::Continue } else { Action::LocalResponse });
            let events = setup.mock.take_events();
            assert_eq!(events.iter().filter(|event| matches!(event, Event::VmFailed { .. })).count(), 1);
            assert_eq!(setup.worker.stats().vms_failed, 1);
            assert_eq!(private_vms(&setup, 1), 1);
            assert_eq!(critical(&setup.mock).len(), 1);
            // The one in flight goes on, and so does the next.
            for stream in [other, request(&setup, 3)] {
                assert_eq!(told(&stream.on_headers(Response, 0, true).unwrap()), (Action::Continue, true, false, true));
                stream.log().unwrap();
                stream.finish().unwrap();
            }
            assert_eq!(setup.mock.take_log(), ["log 2", "log 2"]);
            assert!(setup.mock.take_events().is_empty());
            victim.finish().unwrap();
            assert_eq!(private_vms(&setup, 1), 0);
        }
    }
}

#[test]
fn a_trap_takes_the_plugins_along_that_share_the_vm_in_this_stream() {
    let first = Guest::new().log("log").quiet("request_headers", "(i32.const 0)");
    let guest = first.quiet("response_headers", "(if (local.get 1) (then (unreachable))) (i32.const 0)").build();
    let open = |name: &str| {
        let mut config = named_alike(name);
        config.failure_policy = FailurePolicy::Open;
        config
    };
    let logged = |isolation| {
        let setup = isolated(isolation, &[(&guest, open("one")), (&guest, open("two"))]);
        let stream = request(&setup, 1);
        stream.on_headers(Response, 1, true).unwrap();
        setup.mock.take_log();
        stream.log().unwrap();
        (log_by_plugin(&setup.mock).len(), setup.worker.stats().vms_failed)
    };
    // The response meets the second plugin first. In one VM both are gone; else each fails by itself.
    assert_eq!(logged(Isolation::Stream), (0, 1));
    assert_eq!(logged(Isolation::Plugin), (0, 2));
}

#[test]
fn the_worker_s_own_vm_may_be_down() {
    let guest = counts(Guest::new(), "request_headers", "(i32.const 0)").quiet("foreign_function", "(unreachable)");
    let config = config_with(|config| config.failure_policy = FailurePolicy::Closed);
    let setup = isolated(Isolation::Stream, &[(&guest.build(), config)]);
    setup.instances[0].call_foreign(0, b"").unwrap_err();
    setup.mock.take_log();
    request(&setup, 1);
    assert_eq!(setup.mock.take_log(), ["s=1"]);
}

#[test]
fn limits_hold_for_each_vm() {
    let guest = Guest::new().quiet(
        "request_headers",
        "(if (i32.eq (memory.grow (i32.const 6)) (i32.const -1)) (then (unreachable))) (i32.const 0)",
    );
    let config = config_with(|config| config.limits.max_memory = 10 << 16);
    let setup = isolated(Isolation::Stream, &[(&guest.build(), config)]);
    let streams: Vec<_> = (1..=4).map(|id| request(&setup, id)).collect();
    assert_eq!(setup.worker.stats().memory, (4 + 4 * 10) << 16);
    drop(streams);
    assert_eq!(setup.worker.stats().memory, 4 << 16);
}

// What comes from outside

#[test]
fn a_callout_comes_back_to_the_vm_that_asked() {
    let guest = Guest::new().quiet("request_headers", "(drop (call $next)) (drop (call $call)) (i32.const 1)").quiet(
        "http_call_response",
        "(call $number (i32.const 1000) (i32.const 1) (i64.extend_i32_u (call $next)))
             (call $effective (i32.const 2)) (call $continue (i32.const 0))",
    );
    for isolation in PRIVATE {
        let setup = one(isolation, &guest);
        let begin = |id| {
            let stream = setup.http(id);
            assert_eq!(stream.on_headers(Request, 0, true).unwrap().action, Action::Pause);
            (stream, setup.mock.last_token())
        };
        let ((first, first_token), (_second, second_token)) = (begin(1), begin(2));
        setup.mock.take_events();
        for (id, token) in [(2, second_token), (1, first_token)] {
            setup.worker.http_call_complete(token, Some(HttpResponse::default())).unwrap();
            assert_eq!(setup.mock.take_events(), [Event::Resume { stream: id, request: true }]);
        }
        assert_eq!(setup.mock.take_log(), ["s=2", "s=2"]);
        assert_eq!(told(&first.resume(Request).unwrap()), (Action::Continue, true, false, true));
    }
}

#[test]
fn calls_in_flight_are_cancelled_with_the_stream() {
    let guest = Guest::new().quiet("request_headers", "(drop (call $call)) (i32.const 1)").log("http_call_response");
    for isolation in PRIVATE {
        let setup = one(isolation, &guest);
        let stream = setup.http(1);
        stream.on_headers(Request, 0, true).unwrap();
        let token = setup.mock.last_token();
        assert_eq!(setup.worker.stats().callouts, 1);
        setup.mock.take_events();
        stream.finish().unwrap();
        assert_eq!(setup.mock.take_events(), [Event::Cancel { token }]);
        assert_eq!((setup.worker.stats().callouts, private_vms(&setup, 1)), (0, 0));
        let late = setup.worker.http_call_complete(token, None).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::NotFound);
        assert!(setup.mock.take_log().is_empty());
    }
}

#[test]
fn a_root_context_ticks_while_its_stream_lives() {
    let guest = Guest::new()
        .quiet("configure", "(call $tick_ms (i32.const 10)) (i32.const 1)")
        .quiet("tick", "(call $number (i32.const 1000) (i32.const 1) (i64.extend_i32_u (call $next)))")
        .quiet("request_headers", "(i32.const 0)");
    let setup = one(Isolation::Stream, &guest);
    let stream = request(&setup, 1);
    for ticks in 1..=2 {
        setup.mock.advance(10);
        setup.worker.on_timeout().unwrap();
        assert_eq!(
            setup.mock.take_log(),
            [format!("s={ticks}"), format!("s={ticks}")],
            "the worker's and the stream's"
        );
    }
    stream.finish().unwrap();
    setup.mock.advance(10);
    setup.worker.on_timeout().unwrap();
    assert_eq!(setup.mock.take_log(), ["s=3"]);
}

#[test]
fn a_tick_in_which_a_stream_s_vm_traps_ends_that_stream() {
    // The worker's counts its ticks, too; a stream has counted before.
    let guest = Guest::new()
        .quiet("configure", "(call $tick_ms (i32.const 10)) (i32.const 1)")
        .quiet("tick", "(if (i32.eq (call $next) (i32.const 2)) (then (unreachable)))")
        .quiet("request_headers", "(drop (call $next)) (i32.const 1)");
    let setup = one(Isolation::Stream, &guest);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, true).unwrap();
    setup.mock.take_events();
    setup.mock.advance(10);
    setup.worker.on_timeout().unwrap();
    assert!(setup.mock.take_events().contains(&Event::Resume { stream: 1, request: true }));
    assert_eq!(stream.resume(Request).unwrap().action, Action::LocalResponse);
    assert_eq!((private_vms(&setup, 1), setup.worker.stats().vms_failed), (0, 1));
}

#[test]
fn the_worker_s_vm_keeps_the_queues_that_streams_register_again() {
    let register = "(drop (call $proxy_register_shared_queue (i32.const 1000) (i32.const 6) (i32.const 28)))";
    let enqueue = "(call $proxy_enqueue_shared_queue (i32.load (i32.const 28)) (i32.const 1000) (i32.const 6))";
    let guest = Guest::new()
        .quiet("configure", &format!("{register} (i32.const 1)"))
        .quiet("request_headers", &format!("(drop (call $next)) (call $status {enqueue}) (i32.const 0)"))
        .quiet("queue_ready", "(call $number (i32.const 1000) (i32.const 1) (i64.extend_i32_u (call $next)))");
    let setup = one(Isolation::Stream, &guest);
    let streams = [request(&setup, 1), request(&setup, 2)];
    assert_eq!(setup.mock.take_log(), ["status=0", "status=0"]);
    setup.worker.run_pending().unwrap();
    assert_eq!(setup.mock.take_log(), ["s=1", "s=2"], "not told in the VM of a stream, which had counted before");
    drop(streams);
    request(&setup, 3);
    setup.mock.take_log();
    setup.worker.run_pending().unwrap();
    assert_eq!(setup.mock.take_log(), ["s=3"], "also after streams have ended");
}

// The end

#[test]
fn a_stream_that_is_dropped_takes_its_vms_along() {
    for isolation in PRIVATE {
        let guest = Guest::new().quiet("request_headers", "(i32.const 1)").build();
        let setup = isolated(isolation, &[(&guest, named("one")), (&guest, named("two"))]);
        let stream = setup.http(1);
        stream.on_headers(Request, 0, true).unwrap();
        assert_eq!(private_vms(&setup, 2), 1);
        drop(stream);
        let stats = setup.worker.stats();
        assert_eq!((stats.vms, stats.streams), (2, 0));
        assert!(setup.worker.is_idle());
    }
}

#[test]
fn a_stream_may_outlive_its_worker() {
    let guest = Guest::new().quiet("request_headers", "(drop (call $call)) (i32.const 1)");
    let Setup { mock, worker, instances, chain, .. } = one(Isolation::Stream, &guest);
    let stream = worker.stream(&chain, StreamKind::Http, StreamData(1)).unwrap();
    stream.on_headers(Request, 0, true).unwrap();
    let token = mock.last_token();
    mock.take_events();
    drop(worker);
    assert_eq!(mock.take_events(), [Event::Cancel { token }]);
    drop((stream, chain, instances));
    assert!(mock.take_events().is_empty(), "cancelled once");
}

#[test]
fn a_removed_plugin_s_root_waits_for_isolated_streams() {
    let mut setup = one(Isolation::Stream, &Guest::new().log("done"));
    let stream = request(&setup, 1);
    setup.worker.remove_plugin(setup.instances.remove(0)).unwrap();
    assert!(setup.mock.take_log().is_empty());
    stream.finish().unwrap();
    assert_eq!(setup.mock.take_log(), ["done 2", "done 1"]);
}

#[test]
fn ten_thousand_streams_leave_nothing_behind() {
    // Each ticks, calls, registers, defines; every tenth traps.
    let guest = Guest::new()
        .quiet(
            "configure",
            "(call $tick_ms (i32.const 1000))
             (drop (call $proxy_define_metric (i32.const 0) (i32.const 1000) (i32.const 6) (i32.const 28)))
             (drop (call $proxy_register_shared_queue (i32.const 1000) (i32.const 6) (i32.const 28)))
             (i32.const 1)",
        )
        .quiet("request_headers", "(drop (call $call)) (if (local.get 1) (then (unreachable))) (i32.const 0)")
        .build();
    let setup = isolated(Isolation::Plugin, &[(&guest, named_alike("one")), (&guest, named_alike("two"))]);
    let run = |streams: u32| {
        for id in 0..streams {
            let stream = setup.http(1);
            stream.on_headers(Request, u32::from(id % 10 == 9), true).unwrap();
            stream.finish().unwrap();
            setup.mock.take_log();
            setup.mock.take_events();
        }
    };
    run(1_000);
    let before = allocated();
    run(10_000);
    assert_eq!(allocated() - before, 0, "bytes that this thread allocated and has not freed");
    let stats = setup.worker.stats();
    assert_eq!((stats.vms, stats.streams, stats.callouts, stats.memory), (1, 0, 0, 4 << 16));
    assert_eq!((stats.vms_failed, stats.streams_created), (1_100, 11_000));
}
