// SPDX-License-Identifier: Apache-2.0
//! What the results of stream callbacks do: Envoy's filter iteration, seen by one plugin and by its host.

use crate::support::{chunk, config, config_with, forwarded, Event, Setup};
use crate::trace::*;
use proxywasm::abi::MapType;
use proxywasm::Direction::{Request, Response};
use proxywasm::*;

const GO: (Action, bool, bool, bool) = (Action::Continue, true, false, false);

fn setup(guest: Guest) -> Setup {
    setup_with(guest, config())
}

fn setup_with(guest: Guest, config: PluginConfig) -> Setup {
    let setup = Setup::with(&guest.build(), config);
    setup.mock.take_log();
    setup
}

/// With Envoy's `allow_on_headers_stop_iteration`.
fn allowing(guest: Guest) -> Setup {
    setup_with(guest, config_with(|config| config.allow_on_headers_stop_iteration = true))
}

fn limited(guest: Guest, limit: u64) -> Setup {
    setup_with(guest, config_with(|config| config.limits.max_body_buffer = limit))
}

/// Resumes a direction from a tick.
fn resuming(guest: Guest, stream: u32) -> Guest {
    guest
        .quiet("configure", "(call $tick_ms (i32.const 10)) (i32.const 1)")
        .quiet("tick", &format!("(call $effective (i32.const 2)) (call $continue (i32.const {stream}))"))
}

/// Lets the tick come; the resume that the host is asked for.
fn tick(setup: &Setup) -> Vec<Event> {
    setup.mock.advance(10);
    setup.worker.on_timeout().unwrap();
    let events = setup.mock.take_events();
    events.into_iter().filter(|event| matches!(event, Event::Resume { .. })).collect()
}

fn name(direction: Direction, what: &str) -> String {
    format!("{}_{what}", if direction == Request { "request" } else { "response" })
}

/// A stream whose other direction is out of the way.
fn stream_in(setup: &Setup, direction: Direction) -> StreamHandle {
    let stream = setup.http(1);
    if direction == Response {
        stream.on_headers(Request, 0, true).unwrap();
    }
    setup.mock.take_log();
    stream
}

// Headers

#[test]
fn header_results_without_the_option_pause_everything_but_for_continue() {
    // 2 is ContinueAndEndStream, which Envoy takes for Continue; what is more than 4 counts as 4.
    let cases = [
        (0, Action::Continue, true),
        (1, Action::Pause, false),
        (2, Action::Continue, true),
        (3, Action::PauseAndBuffer, false),
        (4, Action::Pause, false),
        (5, Action::Pause, false),
        (77, Action::Pause, false),
        (u32::MAX >> 1, Action::Pause, false),
    ];
    for direction in [Request, Response] {
        for (result, action, headers) in cases {
            let setup = setup(Guest::new().gives(&name(direction, "headers"), result).log(&name(direction, "body")));
            let stream = stream_in(&setup, direction);
            let outcome = stream.on_headers(direction, 0, false).unwrap();
            assert_eq!(told(&outcome), (action, headers, false, false), "{direction:?} {result}");
            setup.mock.take_log();
            stream.on_body(direction, &chunk("x"), false).unwrap();
            assert_eq!(setup.mock.take_log().len(), usize::from(headers), "body callback after {direction:?} {result}");
        }
    }
}

#[test]
fn header_results_with_the_option_let_the_body_callbacks_run_after_one() {
    let cases = [
        (0, Action::Continue, true, true),
        (1, Action::PauseAndBuffer, false, true),
        (2, Action::Continue, true, true),
        (3, Action::PauseAndBuffer, false, false),
        (4, Action::Pause, false, false),
        (9, Action::Pause, false, false),
    ];
    for direction in [Request, Response] {
        for (result, action, headers, body) in cases {
            let guest = Guest::new().gives(&name(direction, "headers"), result);
            let setup = allowing(guest.gives(&name(direction, "body"), 1));
            let stream = stream_in(&setup, direction);
            let outcome = stream.on_headers(direction, 0, false).unwrap();
            assert_eq!(told(&outcome), (action, headers, false, false), "{direction:?} {result}");
            setup.mock.take_log();
            stream.on_body(direction, &chunk("x"), false).unwrap();
            assert_eq!(setup.mock.take_log().len(), usize::from(body), "body callback after {direction:?} {result}");
        }
    }
}

#[test]
fn headers_that_were_stopped_go_on_with_the_body_that_continues() {
    let setup = allowing(Guest::new().gives("request_headers", 1).on("request_body", &first_then(1, 0)));
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    let outcome = stream.on_body(Request, &chunk("one "), false).unwrap();
    assert_eq!(told(&outcome), (Action::PauseAndBuffer, false, false, false));
    let outcome = stream.on_body(Request, &chunk("two"), false).unwrap();
    assert_eq!(told(&outcome), GO);
    assert_eq!(forwarded(&stream, Request), "one two");
}

#[test]
fn headers_that_end_the_stream_complete_it_when_they_pass() {
    for direction in [Request, Response] {
        let setup = setup(Guest::new().log(&name(direction, "headers")));
        let stream = stream_in(&setup, direction);
        let outcome = stream.on_headers(direction, 0, true).unwrap();
        assert_eq!(told(&outcome), (Action::Continue, true, false, true));
    }
}

#[test]
fn headers_that_end_the_stream_and_are_paused_complete_it_on_resume() {
    for (direction, number) in [(Request, 0), (Response, 1)] {
        let setup = setup(resuming(Guest::new().gives(&name(direction, "headers"), 1), number));
        let stream = stream_in(&setup, direction);
        let outcome = stream.on_headers(direction, 0, true).unwrap();
        assert_eq!(told(&outcome), (Action::Pause, false, false, false));
        assert_eq!(tick(&setup), [Event::Resume { stream: 1, request: direction == Request }]);
        assert_eq!(told(&stream.resume(direction).unwrap()), (Action::Continue, true, false, true));
    }
}

#[test]
fn body_that_waited_behind_paused_headers_is_shown_after_the_resume() {
    for (direction, number) in [(Request, 0), (Response, 1)] {
        let guest = Guest::new().gives(&name(direction, "headers"), 1).log(&name(direction, "body"));
        let setup = setup(resuming(guest, number));
        let stream = stream_in(&setup, direction);
        stream.on_headers(direction, 0, false).unwrap();
        for part in ["one ", "two"] {
            let outcome = stream.on_body(direction, &chunk(part), part == "two").unwrap();
            assert_eq!(told(&outcome), (Action::Pause, false, false, false));
            assert!(forwarded(&stream, direction).is_empty());
        }
        setup.mock.take_log();
        tick(&setup);
        let outcome = stream.resume(direction).unwrap();
        assert_eq!(told(&outcome), (Action::Continue, true, false, true));
        assert_eq!(forwarded(&stream, direction), "one two");
        assert_eq!(setup.mock.take_log(), [format!("{} 2 7 1", name(direction, "body"))]);
    }
}

#[test]
fn an_empty_end_that_waited_behind_paused_headers_is_shown_after_the_resume() {
    // In Envoy the empty frame is buffered too: the headers go on without the end, and the plugin sees the end of the body.
    let setup = setup(resuming(Guest::new().gives("request_headers", 1).log("request_body"), 0));
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    stream.on_body(Request, &[], true).unwrap();
    setup.mock.take_log();
    tick(&setup);
    let outcome = stream.resume(Request).unwrap();
    assert_eq!(told(&outcome), (Action::Continue, true, false, true));
    assert_eq!(setup.mock.take_log(), ["request_body 2 0 1"]);
}

#[test]
fn after_a_resume_headers_go_first_then_body_then_trailers() {
    let guest = Guest::new().gives("request_headers", 4).log("request_body").log("request_trailers");
    let wasm = resuming(guest, 0).build();
    let watcher = Guest::new().log("request_headers").log("request_body").log("request_trailers").build();
    let setup = Setup::chain(&[(&wasm, named("pauses")), (&watcher, named("watches"))]);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    stream.on_body(Request, &chunk("body"), false).unwrap();
    let outcome = stream.on_trailers(Request, 1).unwrap();
    assert_eq!(told(&outcome), (Action::Pause, false, false, false));
    log_by_plugin(&setup.mock);
    setup.mock.set_map(MapType::RequestTrailers, &[("t", "1")]);
    tick(&setup);
    let outcome = stream.resume(Request).unwrap();
    assert_eq!(told(&outcome), (Action::Continue, true, true, true));
    assert_eq!(forwarded(&stream, Request), "body");
    let expected = [
        "watches: request_headers 2 0 0",
        "pauses: request_body 2 4 0",
        "watches: request_body 2 4 0",
        "pauses: request_trailers 2 1",
        "watches: request_trailers 2 1",
    ];
    assert_eq!(log_by_plugin(&setup.mock), expected);
}

// Body

#[test]
fn body_results_pause_and_keep_or_drop() {
    // Result, action, whether the chunk is there after the resume. What is more than 3 counts as 3.
    let cases = [
        (1, Action::PauseAndBuffer, "chunk"),
        (2, Action::Pause, "chunk"),
        (3, Action::PauseAndBuffer, ""),
        (4, Action::PauseAndBuffer, ""),
        (99, Action::PauseAndBuffer, ""),
    ];
    for (direction, number) in [(Request, 0), (Response, 1)] {
        for (result, action, kept) in cases {
            let setup = setup(resuming(Guest::new().gives(&name(direction, "body"), result), number));
            let stream = stream_in(&setup, direction);
            if direction == Response {
                stream.on_headers(Response, 0, false).unwrap();
            } else {
                stream.on_headers(Request, 0, false).unwrap();
            }
            let outcome = stream.on_body(direction, &chunk("chunk"), false).unwrap();
            assert_eq!(told(&outcome), (action, false, false, false), "{direction:?} {result}");
            assert!(forwarded(&stream, direction).is_empty());
            assert_eq!(tick(&setup).len(), 1);
            let outcome = stream.resume(direction).unwrap();
            assert_eq!(told(&outcome), (Action::Continue, false, false, false), "{direction:?} {result}");
            assert_eq!(forwarded(&stream, direction), kept, "{direction:?} {result}");
        }
    }
}

/// Shows a plugin that gives this result three chunks and the end; gives what it saw.
fn views(result: u32, last: u32) -> (Vec<String>, String) {
    let body = format!("(call $show (i32.const 0)) (select (i32.const {last}) (i32.const {result}) (local.get 2))");
    let setup = setup(Guest::new().on("request_body", &body));
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    setup.mock.take_log();
    for part in ["one ", "two ", "three"] {
        stream.on_body(Request, &chunk(part), part == "three").unwrap();
    }
    (setup.mock.take_log(), forwarded(&stream, Request))
}

#[test]
fn stop_iteration_and_buffer_sees_everything_since_it_began() {
    let expected = [
        "request_body 2 4 0",
        "buffer=one ",
        "request_body 2 8 0",
        "buffer=one two ",
        "request_body 2 13 1",
        "buffer=one two three",
    ];
    let (log, forwarded) = views(1, 0);
    assert_eq!(log, expected);
    assert_eq!(forwarded, "one two three");
}

#[test]
fn stop_iteration_and_watermark_sees_the_chunk_only_and_loses_nothing() {
    let expected = [
        "request_body 2 4 0",
        "buffer=one ",
        "request_body 2 4 0",
        "buffer=two ",
        "request_body 2 5 1",
        "buffer=three",
    ];
    let (log, forwarded) = views(2, 0);
    assert_eq!(log, expected);
    assert_eq!(forwarded, "one two three");
}

#[test]
fn stop_iteration_no_buffer_sees_the_chunk_only_and_drops_it() {
    let expected = [
        "request_body 2 4 0",
        "buffer=one ",
        "request_body 2 4 0",
        "buffer=two ",
        "request_body 2 5 1",
        "buffer=three",
    ];
    let (log, forwarded) = views(3, 0);
    assert_eq!(log, expected);
    assert_eq!(forwarded, "three");
}

#[test]
fn after_continue_the_view_begins_anew() {
    let body = "(call $show (i32.const 0)) (i32.and (call $next) (i32.const 1))";
    let setup = setup(Guest::new().on("request_body", body));
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    setup.mock.take_log();
    let mut sent = Vec::new();
    for part in ["1", "2", "3", "4"] {
        stream.on_body(Request, &chunk(part), false).unwrap();
        sent.push(forwarded(&stream, Request));
    }
    let seen: Vec<_> = setup.mock.take_log().into_iter().filter(|line| line.starts_with("buffer")).collect();
    assert_eq!(seen, ["buffer=1", "buffer=12", "buffer=3", "buffer=34"]);
    assert_eq!(sent, ["", "12", "", "34"]);
}

#[test]
fn a_plugin_that_changes_from_buffer_to_watermark_keeps_what_it_has_and_sees_the_chunk_only() {
    // 1, then 2, then 0.
    let body = "(call $show (i32.const 0)) (i32.rem_u (call $next) (i32.const 3))";
    let setup = setup(Guest::new().on("request_body", body));
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    setup.mock.take_log();
    for part in ["a", "b", "c"] {
        stream.on_body(Request, &chunk(part), false).unwrap();
    }
    let seen: Vec<_> = setup.mock.take_log().into_iter().filter(|line| line.starts_with("buffer")).collect();
    assert_eq!(seen, ["buffer=a", "buffer=ab", "buffer=c"]);
    assert_eq!(forwarded(&stream, Request), "abc");
}

#[test]
fn what_a_plugin_changed_in_the_body_is_what_goes_on() {
    let guest = Guest::new().wat(r#"(data (i32.const 1024) "NEW")"#).on(
        "request_body",
        "(call $status (call $proxy_set_buffer_bytes
            (i32.const 0) (i32.const 0) (local.get 1) (i32.const 1024) (i32.const 3)))
         (i32.const 0)",
    );
    let setup = setup(guest);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    stream.on_body(Request, &chunk("something old"), true).unwrap();
    assert_eq!(forwarded(&stream, Request), "NEW");
}

#[test]
fn a_body_that_a_plugin_emptied_still_ends() {
    let empty = "(drop (call $proxy_set_buffer_bytes
        (i32.const 0) (i32.const 0) (local.get 1) (i32.const 0) (i32.const 0))) (i32.const 0)";
    let setup = setup(Guest::new().on("request_body", empty));
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    let outcome = stream.on_body(Request, &chunk("gone"), true).unwrap();
    assert_eq!(told(&outcome), (Action::Continue, false, false, true));
    assert!(stream.forward(Request).is_empty());
}

#[test]
fn a_paused_plugin_reads_and_changes_what_it_holds_from_another_callback() {
    let guest = Guest::new()
        .wat(r#"(data (i32.const 1024) ">")"#)
        .gives("request_body", 1)
        .quiet("configure", "(call $tick_ms (i32.const 10)) (i32.const 1)")
        .quiet(
            "tick",
            "(call $effective (i32.const 2)) (call $show (i32.const 0))
             (call $status (call $proxy_set_buffer_bytes
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1024) (i32.const 1)))
             (call $continue (i32.const 0))",
        );
    let setup = setup(guest);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    stream.on_body(Request, &chunk("held"), true).unwrap();
    setup.mock.take_log();
    assert_eq!(tick(&setup).len(), 1);
    assert_eq!(setup.mock.take_log(), ["buffer=held", "status=0"]);
    assert!(stream.resume(Request).unwrap().end_of_stream);
    assert_eq!(forwarded(&stream, Request), ">held");
}

#[test]
fn the_end_that_came_with_a_held_chunk_goes_on_with_it() {
    for result in [1, 2, 3] {
        let setup = setup(resuming(Guest::new().gives("request_body", result), 0));
        let stream = setup.http(1);
        stream.on_headers(Request, 0, false).unwrap();
        let outcome = stream.on_body(Request, &chunk("x"), true).unwrap();
        assert!(!outcome.end_of_stream, "{result}");
        tick(&setup);
        let outcome = stream.resume(Request).unwrap();
        assert_eq!(told(&outcome), (Action::Continue, false, false, true), "{result}");
    }
}

// Limits

#[test]
fn a_request_over_the_limit_in_a_buffer_is_answered_413_and_the_filter_not_called_again() {
    let setup = limited(Guest::new().gives("request_body", 1), 8);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    assert_eq!(stream.on_body(Request, &chunk("12345678"), false).unwrap().action, Action::PauseAndBuffer);
    assert!(local_responses(&setup.mock).is_empty(), "exactly the limit is allowed");
    assert_eq!(stream.on_body(Request, &chunk("9"), false).unwrap().action, Action::LocalResponse);
    assert_eq!(local_responses(&setup.mock), [(1, 413, "request_payload_too_large".to_owned())]);
    assert!(forwarded(&stream, Request).is_empty());
    setup.mock.take_log();
    assert_eq!(stream.on_body(Request, &chunk("more"), false).unwrap().action, Action::LocalResponse);
    assert!(setup.mock.take_log().is_empty());
}

#[test]
fn a_response_over_the_limit_whose_headers_still_wait_is_answered_500() {
    let setup = setup_with(
        Guest::new().log("request_headers").gives("response_headers", 1).gives("response_body", 1),
        config_with(|config| {
            config.limits.max_body_buffer = 8;
            config.allow_on_headers_stop_iteration = true;
        }),
    );
    let stream = stream_in(&setup, Response);
    stream.on_headers(Response, 0, false).unwrap();
    assert_eq!(stream.on_body(Response, &chunk("12345678"), false).unwrap().action, Action::PauseAndBuffer);
    let outcome = stream.on_body(Response, &chunk("9"), false).unwrap();
    assert_eq!(outcome.action, Action::LocalResponse);
    assert_eq!(local_responses(&setup.mock), [(1, 500, "response_payload_too_large".to_owned())]);
}

#[test]
fn a_response_over_the_limit_whose_headers_have_gone_is_closed() {
    let setup = limited(Guest::new().log("request_headers").gives("response_body", 1), 8);
    let stream = stream_in(&setup, Response);
    assert_eq!(told(&stream.on_headers(Response, 0, false).unwrap()), GO);
    let outcome = stream.on_body(Response, &chunk("123456789"), false).unwrap();
    assert_eq!(outcome.action, Action::Close);
    assert!(setup.mock.take_events().iter().any(|event| matches!(event, Event::Close { stream: 1, .. })));
}

#[test]
fn stop_all_iteration_and_buffer_over_the_limit_is_answered_413() {
    let setup = limited(Guest::new().gives("request_headers", 3), 4);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    assert_eq!(stream.on_body(Request, &chunk("1234"), false).unwrap().action, Action::PauseAndBuffer);
    assert_eq!(stream.on_body(Request, &chunk("5"), false).unwrap().action, Action::LocalResponse);
    assert_eq!(local_responses(&setup.mock), [(1, 413, "request_payload_too_large".to_owned())]);
}

#[test]
fn a_paused_stream_that_holds_its_limit_is_busy_until_it_resumes() {
    for guest in [Guest::new().gives("request_headers", 1), Guest::new().gives("request_body", 2)] {
        let setup = limited(resuming(guest, 0), 4);
        let stream = setup.http(1);
        stream.on_headers(Request, 0, false).unwrap();
        assert_eq!(stream.on_body(Request, &chunk("1234"), false).unwrap().action, Action::Pause);
        let error = stream.on_body(Request, &chunk("5"), true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(local_responses(&setup.mock).is_empty());
        tick(&setup);
        stream.resume(Request).unwrap();
        assert_eq!(forwarded(&stream, Request), "1234");
        // What was refused was not taken, and can be offered again.
        stream.on_body(Request, &chunk("5"), true).unwrap();
    }
}

#[test]
fn what_is_not_kept_counts_against_no_limit() {
    let setup = limited(Guest::new().gives("request_body", 3), 4);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    for _ in 0..10 {
        assert_eq!(stream.on_body(Request, &chunk("123"), false).unwrap().action, Action::PauseAndBuffer);
    }
}

#[test]
fn a_chunk_larger_than_the_limit_passes_a_plugin_that_continues() {
    let setup = limited(Guest::new().log("request_body"), 4);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    assert_eq!(stream.on_body(Request, &chunk("123456789"), true).unwrap().action, Action::Continue);
    assert_eq!(forwarded(&stream, Request), "123456789");
}

// Trailers

#[test]
fn trailers_end_the_direction_and_any_other_result_pauses_them() {
    for (direction, number) in [(Request, 0), (Response, 1)] {
        for result in [0, 1, 2, 9] {
            let setup = setup(resuming(Guest::new().gives(&name(direction, "trailers"), result), number));
            let stream = stream_in(&setup, direction);
            stream.on_headers(direction, 0, false).unwrap();
            let outcome = stream.on_trailers(direction, 1).unwrap();
            if result == 0 {
                assert_eq!(told(&outcome), (Action::Continue, false, true, true));
                continue;
            }
            assert_eq!(told(&outcome), (Action::Pause, false, false, false), "{direction:?} {result}");
            tick(&setup);
            assert_eq!(told(&stream.resume(direction).unwrap()), (Action::Continue, false, true, true));
        }
    }
}

#[test]
fn trailers_release_the_body_that_the_plugin_holds() {
    let setup =
        setup(Guest::new().gives("request_body", 1).on("request_trailers", "(call $show (i32.const 0)) (i32.const 0)"));
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    stream.on_body(Request, &chunk("held"), false).unwrap();
    setup.mock.take_log();
    let outcome = stream.on_trailers(Request, 2).unwrap();
    assert_eq!(told(&outcome), (Action::Continue, false, true, true));
    assert_eq!(forwarded(&stream, Request), "held");
    assert_eq!(setup.mock.take_log(), ["request_trailers 2 2", "buffer=held"]);
}

/// A plugin that adds trailers in its body callback when the body ends.
fn adds_trailers() -> Guest {
    Guest::new().wat(r#"(data (i32.const 1024) "t" "v")"#).log("request_trailers").on(
        "request_body",
        "(call $status (call $proxy_add_header_map_value
            (i32.const 1) (i32.const 1024) (i32.const 1) (i32.const 1025) (i32.const 1)))
         (i32.const 0)",
    )
}

#[test]
fn trailers_are_added_at_the_end_of_the_body_and_not_before() {
    let wasm = adds_trailers().build();
    let watcher = Guest::new().log("request_body").log("request_trailers").build();
    let setup = Setup::chain(&[(&wasm, named("adds")), (&watcher, named("watches"))]);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    log_by_plugin(&setup.mock);
    stream.on_body(Request, &chunk("a"), false).unwrap();
    let outcome = stream.on_body(Request, &chunk("b"), true).unwrap();
    assert_eq!(told(&outcome), (Action::Continue, false, true, true));
    assert_eq!(forwarded(&stream, Request), "b");
    let expected = [
        "adds: request_body 2 1 0",
        "adds: status=2",
        "watches: request_body 2 1 0",
        "adds: request_body 2 1 1",
        "adds: status=0",
        // The end is not the body's any more; who made the trailers is not shown them.
        "watches: request_body 2 1 0",
        "watches: request_trailers 2 1",
    ];
    assert_eq!(log_by_plugin(&setup.mock), expected);
    assert_eq!(setup.mock.map(MapType::RequestTrailers), [("t".to_owned(), "v".to_owned())]);
}

// Pause and resume

/// A plugin that pauses at request headers, and the stream in that pause.
fn paused(guest: Guest) -> (Setup, StreamHandle) {
    let setup = setup(guest.gives("request_headers", 1));
    let stream = setup.http(1);
    assert_eq!(stream.on_headers(Request, 0, true).unwrap().action, Action::Pause);
    setup.mock.take_events();
    (setup, stream)
}

const RESUMED: [Event; 1] = [Event::Resume { stream: 1, request: true }];

#[test]
fn a_tick_resumes_through_the_effective_context() {
    let (setup, stream) = paused(resuming(Guest::new(), 0));
    assert_eq!(tick(&setup), RESUMED);
    assert_eq!(told(&stream.resume(Request).unwrap()), (Action::Continue, true, false, true));
}

#[test]
fn the_answer_to_a_call_resumes_the_stream_that_made_it() {
    let guest = Guest::new().on("http_call_response", "(call $effective (i32.const 2)) (call $continue (i32.const 0))");
    let setup = setup(guest.on("request_headers", "(drop (call $call)) (i32.const 1)"));
    let stream = setup.http(1);
    stream.on_headers(Request, 0, true).unwrap();
    let token = setup.mock.last_token();
    setup.mock.take_events();
    setup.worker.http_call_complete(token, Some(HttpResponse::default())).unwrap();
    assert_eq!(setup.mock.take_events(), RESUMED);
    assert!(stream.resume(Request).unwrap().headers);
}

#[test]
fn an_item_in_a_queue_resumes() {
    let guest = Guest::new()
        .wat(r#"(data (i32.const 1024) "q")"#)
        .quiet(
            "configure",
            "(drop (call $proxy_register_shared_queue (i32.const 1024) (i32.const 1) (i32.const 28)))
             (drop (call $proxy_enqueue_shared_queue (i32.load (i32.const 28)) (i32.const 1024) (i32.const 1)))
             (i32.const 1)",
        )
        .quiet("queue_ready", "(call $effective (i32.const 2)) (call $continue (i32.const 0))");
    let (setup, stream) = paused(guest);
    setup.worker.run_pending().unwrap();
    assert_eq!(setup.mock.take_events(), RESUMED);
    assert!(stream.resume(Request).unwrap().headers);
}

#[test]
fn a_stream_resumes_another_one_through_the_effective_context() {
    let guest = Guest::new().on(
        "request_headers",
        "(if (result i32) (i32.eq (local.get 0) (i32.const 2))
           (then (i32.const 1))
           (else (call $effective (i32.const 2)) (call $continue (i32.const 0)) (i32.const 0)))",
    );
    let setup = setup(guest);
    let (one, two) = (setup.http(1), setup.http(2));
    assert_eq!(one.on_headers(Request, 0, true).unwrap().action, Action::Pause);
    assert_eq!(two.on_headers(Request, 0, true).unwrap().action, Action::Continue);
    assert_eq!(setup.mock.take_events(), RESUMED);
    assert!(one.resume(Request).unwrap().headers);
}

#[test]
fn a_plugin_resumes_a_stream_of_another_plugin_in_its_vm() {
    let pauses = Guest::new()
        .quiet("request_headers", "(i32.const 1)")
        .quiet("foreign_function", "(call $effective (local.get 1)) (call $continue (i32.const 0))")
        .build();
    let setup = Setup::chain(&[(&pauses, PluginConfig::new("a")), (&pauses, PluginConfig::new("b"))]);
    // The roots are 1 and 2, so the stream context of the first is 3.
    let stream = setup.http(1);
    stream.on_headers(Request, 0, true).unwrap();
    setup.instances[1].call_foreign(3, b"").unwrap();
    assert_eq!(setup.mock.take_events(), RESUMED);
}

#[test]
fn responses_are_resumed_apart_from_requests() {
    let guest = Guest::new().gives("request_headers", 1).gives("response_headers", 1);
    let setup = setup(resuming(guest, 1));
    let stream = setup.http(1);
    stream.on_headers(Request, 0, true).unwrap();
    stream.on_headers(Response, 0, true).unwrap();
    assert_eq!(tick(&setup), [Event::Resume { stream: 1, request: false }]);
    assert_eq!(stream.resume(Request).unwrap().action, Action::Pause, "only the response was resumed");
    assert!(stream.resume(Response).unwrap().headers);
}

#[test]
fn the_hostcalls_of_0_1_0_resume_as_well() {
    for (call, request) in [("$proxy_continue_request", true), ("$proxy_continue_response", false)] {
        let guest = Guest::new()
            .version("0_1_0")
            .gives("request_headers", u32::from(request))
            .gives("response_headers", 1)
            .quiet("configure", "(call $tick_ms (i32.const 10)) (i32.const 1)")
            .quiet("tick", &format!("(call $effective (i32.const 2)) (drop (call {call}))"));
        let setup = setup(guest);
        let stream = setup.http(1);
        stream.on_headers(Request, 0, true).unwrap();
        if !request {
            stream.on_headers(Response, 0, true).unwrap();
        }
        assert_eq!(tick(&setup), [Event::Resume { stream: 1, request }]);
    }
}

#[test]
fn a_resume_without_a_pause_is_harmless() {
    let setup = setup(resuming(Guest::new().log("request_headers").log("request_body"), 0));
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    assert!(tick(&setup).is_empty(), "the host is not asked to resume what runs");
    // And one that comes from the host does nothing.
    assert_eq!(told(&stream.resume(Request).unwrap()), (Action::Continue, false, false, false));
    assert_eq!(told(&stream.resume(Response).unwrap()), (Action::Continue, false, false, false));
    assert_eq!(told(&stream.on_body(Request, &chunk("x"), true).unwrap()), (Action::Continue, false, false, true));
}

#[test]
fn a_host_that_resumes_unasked_does_not_end_a_pause() {
    let (_setup, stream) = paused(Guest::new());
    assert_eq!(told(&stream.resume(Request).unwrap()), (Action::Pause, false, false, false));
}

#[test]
fn the_host_is_asked_once_to_end_a_pause() {
    let (setup, stream) = paused(resuming(Guest::new(), 0));
    assert_eq!(tick(&setup), RESUMED);
    assert!(tick(&setup).is_empty());
    assert!(stream.resume(Request).unwrap().headers);
}

#[test]
fn a_resume_that_a_continue_overtook_does_not_end_the_next_pause() {
    // Pauses at the first and the third chunk; the tick asks for the end of the first pause.
    let setup = setup(resuming(Guest::new().quiet("request_body", "(i32.and (call $next) (i32.const 1))"), 0));
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    stream.on_body(Request, &chunk("1"), false).unwrap();
    assert_eq!(tick(&setup).len(), 1);
    // Before the host comes to resume, the second chunk ends the pause and the third begins another.
    stream.on_body(Request, &chunk("2"), false).unwrap();
    stream.on_body(Request, &chunk("3"), false).unwrap();
    assert_eq!(stream.resume(Request).unwrap().action, Action::PauseAndBuffer);
    assert!(forwarded(&stream, Request).is_empty());
    // The new pause can be ended in its turn.
    assert_eq!(tick(&setup).len(), 1);
    stream.resume(Request).unwrap();
    assert_eq!(forwarded(&stream, Request), "3");
}

#[test]
fn a_stream_that_has_ended_is_not_resumed() {
    let (setup, stream) = paused(resuming(Guest::new(), 0));
    stream.finish().unwrap();
    assert!(tick(&setup).is_empty());
    assert_eq!(stream.resume(Request).unwrap().action, Action::Close);
}

// Local responses and closing

#[test]
fn a_local_response_takes_the_place_of_the_request_in_every_phase() {
    let phases = ["request_headers", "request_body", "request_trailers"];
    for phase in phases {
        // Continue, but the local response forces a stop.
        let setup = setup(Guest::new().on(phase, "(call $respond (i32.const 418)) (i32.const 0)"));
        let stream = setup.http(1);
        let mut outcome = stream.on_headers(Request, 0, false).unwrap();
        if phase != "request_headers" {
            assert_eq!(told(&outcome), GO);
            outcome = stream.on_body(Request, &chunk("x"), false).unwrap();
        }
        if phase == "request_trailers" {
            outcome = stream.on_trailers(Request, 0).unwrap();
        }
        assert_eq!(told(&outcome), (Action::LocalResponse, false, false, false), "{phase}");
        assert!(forwarded(&stream, Request).is_empty());
        let events = setup.mock.take_events();
        let [Event::LocalResponse { stream: 1, status: 418, grpc_status: None, details, body, .. }] = &events[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!((&**details, &**body), ("details_here", "text"));
    }
}

#[test]
fn the_first_local_response_counts() {
    let twice = "(call $respond (i32.const 401)) (call $respond (i32.const 402)) (i32.const 0)";
    let setup = setup(Guest::new().on("request_headers", twice));
    setup.http(1).on_headers(Request, 0, true).unwrap();
    assert_eq!(local_responses(&setup.mock).iter().map(|(_, status, _)| *status).collect::<Vec<_>>(), [401]);
}

#[test]
fn a_local_response_from_an_answer_to_a_call_ends_the_pause_by_itself() {
    let guest = Guest::new()
        .on("request_headers", "(drop (call $call)) (i32.const 1)")
        .on("http_call_response", "(call $effective (i32.const 2)) (call $respond (i32.const 403))");
    let setup = setup(guest);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, true).unwrap();
    setup.worker.http_call_complete(setup.mock.last_token(), None).unwrap();
    assert_eq!(local_responses(&setup.mock), [(1, 403, "details_here".to_owned())]);
    // Nothing of the request moves any more, whatever the host does.
    assert_eq!(stream.resume(Request).unwrap().action, Action::LocalResponse);
    // The local response is a response like any other.
    assert_eq!(told(&stream.on_headers(Response, 0, true).unwrap()), (Action::Continue, true, false, true));
}

#[test]
fn a_local_response_may_replace_a_response_whose_headers_have_not_gone() {
    let guest =
        Guest::new().log("request_headers").on("response_headers", "(call $respond (i32.const 502)) (i32.const 0)");
    let setup = setup(guest);
    let stream = stream_in(&setup, Response);
    let outcome = stream.on_headers(Response, 0, false).unwrap();
    assert_eq!(told(&outcome), (Action::LocalResponse, false, false, false));
    assert_eq!(local_responses(&setup.mock).len(), 1);
}

#[test]
fn a_local_response_may_replace_another_that_passes_the_plugins() {
    let guest = Guest::new()
        .on("request_headers", "(call $respond (i32.const 401)) (i32.const 0)")
        .on("response_headers", "(call $respond (i32.const 502)) (i32.const 0)");
    let setup = setup(guest);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, true).unwrap();
    let outcome = stream.on_headers(Response, 0, false).unwrap();
    assert_eq!(told(&outcome), (Action::LocalResponse, false, false, false));
    assert_eq!(local_responses(&setup.mock).iter().map(|(_, status, _)| *status).collect::<Vec<_>>(), [401, 502]);
    // Which is not shown to them.
    assert_eq!(stream.on_body(Response, &chunk("x"), true).unwrap().action, Action::LocalResponse);
}

#[test]
fn a_local_response_after_the_headers_of_another_went_closes_the_stream() {
    let guest = Guest::new()
        .on("request_headers", "(call $respond (i32.const 401)) (i32.const 0)")
        .on("response_body", "(call $respond (i32.const 502)) (i32.const 0)");
    let setup = setup(guest);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, true).unwrap();
    stream.on_headers(Response, 0, false).unwrap();
    assert_eq!(stream.on_body(Response, &chunk("x"), true).unwrap().action, Action::Close);
}

#[test]
fn a_local_response_after_the_response_headers_went_closes_the_stream() {
    let guest =
        Guest::new().log("request_headers").on("response_body", "(call $respond (i32.const 502)) (i32.const 0)");
    let setup = setup(guest);
    let stream = stream_in(&setup, Response);
    stream.on_headers(Response, 0, false).unwrap();
    let outcome = stream.on_body(Response, &chunk("x"), false).unwrap();
    assert_eq!(told(&outcome), (Action::Close, false, false, false));
    assert!(local_responses(&setup.mock).is_empty());
}

#[test]
fn closing_a_stream_stops_both_directions() {
    let guest = Guest::new().on("request_headers", "(drop (call $proxy_close_stream (i32.const 0))) (i32.const 0)");
    let setup = setup(guest);
    let stream = setup.http(1);
    assert_eq!(stream.on_headers(Request, 0, false).unwrap().action, Action::Close);
    let events = setup.mock.take_events();
    assert_eq!(events, [Event::Close { stream: 1, which: abi::StreamType::HttpRequest }]);
    assert_eq!(stream.on_body(Request, &chunk("x"), true).unwrap().action, Action::Close);
    assert_eq!(stream.on_headers(Response, 0, true).unwrap().action, Action::Close);
    assert!(setup.mock.take_events().is_empty());
}

// The order in which the host calls

#[test]
fn phases_out_of_order_are_refused_without_calling_the_guest() {
    type Step = fn(&StreamHandle) -> Result<Outcome>;
    let headers: Step = |stream| stream.on_headers(Request, 0, false);
    let headers_end: Step = |stream| stream.on_headers(Request, 0, true);
    let body: Step = |stream| stream.on_body(Request, &chunk("x"), false);
    let body_end: Step = |stream| stream.on_body(Request, &[], true);
    let trailers: Step = |stream| stream.on_trailers(Request, 0);
    let cases: [(&[Step], Step); 10] = [
        (&[], body),
        (&[], trailers),
        (&[headers], headers),
        (&[headers_end], body),
        (&[headers_end], trailers),
        (&[headers, body_end], body),
        (&[headers, body_end], trailers),
        (&[headers, body, trailers], body),
        (&[headers, trailers], trailers),
        (&[headers, trailers], headers_end),
    ];
    for (index, (before, wrong)) in cases.into_iter().enumerate() {
        let setup = setup(Guest::everything());
        let stream = setup.http(1);
        for step in before {
            step(&stream).unwrap();
        }
        setup.mock.take_log();
        assert_eq!(wrong(&stream).unwrap_err().kind(), ErrorKind::InvalidArgument, "case {index}");
        assert!(setup.mock.take_log().is_empty(), "case {index}");
    }
}

#[test]
fn tcp_data_before_the_connection_and_after_its_end_is_refused() {
    let setup = setup(Guest::everything());
    let stream = setup.tcp(1);
    assert_eq!(stream.on_data(Request, &chunk("x"), false).unwrap_err().kind(), ErrorKind::InvalidArgument);
    stream.on_new_connection().unwrap();
    assert_eq!(stream.on_new_connection().unwrap_err().kind(), ErrorKind::InvalidArgument);
    stream.on_data(Request, &[], true).unwrap();
    assert_eq!(stream.on_data(Request, &chunk("x"), false).unwrap_err().kind(), ErrorKind::InvalidArgument);
    stream.on_data(Response, &chunk("x"), false).unwrap();
}

// TCP

#[test]
fn any_tcp_result_but_zero_stops_and_the_data_accumulates() {
    for result in [1, 2, 3, 9] {
        let body = format!("(call $show (i32.const 2)) (select (i32.const 0) (i32.const {result}) (local.get 2))");
        let setup = setup(Guest::new().on("downstream_data", &body));
        let stream = setup.tcp(1);
        stream.on_new_connection().unwrap();
        for part in ["a", "b"] {
            let outcome = stream.on_data(Request, &chunk(part), false).unwrap();
            assert_eq!(told(&outcome), (Action::PauseAndBuffer, false, false, false), "{result}");
        }
        let outcome = stream.on_data(Request, &chunk("c"), true).unwrap();
        assert_eq!(told(&outcome), (Action::Continue, false, false, true));
        assert_eq!(forwarded(&stream, Request), "abc");
        let seen: Vec<_> = setup.mock.take_log().into_iter().filter(|line| line.starts_with("buffer")).collect();
        assert_eq!(seen, ["buffer=a", "buffer=ab", "buffer=abc"], "{result}");
    }
}

#[test]
fn tcp_data_to_the_client_accumulates_too() {
    let body = "(call $show (i32.const 3)) (i32.and (call $next) (i32.const 1))";
    let setup = setup(Guest::new().on("upstream_data", body));
    let stream = setup.tcp(1);
    stream.on_new_connection().unwrap();
    stream.on_data(Response, &chunk("a"), false).unwrap();
    assert_eq!(told(&stream.on_data(Response, &chunk("b"), true).unwrap()), (Action::Continue, false, false, true));
    assert_eq!(forwarded(&stream, Response), "ab");
}

#[test]
fn a_tcp_pause_is_ended_through_the_downstream_and_the_data_is_not_shown_again() {
    let setup = setup(resuming(Guest::new().gives("downstream_data", 1), 2));
    let stream = setup.tcp(1);
    stream.on_new_connection().unwrap();
    stream.on_data(Request, &chunk("held"), true).unwrap();
    setup.mock.take_log();
    assert_eq!(tick(&setup), RESUMED);
    assert_eq!(told(&stream.resume(Request).unwrap()), (Action::Continue, false, false, true));
    assert_eq!(forwarded(&stream, Request), "held");
    assert!(setup.mock.take_log().is_empty());
}

#[test]
fn a_pause_at_a_new_connection_keeps_it_from_the_next_plugin_until_data_continues() {
    // As in Envoy: the plugin that stopped goes on being shown data.
    let wasm = Guest::new().gives("new_connection", 1).on("downstream_data", &first_then(1, 0)).build();
    let watcher = Guest::new().log("new_connection").log("downstream_data").build();
    let setup = Setup::chain(&[(&wasm, named("pauses")), (&watcher, named("watches"))]);
    let stream = setup.tcp(1);
    let outcome = stream.on_new_connection().unwrap();
    assert!(!outcome.headers && outcome.action != Action::Continue, "{outcome:?}");
    assert_eq!(log_by_plugin(&setup.mock), ["pauses: new_connection 2"]);
    stream.on_data(Request, &chunk("a"), false).unwrap();
    assert_eq!(log_by_plugin(&setup.mock), ["pauses: downstream_data 2 1 0"]);
    let outcome = stream.on_data(Request, &chunk("b"), false).unwrap();
    assert_eq!(told(&outcome), GO);
    assert_eq!(forwarded(&stream, Request), "ab");
    let expected = ["pauses: downstream_data 2 2 0", "watches: new_connection 2", "watches: downstream_data 2 2 0"];
    assert_eq!(log_by_plugin(&setup.mock), expected);
}

#[test]
fn a_pause_at_a_new_connection_is_ended_by_a_resume() {
    let setup = setup(resuming(Guest::new().gives("new_connection", 1), 2));
    let stream = setup.tcp(1);
    stream.on_new_connection().unwrap();
    assert_eq!(tick(&setup), RESUMED);
    assert_eq!(told(&stream.resume(Request).unwrap()), GO);
}

#[test]
fn a_zero_byte_end_of_tcp_is_shown_and_forwarded() {
    let setup = setup(Guest::new().log("downstream_data").log("upstream_data"));
    let stream = setup.tcp(1);
    stream.on_new_connection().unwrap();
    for direction in [Request, Response] {
        let outcome = stream.on_data(direction, &[], true).unwrap();
        assert_eq!(told(&outcome), (Action::Continue, false, false, true));
    }
    assert_eq!(setup.mock.take_log(), ["downstream_data 2 0 1", "upstream_data 2 0 1"]);
}

#[test]
fn tcp_over_its_limit_waits_and_is_not_closed() {
    let setup = limited(resuming(Guest::new().gives("downstream_data", 1), 2), 4);
    let stream = setup.tcp(1);
    stream.on_new_connection().unwrap();
    assert_eq!(stream.on_data(Request, &chunk("12345"), false).unwrap().action, Action::Pause);
    assert_eq!(stream.on_data(Request, &chunk("6"), false).unwrap_err().kind(), ErrorKind::Busy);
    tick(&setup);
    stream.resume(Request).unwrap();
    assert_eq!(forwarded(&stream, Request), "12345");
    assert!(!setup.mock.take_events().iter().any(|event| matches!(event, Event::Close { .. })));
}
