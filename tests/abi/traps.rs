// SPDX-License-Identifier: Apache-2.0
//! Guests that fail: what is caught, what becomes of streams by policy, what is logged, and when a new VM is made.

use crate::support::{chunk, config, config_with, forwarded, guest, Event, Mock, MockHost, Setup};
use crate::trace::*;
use proxywasm::abi::{LogLevel, PeerType, StreamType};
use proxywasm::Direction::{Request, Response};
use proxywasm::*;
use std::time::Duration;

const POLICIES: [FailurePolicy; 3] = [FailurePolicy::Reload, FailurePolicy::Closed, FailurePolicy::Open];

fn with_policy(guest: &Guest, policy: FailurePolicy) -> Setup {
    let setup = Setup::with(&guest.build(), config_with(|config| config.failure_policy = policy));
    setup.mock.take_log();
    setup
}

fn reloading(guest: &Guest) -> Setup {
    with_policy(guest, FailurePolicy::Reload)
}

fn traps_on(name: &str) -> Guest {
    Guest::everything().on(name, "(unreachable)")
}

/// Traps when the host calls `proxy_on_foreign_function` with 0.
fn bomb() -> Guest {
    Guest::everything().on("foreign_function", "(if (i32.eqz (local.get 1)) (then (unreachable)))")
}

fn explode(setup: &Setup) -> ErrorKind {
    setup.instances[0].call_foreign(0, b"").unwrap_err().kind()
}

fn unavailable(stream: usize) -> [(usize, u32, String); 1] {
    [(stream, 503, "wasm_fail_stream".to_owned())]
}

// What is caught

/// The kind and the text of the failure of a guest that does this with request headers.
fn failure(body: &str) -> (ErrorKind, String) {
    let text =
        format!(r#"(func $culprit (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {body})"#);
    let setup = Setup::new(&guest(&text));
    let failure = setup.http(1).on_headers(Request, 0, true).unwrap().failure.unwrap();
    (failure.kind(), failure.to_string())
}

#[test]
fn traps_of_the_machine_are_guest_traps() {
    let cases = [
        ("(unreachable)", "unreachable"),
        ("(i32.load (i32.const -4))", "out of bounds memory access"),
        ("(i32.store (i32.const 0x7fffffff) (i32.const 1)) (i32.const 0)", "out of bounds memory access"),
        ("(i32.div_u (i32.const 1) (i32.const 0))", "divide by zero"),
        ("(i32.trunc_f32_s (f32.const nan))", "invalid conversion to integer"),
    ];
    for (body, cause) in cases {
        let (kind, text) = failure(body);
        assert_eq!(kind, ErrorKind::GuestTrap, "{body}");
        assert!(text.contains(cause), "{cause:?} is not in {text}");
    }
}

#[test]
fn a_stack_overflow_is_a_guest_trap() {
    let guest = Guest::new()
        .wat("(func $deeper (param i64) (result i64) (i64.add (call $deeper (i64.add (local.get 0) (i64.const 1))) (local.get 0)))")
        .on("request_headers", "(i32.wrap_i64 (call $deeper (i64.const 0)))");
    let setup = reloading(&guest);
    let failure = setup.http(1).on_headers(Request, 0, true).unwrap().failure.unwrap();
    assert_eq!(failure.kind(), ErrorKind::GuestTrap);
    assert!(failure.to_string().contains("stack"), "{failure}");
    // The host's stack is whole: the next stream runs in a new VM.
    assert!(setup.http(2).on_headers(Request, 0, true).is_ok());
}

#[test]
fn memory_beyond_the_limit_is_refused_with_minus_one_and_a_trap_after_that_is_guest_limit() {
    let grow = "(i32.eq (memory.grow (i32.const 100)) (i32.const -1))";
    let guest = Guest::new().on("request_headers", &format!("(if {grow} (then (unreachable))) (i32.const 0)"));
    let limit =
        |pages: u64| Setup::with(&guest.build(), config_with(move |config| config.limits.max_memory = pages << 16));
    let failure = limit(103).http(1).on_headers(Request, 0, true).unwrap().failure.unwrap();
    assert_eq!(failure.kind(), ErrorKind::GuestLimit);
    assert!(failure.to_string().contains("memory"), "{failure}");
    let setup = limit(104);
    assert!(setup.http(1).on_headers(Request, 0, true).unwrap().failure.is_none());
    assert_eq!(setup.worker.stats().memory, 104 << 16);
}

#[test]
fn a_refused_growth_that_the_guest_takes_well_is_no_failure_and_taints_no_later_trap() {
    let guest = Guest::new()
        .on("request_headers", "(memory.grow (i32.const 60000)) drop (i32.const 0)")
        .on("request_body", "(unreachable)");
    let setup = reloading(&guest);
    let stream = setup.http(1);
    assert!(stream.on_headers(Request, 0, false).unwrap().failure.is_none());
    let failure = stream.on_body(Request, &chunk("x"), true).unwrap().failure.unwrap();
    assert_eq!(failure.kind(), ErrorKind::GuestTrap);
}

#[test]
fn proc_exit_ends_the_guest() {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func (export "malloc") (param i32) (result i32) (i32.const 8))
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $exit (i32.const 3)) (i32.const 0)))"#;
    let setup = Setup::new(&wat::parse_str(text).unwrap());
    let failure = setup.http(1).on_headers(Request, 0, true).unwrap().failure.unwrap();
    assert_eq!(failure.kind(), ErrorKind::GuestTrap);
    assert!(failure.to_string().contains("proc_exit(3)"), "{failure}");
}

const FOREVER: &str = "(loop $forever (br $forever)) (i32.const 0)";

fn impatient(guest: &Guest) -> Result<Setup> {
    let engine = Engine::new(EngineConfig::new().tick_period(Duration::from_millis(10))?)?;
    engine.start_ticker()?;
    // Long enough for a guest that does its work on a machine that is busy.
    let config = config_with(|config| {
        config.limits.deadline_ns = 200_000_000;
        config.limits.start_deadline_ns = 200_000_000;
    });
    Setup::on_engine(&engine, &Mock::default(), &[(&guest.build(), config)])
}

#[test]
fn an_endless_loop_ends_at_the_deadline_as_guest_timeout() {
    let setup = impatient(&Guest::new().on("request_headers", FOREVER)).unwrap();
    let failure = setup.http(1).on_headers(Request, 0, true).unwrap().failure.unwrap();
    assert_eq!(failure.kind(), ErrorKind::GuestTimeout);
    assert!(setup
        .mock
        .take_events()
        .contains(&Event::VmFailed { plugin: "test".into(), kind: ErrorKind::GuestTimeout }));
}

#[test]
fn the_deadline_begins_anew_with_each_callback() {
    let setup = impatient(&Guest::new().log("request_headers")).unwrap();
    for id in 0..10 {
        std::thread::sleep(Duration::from_millis(40));
        assert!(setup.http(id).on_headers(Request, 0, true).unwrap().failure.is_none());
    }
}

#[test]
fn an_endless_loop_while_it_starts_ends_at_the_deadline_for_starts() {
    let start = r#"(func (export "_start") (loop $forever (br $forever)))"#;
    for guest in [
        Guest::new().wat(start),
        Guest::new().on("vm_start", FOREVER),
        Guest::new().on("configure", FOREVER),
        Guest::new().on("context_create", "(loop $forever (br $forever))"),
    ] {
        assert_eq!(impatient(&guest).err().unwrap().kind(), ErrorKind::GuestTimeout);
    }
}

#[test]
fn ticks_by_hand_end_a_guest_as_well() {
    let engine = Engine::new(&EngineConfig::new()).unwrap();
    let ticker = engine.clone();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let thread = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            ticker.tick();
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let config = config_with(|config| config.limits.deadline_ns = 50_000_000);
    let guest = Guest::new().on("request_headers", FOREVER).build();
    let setup = Setup::on_engine(&engine, &Mock::default(), &[(&guest, config)]).unwrap();
    let failure = setup.http(1).on_headers(Request, 0, true).unwrap().failure.unwrap();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    thread.join().unwrap();
    assert_eq!(failure.kind(), ErrorKind::GuestTimeout);
}

#[test]
fn a_hostcall_inside_the_allocator_fails_the_guest_but_logging_is_allowed() {
    let allocator = |body: &str| {
        let text = format!(
            r#"(data (i32.const 1024) "inside")
            (func (export "malloc") (param i32) (result i32) {body} (call $malloc (local.get 0)))"#
        );
        let guest = Guest::new().wat(&text).on("foreign_function", "(call $show (i32.const 8))");
        reloading(&guest)
    };
    let setup = allocator("(call $say (i32.const 1024) (i32.const 6))");
    setup.instances[0].call_foreign(1, b"argument").unwrap();
    assert_eq!(setup.mock.take_log(), ["foreign_function 1 1 8", "inside", "buffer=argument"]);
    for (body, name) in [
        ("(drop (call $proxy_done))", "proxy_done"),
        ("(call $tick_ms (i32.const 1))", "proxy_set_tick_period_milliseconds"),
        ("(drop (call $call))", "proxy_http_call"),
    ] {
        let setup = allocator(body);
        let error = setup.instances[0].call_foreign(1, b"argument").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::GuestTrap);
        assert!(error.to_string().contains(name) && error.to_string().contains("allocator"), "{error}");
    }
}

#[test]
fn an_allocator_that_gives_nothing_or_nonsense_is_survived() {
    for pointer in ["(i32.const 0)", "(i32.const -1)", "(i32.const 262140)"] {
        let text = format!(r#"(func (export "malloc") (param i32) (result i32) {pointer})"#);
        let guest = Guest::new().wat(&text).on("foreign_function", "(call $show (i32.const 8))");
        let setup = reloading(&guest);
        setup.instances[0].call_foreign(1, b"argument").unwrap();
        assert_eq!(setup.mock.take_log()[1], "buffer!6", "{pointer}");
    }
}

// What the stream comes to, by policy

#[test]
fn a_trap_in_a_request_phase_is_answered_503_or_passed_over_by_policy() {
    for policy in POLICIES {
        for phase in ["context_create", "request_headers", "request_body", "request_trailers", "request_metadata"] {
            // Only the stream's context is created here; the root's id is 1.
            let body = match phase {
                "context_create" => "(if (local.get 1) (then (unreachable)))",
                _ => "(unreachable)",
            };
            let setup = with_policy(&Guest::everything().on(phase, body), policy);
            let stream = setup.http(1);
            let mut outcomes = vec![stream.on_headers(Request, 0, false).unwrap()];
            if phase == "request_metadata" {
                outcomes.push(stream.on_metadata(Request, 0).unwrap());
            }
            outcomes.push(stream.on_body(Request, &chunk("x"), false).unwrap());
            let body = forwarded(&stream, Request);
            outcomes.push(stream.on_trailers(Request, 0).unwrap());
            let failures: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.failure.as_ref()).collect();
            assert_eq!(failures.len(), 1, "{phase} {policy:?}");
            let last = outcomes.last().unwrap();
            if policy == FailurePolicy::Open {
                assert!(outcomes[0].headers && last.trailers && last.end_of_stream, "{phase} {last:?}");
                assert_eq!((last.action, &*body), (Action::Continue, "x"), "{phase}");
                assert!(local_responses(&setup.mock).is_empty());
            } else {
                assert_eq!(local_responses(&setup.mock), unavailable(1), "{phase} {policy:?}");
                assert_eq!(last.action, Action::LocalResponse);
                let at_failure = outcomes.iter().find(|outcome| outcome.failure.is_some()).unwrap();
                assert_eq!(at_failure.action, Action::LocalResponse, "{phase} {policy:?}");
            }
        }
    }
}

#[test]
fn the_answer_to_a_failed_stream_tells_grpc_that_it_is_unavailable() {
    let setup = reloading(&traps_on("request_headers"));
    setup.http(1).on_headers(Request, 0, true).unwrap();
    let events = setup.mock.take_events();
    let found = events.iter().any(|event| matches!(event, Event::LocalResponse { grpc_status: Some(14), .. }));
    assert!(found, "{events:?}");
}

#[test]
fn the_answer_passes_the_plugin_that_failed_and_is_seen_by_the_others() {
    let modules = [Guest::everything().build(), traps_on("request_headers").build()];
    let setup = Setup::chain(&[(&modules[0], named("well")), (&modules[1], named("ill"))]);
    let stream = setup.http(1);
    assert_eq!(stream.on_headers(Request, 0, true).unwrap().action, Action::LocalResponse);
    log_by_plugin(&setup.mock);
    let outcome = stream.on_headers(Response, 0, true).unwrap();
    assert_eq!(told(&outcome), (Action::Continue, true, false, true));
    assert_eq!(log_by_plugin(&setup.mock), ["well: response_headers 2 0 1"]);
    assert_eq!(local_responses(&setup.mock).len(), 1);
}

#[test]
fn a_trap_in_response_headers_is_answered_503_and_later_in_the_response_closes() {
    for policy in POLICIES {
        let setup = with_policy(&traps_on("response_headers"), policy);
        let stream = setup.http(1);
        stream.on_headers(Request, 0, true).unwrap();
        let outcome = stream.on_headers(Response, 0, true).unwrap();
        assert!(outcome.failure.is_some());
        let setup_body = with_policy(&traps_on("response_body"), policy);
        let stream = setup_body.http(1);
        stream.on_headers(Request, 0, true).unwrap();
        stream.on_headers(Response, 0, false).unwrap();
        let body = stream.on_body(Response, &chunk("x"), true).unwrap();
        if policy == FailurePolicy::Open {
            assert_eq!((outcome.action, outcome.headers), (Action::Continue, true));
            assert_eq!((body.action, body.end_of_stream), (Action::Continue, true));
            assert_eq!(forwarded(&stream, Response), "x");
        } else {
            assert_eq!(outcome.action, Action::LocalResponse);
            assert_eq!(local_responses(&setup.mock), unavailable(1));
            assert_eq!(body.action, Action::Close);
            assert!(forwarded(&stream, Response).is_empty());
            assert!(setup_body.mock.take_events().iter().any(|event| matches!(event, Event::Close { stream: 1, .. })));
        }
    }
}

#[test]
fn a_trap_on_tcp_closes_the_connection_or_is_passed_over_by_policy() {
    for policy in POLICIES {
        for phase in ["new_connection", "downstream_data", "upstream_data"] {
            let setup = with_policy(&traps_on(phase), policy);
            let stream = setup.tcp(1);
            stream.on_new_connection().unwrap();
            let direction = if phase == "upstream_data" { Response } else { Request };
            let outcome = stream.on_data(direction, &chunk("x"), true).unwrap();
            let closes = setup.mock.take_events().into_iter().filter(|event| matches!(event, Event::Close { .. }));
            let closes: Vec<_> = closes.collect();
            if policy == FailurePolicy::Open {
                assert_eq!((outcome.action, &*forwarded(&stream, direction)), (Action::Continue, "x"), "{phase}");
                assert!(closes.is_empty());
            } else {
                assert_eq!(outcome.action, Action::Close, "{phase} {policy:?}");
                assert_eq!(closes, [Event::Close { stream: 1, which: StreamType::Downstream }]);
            }
        }
    }
}

#[test]
fn what_a_plugin_held_when_it_failed_passes_under_the_open_policy() {
    let guest = Guest::everything().on("request_body", "(if (local.get 2) (then (unreachable))) (i32.const 1)");
    let setup = with_policy(&guest, FailurePolicy::Open);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    stream.on_body(Request, &chunk("held "), false).unwrap();
    let outcome = stream.on_body(Request, &chunk("last"), true).unwrap();
    assert!(outcome.failure.is_some() && outcome.end_of_stream, "{outcome:?}");
    assert_eq!(forwarded(&stream, Request), "held last");
}

#[test]
fn a_trap_while_logging_is_reported_and_ends_nothing_that_is_left() {
    for policy in POLICIES {
        let setup = with_policy(&traps_on("log"), policy);
        let stream = setup.http(1);
        stream.on_headers(Request, 0, true).unwrap();
        assert_eq!(stream.log().unwrap_err().kind(), ErrorKind::GuestTrap);
        // No guest runs any more, and nothing fails once more.
        setup.mock.take_log();
        stream.done().unwrap();
        stream.finish().unwrap();
        assert!(setup.mock.take_log().is_empty());
        assert!(local_responses(&setup.mock).is_empty() || policy != FailurePolicy::Open);
        assert_eq!(setup.worker.stats().vms_failed, 1);
    }
}

#[test]
fn a_trap_in_one_stream_gives_the_others_of_the_vm_the_policy() {
    for policy in POLICIES {
        let setup = with_policy(&bomb(), policy);
        let (running, done) = (setup.http(1), setup.http(2));
        running.on_headers(Request, 0, false).unwrap();
        done.on_headers(Request, 0, true).unwrap();
        done.finish().unwrap();
        assert_eq!(explode(&setup), ErrorKind::GuestTrap);
        setup.mock.take_log();
        let outcome = running.on_body(Request, &chunk("x"), true).unwrap();
        match policy {
            FailurePolicy::Open => assert_eq!(forwarded(&running, Request), "x"),
            _ => {
                assert_eq!(outcome.action, Action::LocalResponse);
                assert_eq!(local_responses(&setup.mock), unavailable(1));
            }
        }
        // The guest is not told the end: there is none any more.
        running.log().ok();
        running.finish().unwrap();
        assert!(setup.mock.take_log().is_empty(), "{policy:?}");
    }
}

#[test]
fn a_trap_on_tick_resumes_paused_streams_so_that_the_policy_applies() {
    for policy in POLICIES {
        let guest = Guest::everything()
            .on("configure", "(call $tick_ms (i32.const 10)) (i32.const 1)")
            .on("tick", "(unreachable)")
            .gives("request_headers", 1);
        let setup = with_policy(&guest, policy);
        let stream = setup.http(1);
        assert_eq!(stream.on_headers(Request, 0, false).unwrap().action, Action::Pause);
        stream.on_body(Request, &chunk("held"), true).unwrap();
        setup.mock.advance(10);
        setup.worker.on_timeout().unwrap();
        let events = setup.mock.take_events();
        assert!(events.contains(&Event::Resume { stream: 1, request: true }), "{events:?}");
        let outcome = stream.resume(Request).unwrap();
        if policy == FailurePolicy::Open {
            assert_eq!((outcome.action, outcome.headers, outcome.end_of_stream), (Action::Continue, true, true));
            assert_eq!(forwarded(&stream, Request), "held");
        } else {
            assert_eq!(outcome.action, Action::LocalResponse);
            assert_eq!(local_responses(&setup.mock), unavailable(1));
        }
    }
}

#[test]
fn a_paused_tcp_connection_is_closed_after_a_failure() {
    let setup = reloading(&bomb().gives("downstream_data", 1));
    let stream = setup.tcp(1);
    stream.on_new_connection().unwrap();
    stream.on_data(Request, &chunk("held"), false).unwrap();
    explode(&setup);
    assert!(setup.mock.take_events().contains(&Event::Resume { stream: 1, request: true }));
    assert_eq!(stream.resume(Request).unwrap().action, Action::Close);
    assert!(forwarded(&stream, Request).is_empty());
}

#[test]
fn under_closed_later_streams_are_answered_503_and_under_open_they_pass() {
    for policy in [FailurePolicy::Closed, FailurePolicy::Open] {
        let setup = with_policy(&bomb(), policy);
        explode(&setup);
        setup.mock.advance(3_600_000);
        setup.worker.on_timeout().unwrap();
        setup.mock.take_log();
        let stream = setup.http(7);
        let outcome = stream.on_headers(Request, 0, true).unwrap();
        assert_eq!(outcome.failure.unwrap().kind(), ErrorKind::GuestUnavailable);
        if policy == FailurePolicy::Open {
            assert_eq!((outcome.action, outcome.headers), (Action::Continue, true));
        } else {
            assert_eq!(outcome.action, Action::LocalResponse);
            assert_eq!(local_responses(&setup.mock), unavailable(7));
        }
        assert!(!setup.mock.take_log().iter().any(|line| line.starts_with("request_headers")));
        assert_eq!(setup.worker.stats().vms_created, 1);
    }
}

#[test]
fn a_plugin_that_fails_leaves_other_vms_untouched() {
    let modules = [bomb().build(), Guest::everything().build()];
    let setup = Setup::chain(&[(&modules[0], named("ill")), (&modules[1], named("well"))]);
    let well = setup.worker.chain(&[&setup.instances[1]]).unwrap();
    let stream = setup.worker.stream(&well, StreamKind::Http, StreamData(5)).unwrap();
    stream.on_headers(Request, 0, false).unwrap();
    explode(&setup);
    log_by_plugin(&setup.mock);
    assert_eq!(told(&stream.on_body(Request, &chunk("x"), true).unwrap()).0, Action::Continue);
    assert_eq!(log_by_plugin(&setup.mock), ["well: request_body 2 1 1"]);
    assert_eq!((setup.worker.stats().vms, setup.worker.stats().vms_failed), (1, 1));
}

// What is told of it

#[test]
fn the_log_has_one_critical_record_that_says_whose_where_and_the_way_there() {
    let text = r#"(func $inner_helper (unreachable))
        (func $do_the_work (call $inner_helper))"#;
    let guest = Guest::new().wat(text).on("request_headers", "(call $do_the_work) (i32.const 0)");
    let setup = Setup::with(
        &guest.build(),
        config_with(|config| {
            config.name = "whose".into();
            config.root_id = "my_root".into();
        }),
    );
    setup.http(1).on_headers(Request, 0, true).unwrap();
    let records = critical(&setup.mock);
    let [(plugin, context, text)] = &records[..] else { panic!("{records:?}") };
    assert_eq!((&**plugin, *context), ("whose", 2));
    for word in ["whose", "my_root", "proxy_on_request_headers", "context 2", "inner_helper", "do_the_work"] {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
    assert!(text.find("inner_helper") < text.find("do_the_work"), "innermost first: {text}");
}

#[test]
fn every_callback_is_named_when_it_traps() {
    let calls = "(drop (call $call)) (i32.const 1)";
    type Step = fn(&Setup, &StreamHandle);
    let headers: Step = |_, stream| drop(stream.on_headers(Request, 0, false));
    let cases: &[(&str, Step)] = &[
        ("request_headers", |_, _| {}),
        ("request_body", |_, stream| drop(stream.on_body(Request, &chunk("x"), false))),
        ("request_trailers", |_, stream| drop(stream.on_trailers(Request, 0))),
        ("request_metadata", |_, stream| drop(stream.on_metadata(Request, 0))),
        ("response_headers", |_, stream| drop(stream.on_headers(Response, 0, false))),
        ("response_body", |_, stream| {
            let _ = stream.on_headers(Response, 0, false);
            drop(stream.on_body(Response, &chunk("x"), false));
        }),
        ("response_trailers", |_, stream| {
            let _ = stream.on_headers(Response, 0, false);
            drop(stream.on_trailers(Response, 0));
        }),
        ("response_metadata", |_, stream| drop(stream.on_metadata(Response, 0))),
        ("log", |_, stream| drop(stream.log())),
        ("done", |_, stream| drop(stream.done())),
        ("delete", |_, stream| drop(stream.finish())),
        ("foreign_function", |setup, _| drop(setup.instances[0].call_foreign(0, b""))),
        ("http_call_response", |setup, _| drop(setup.worker.http_call_complete(setup.mock.last_token(), None))),
        ("tick", |setup, _| {
            setup.mock.advance(1);
            setup.worker.on_timeout().unwrap();
        }),
    ];
    for (name, step) in cases {
        let guest = Guest::everything().on("configure", &format!("(call $tick_ms (i32.const 1)) {calls}"));
        let setup = reloading(&guest.on(name, "(unreachable)"));
        let stream = setup.http(1);
        headers(&setup, &stream);
        step(&setup, &stream);
        let records = critical(&setup.mock);
        assert_eq!(records.len(), 1, "{name}: {records:?}");
        assert!(records[0].2.contains(&format!("proxy_on_{name},")), "{name} is not named: {}", records[0].2);
    }
    for (name, step) in [
        ("new_connection", (|_| {}) as fn(&StreamHandle)),
        ("downstream_data", |stream| drop(stream.on_data(Request, &chunk("x"), false))),
        ("upstream_data", |stream| drop(stream.on_data(Response, &chunk("x"), false))),
        ("downstream_connection_close", |stream| drop(stream.on_close(Request, PeerType::Local))),
        ("upstream_connection_close", |stream| drop(stream.on_close(Response, PeerType::Local))),
    ] {
        let setup = reloading(&traps_on(name));
        let stream = setup.tcp(1);
        let _ = stream.on_new_connection();
        step(&stream);
        let records = critical(&setup.mock);
        assert_eq!(records.len(), 1, "{name}: {records:?}");
        assert!(records[0].2.contains(&format!("proxy_on_{name},")), "{name} is not named: {}", records[0].2);
    }
}

#[test]
fn what_the_guest_printed_last_is_logged_before_the_record() {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 16) "\18\00\00\00\05\00\00\00panic")
        (func (export "malloc") (param i32) (result i32) (i32.const 8))
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (drop (call $write (i32.const 2) (i32.const 16) (i32.const 1) (i32.const 4))) (unreachable)))"#;
    let setup = Setup::new(&wat::parse_str(text).unwrap());
    setup.http(1).on_headers(Request, 0, true).unwrap();
    let log = std::mem::take(&mut setup.mock.0.borrow_mut().log);
    assert_eq!((log[0].0, &*log[0].3), (LogLevel::Error, "panic"));
    assert_eq!((log[1].0, log.len()), (LogLevel::Critical, 2));
}

#[test]
fn the_host_is_told_of_the_vm_once() {
    let setup = reloading(&bomb());
    for id in 0..3 {
        setup.http(id).on_headers(Request, 0, false).unwrap();
    }
    explode(&setup);
    let told = setup.mock.take_events().into_iter().filter(|event| matches!(event, Event::VmFailed { .. })).count();
    assert_eq!(told, 1);
    assert_eq!((setup.worker.stats().vms_failed, setup.worker.stats().vms), (1, 0));
}

#[test]
fn calls_in_flight_of_a_failed_vm_are_cancelled_and_their_answers_find_nobody() {
    let setup = reloading(&bomb().on("request_headers", "(drop (call $call)) (drop (call $call)) (i32.const 1)"));
    setup.http(1).on_headers(Request, 0, true).unwrap();
    let token = setup.mock.last_token();
    assert_eq!(setup.worker.stats().callouts, 2);
    explode(&setup);
    let cancelled: Vec<_> = setup.mock.take_events();
    let cancelled = cancelled.iter().filter(|event| matches!(event, Event::Cancel { .. })).count();
    assert_eq!((cancelled, setup.worker.stats().callouts), (2, 0));
    let error = setup.worker.http_call_complete(token, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn what_a_guest_asked_for_before_it_trapped_is_not_done() {
    let setup = reloading(&Guest::new().on("request_headers", "(call $respond (i32.const 200)) (unreachable)"));
    setup.http(1).on_headers(Request, 0, true).unwrap();
    assert_eq!(local_responses(&setup.mock), unavailable(1));
}

// New VMs

/// Whether the plugin is found working, by a call that proves nothing of its VM, as a stream would.
fn works(setup: &Setup) -> bool {
    setup.instances[0].call_foreign(1, b"").is_ok()
}

#[test]
fn the_first_failure_is_followed_by_a_new_vm_at_once() {
    let setup = reloading(&bomb());
    explode(&setup);
    assert!(works(&setup));
    assert_eq!(setup.worker.stats().vms_created, 2);
}

#[test]
fn a_vm_that_has_finished_a_stream_is_replaced_at_once_every_time() {
    let setup = reloading(&bomb());
    for _ in 0..5 {
        let stream = setup.http(1);
        assert!(stream.on_headers(Request, 0, true).unwrap().failure.is_none());
        stream.finish().unwrap();
        explode(&setup);
    }
    assert!(works(&setup));
    assert_eq!(setup.worker.stats().vms_created, 6);
}

/// A plugin whose VMs fail before they have finished a stream: waits of 100 ms, at most 400, and 6 failures.
fn crash_looping() -> Setup {
    let config = config_with(|config| {
        let (base, max) = (Duration::from_millis(100), Duration::from_millis(400));
        config.reload = ReloadBackoff { base, max, limit: 6 };
    });
    Setup::with(&bomb().build(), config)
}

#[test]
fn failures_in_a_row_wait_doubling_up_to_the_cap_until_the_limit() {
    let setup = crash_looping();
    explode(&setup);
    for wait in [100, 200, 400, 400] {
        assert_eq!(explode(&setup), ErrorKind::GuestTrap);
        setup.mock.advance(wait - 1);
        assert!(!works(&setup), "before {wait} ms");
        assert_eq!(explode(&setup), ErrorKind::GuestUnavailable);
        setup.mock.advance(1);
        assert!(works(&setup), "after {wait} ms");
    }
    // That was the sixth VM; its failure is the sixth in a row.
    assert_eq!(setup.worker.stats().vms_failed, 5);
    assert_eq!(explode(&setup), ErrorKind::GuestTrap);
    setup.mock.advance(3_600_000);
    setup.worker.on_timeout().unwrap();
    assert!(!works(&setup), "after the limit the plugin stays down");
    assert_eq!(setup.worker.timeout_ns(), None);
    assert_eq!(setup.worker.stats().vms_created, 6);
}

#[test]
fn a_stream_that_ended_well_ends_the_row_of_failures() {
    let setup = crash_looping();
    explode(&setup);
    explode(&setup);
    setup.mock.advance(100);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, true).unwrap();
    stream.finish().unwrap();
    explode(&setup);
    assert!(works(&setup), "at once");
    explode(&setup);
    setup.mock.advance(100);
    assert!(works(&setup), "the waits begin anew");
}

#[test]
fn a_stream_that_meets_a_plugin_which_waits_for_a_vm_gets_the_policy() {
    let setup = crash_looping();
    explode(&setup);
    explode(&setup);
    let outcome = setup.http(3).on_headers(Request, 0, true).unwrap();
    assert_eq!(outcome.failure.unwrap().kind(), ErrorKind::GuestUnavailable);
    assert_eq!(local_responses(&setup.mock), unavailable(3));
}

#[test]
fn a_vm_is_made_anew_by_timeout_so_that_ticks_go_on() {
    let guest = Guest::everything()
        .on("configure", "(call $tick_ms (i32.const 10)) (i32.const 1)")
        .on("tick", "(if (i32.eq (call $next) (i32.const 2)) (then (unreachable)))");
    let setup = reloading(&guest);
    let mut ticks = 0;
    // Each VM ticks twice; the second tick fails it. It is replaced at once, then after a second.
    for _ in 0..100 {
        let Some(wait) = setup.worker.timeout_ns() else { panic!("nothing waits for time") };
        setup.mock.advance(wait.div_ceil(1_000_000));
        setup.worker.on_timeout().unwrap();
        ticks += setup.mock.take_log().iter().filter(|line| *line == "tick 1").count();
        if setup.worker.stats().vms_created == 4 {
            break;
        }
    }
    assert_eq!((setup.worker.stats().vms_created, ticks), (4, 6));
}

#[test]
fn both_roots_of_a_shared_vm_are_made_again() {
    let wasm = bomb().build();
    let setup = Setup::chain(&[(&wasm, PluginConfig::new("a")), (&wasm, PluginConfig::new("b"))]);
    explode(&setup);
    log_by_plugin(&setup.mock);
    assert_eq!(setup.worker.timeout_ns(), Some(0));
    setup.worker.on_timeout().unwrap();
    let expected = [
        "a: context_create 1 0",
        "a: vm_start 1 0",
        "a: configure 1 0",
        "b: context_create 2 0",
        "b: vm_start 2 0",
        "b: configure 2 0",
    ];
    assert_eq!(log_by_plugin(&setup.mock), expected);
    assert_eq!(setup.worker.stats().vms, 1);
    let stream = setup.http(1);
    assert!(stream.on_headers(Request, 0, true).unwrap().failure.is_none());
    assert_eq!(setup.worker.stats().vms_created, 2);
}

#[test]
fn two_plugins_of_a_failed_vm_follow_each_its_own_policy() {
    let wasm = bomb().build();
    let policy = |name: &str, policy: FailurePolicy| {
        let mut config = PluginConfig::new(name);
        config.failure_policy = policy;
        config
    };
    let setup =
        Setup::chain(&[(&wasm, policy("open", FailurePolicy::Open)), (&wasm, policy("reload", FailurePolicy::Reload))]);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    explode(&setup);
    // The first lets it pass, the second does not.
    assert_eq!(stream.on_body(Request, &chunk("x"), true).unwrap().action, Action::LocalResponse);
    let later = setup.http(2);
    let outcome = later.on_headers(Request, 0, true).unwrap();
    assert_eq!(outcome.action, Action::Continue, "{outcome:?}");
}

#[test]
fn a_configuration_that_is_refused_at_a_new_start_waits_and_is_logged() {
    // Accepts the first VM's configuration only: the others find the shared data that it left.
    let guest = Guest::everything().wat(r#"(data (i32.const 1024) "k")"#).on("foreign_function", "(unreachable)").on(
        "configure",
        "(if (result i32) (i32.eqz (call $proxy_get_shared_data (i32.const 1024) (i32.const 1)
             (global.get $out) (global.get $out_len) (global.get $out_cas)))
           (then (i32.const 0))
           (else (drop (call $proxy_set_shared_data (i32.const 1024) (i32.const 1) (i32.const 1024) (i32.const 1) (i32.const 0)))
             (i32.const 1)))",
    );
    let setup = reloading(&guest);
    explode(&setup);
    setup.mock.take_log();
    assert!(!works(&setup));
    let refusals = setup.mock.take_log().into_iter().filter(|line| line.contains("proxy_on_configure returned false"));
    assert_eq!(refusals.count(), 1);
    assert!(!works(&setup));
    assert!(setup.mock.take_log().is_empty(), "it is not tried for every stream");
    assert!(setup.worker.timeout_ns().is_some());
}

#[test]
fn a_plugin_that_fails_while_it_starts_is_not_added() {
    for phase in ["context_create", "vm_start", "configure"] {
        let engine = Engine::new(&EngineConfig::new()).unwrap();
        let worker = Worker::new(&engine, Box::new(MockHost(Mock::default()))).unwrap();
        let module = Module::compile(&engine, &traps_on(phase).build()).unwrap();
        let error = worker.add_plugin(&Plugin::new(&module, config()).unwrap()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::GuestTrap, "{phase}");
        assert!(error.to_string().contains(&format!("proxy_on_{phase}")), "{error}");
        worker.run_pending().unwrap();
        assert_eq!((worker.stats().vms, worker.is_idle()), (0, true));
    }
}
