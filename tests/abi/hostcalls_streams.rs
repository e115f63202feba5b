// SPDX-License-Identifier: Apache-2.0
//! What plugins do to a stream.
//!
//! | hostcall | tests |
//! |---|---|
//! | `proxy_continue_stream`, `proxy_continue_request`, `_response` | `continuing_*`, `abi_0_1_0_*` |
//! | `proxy_close_stream` | `closing_*` |
//! | `proxy_send_local_response` | `a_local_response_*` |
//! | `proxy_clear_route_cache` | `clearing_*` |
//!
//! `proxy_on_foreign_function` serves as a callback of the root context that a test can cause at any time.

use crate::support::*;
use proxywasm::abi::{Status, StreamType};
use proxywasm::*;

const RESUME_REQUEST: Event = Event::Resume { stream: 1, request: true };
const RESUME_RESPONSE: Event = Event::Resume { stream: 1, request: false };

/// Calls the root context, then checks what it logged.
fn call_root(script: &Script, setup: &Setup) {
    setup.instances[0].call_foreign(0, b"").unwrap();
    script.check(&setup.mock, &["foreign_function"]);
}

#[test]
fn continuing_a_paused_request_asks_the_host_to_resume_it() {
    let script =
        script(&[("request_headers", "return 1"), ("foreign_function", "set_effective_context 2\n continue_stream 0")]);
    let setup = script.setup();
    let stream = setup.http(1);
    assert_eq!(stream.on_headers(Direction::Request, 1, true).unwrap().action, Action::Pause);
    assert_eq!(setup.mock.take_events(), []);
    call_root(&script, &setup);
    assert_eq!(setup.mock.take_events(), [RESUME_REQUEST]);
    let outcome = stream.resume(Direction::Request).unwrap();
    assert!(outcome.headers && outcome.end_of_stream && outcome.action == Action::Continue, "{outcome:?}");
}

#[test]
fn a_callback_that_continues_and_pauses_ends_its_own_pause() {
    let script = script(&[
        ("request_headers", "continue_stream 0\n return 1"),
        ("request_body", "continue_stream 0\n return 1"),
        ("response_headers", "continue_stream 0\n return 1"),
    ]);
    let setup = script.setup();
    let stream = setup.http(1);
    assert_eq!(stream.on_headers(Direction::Request, 1, false).unwrap().action, Action::Pause);
    assert_eq!(setup.mock.take_events(), [RESUME_REQUEST]);
    assert!(stream.resume(Direction::Request).unwrap().headers);
    assert_eq!(stream.on_body(Direction::Request, &chunk("ab"), true).unwrap().action, Action::PauseAndBuffer);
    assert_eq!(setup.mock.take_events(), [RESUME_REQUEST]);
    let outcome = stream.resume(Direction::Request).unwrap();
    assert!(outcome.end_of_stream && outcome.action == Action::Continue, "{outcome:?}");
    // What the request's callbacks asked for is not for the response.
    assert_eq!(stream.on_headers(Direction::Response, 1, true).unwrap().action, Action::Pause);
    assert_eq!(setup.mock.take_events(), []);
}

#[test]
fn continuing_a_paused_response_asks_the_host_to_resume_it() {
    let script = script(&[
        ("response_headers", "return 1"),
        ("foreign_function", "set_effective_context 2\n continue_stream 1"),
    ]);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, true).unwrap();
    assert_eq!(stream.on_headers(Direction::Response, 1, true).unwrap().action, Action::Pause);
    call_root(&script, &setup);
    assert_eq!(setup.mock.take_events(), [RESUME_RESPONSE]);
    assert!(stream.resume(Direction::Response).unwrap().headers);
}

#[test]
fn continuing_a_paused_body_sends_what_was_held() {
    let script =
        script(&[("request_body", "return 1"), ("foreign_function", "set_effective_context 2\n continue_stream 0")]);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, false).unwrap();
    stream.on_body(Direction::Request, &chunk("held"), true).unwrap();
    call_root(&script, &setup);
    assert_eq!(setup.mock.take_events(), [RESUME_REQUEST]);
    assert!(stream.resume(Direction::Request).unwrap().end_of_stream);
    assert_eq!(forwarded(&stream, Direction::Request), "held");
}

#[test]
fn continuing_the_downstream_of_a_paused_connection_asks_the_host_to_resume_it() {
    let script =
        script(&[("downstream_data", "return 1"), ("foreign_function", "set_effective_context 2\n continue_stream 2")]);
    let setup = script.setup();
    let stream = setup.tcp(1);
    stream.on_new_connection().unwrap();
    stream.on_data(Direction::Request, &chunk("held"), false).unwrap();
    assert_eq!(forwarded(&stream, Direction::Request), "");
    call_root(&script, &setup);
    assert_eq!(setup.mock.take_events(), [RESUME_REQUEST]);
    stream.resume(Direction::Request).unwrap();
    assert_eq!(forwarded(&stream, Direction::Request), "held");
}

#[test]
fn continuing_what_is_not_paused_is_ok_and_nothing() {
    let lines = "continue_stream 0\n continue_stream 1\n continue_stream 2\n continue_request\n continue_response";
    let setup = in_request(|_| {}, lines);
    assert_eq!(setup.mock.take_events(), []);
}

#[test]
fn continuing_twice_resumes_once() {
    let script = script(&[
        ("request_headers", "return 1"),
        ("foreign_function", "set_effective_context 2\n continue_stream 0\n continue_stream 0"),
    ]);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, true).unwrap();
    call_root(&script, &setup);
    call_root(&script, &setup);
    assert_eq!(setup.mock.take_events(), [RESUME_REQUEST]);
    stream.resume(Direction::Request).unwrap();
    call_root(&script, &setup);
    assert_eq!(setup.mock.take_events(), []);
}

#[test]
fn continuing_the_other_direction_leaves_the_pause() {
    let script =
        script(&[("request_headers", "return 1"), ("foreign_function", "set_effective_context 2\n continue_stream 1")]);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, true).unwrap();
    call_root(&script, &setup);
    assert_eq!(setup.mock.take_events(), []);
}

#[test]
fn continuing_and_closing_the_streams_of_the_other_kind_is_ok_and_nothing() {
    let http = script(&[
        ("request_headers", "return 1"),
        ("foreign_function", "set_effective_context 2\n continue_stream 2\n close_stream 2\n close_stream 3"),
    ]);
    let setup = http.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, true).unwrap();
    call_root(&http, &setup);
    assert_eq!(setup.mock.take_events(), []);
    let tcp = script(&[
        ("downstream_data", "return 1"),
        (
            "foreign_function",
            "set_effective_context 2\n continue_stream 0\n continue_request\n close_stream 0\n close_stream 1",
        ),
    ]);
    let setup = tcp.setup();
    let stream = setup.tcp(1);
    stream.on_new_connection().unwrap();
    stream.on_data(Direction::Request, &chunk("held"), false).unwrap();
    call_root(&tcp, &setup);
    assert_eq!(setup.mock.take_events(), []);
}

#[test]
fn continuing_the_upstream_is_unimplemented_and_numbers_beyond_3_are_a_bad_argument() {
    in_request(|_| {}, "continue_stream 3 => 12\n continue_stream 4 => 2\n continue_stream -1 => 2");
}

#[test]
fn continuing_or_closing_without_a_stream_is_ok_and_nothing() {
    let setup = in_configure("continue_stream 0\n continue_stream 1\n continue_request\n continue_response\n close_stream 0\n close_stream 2");
    assert_eq!(setup.mock.take_events(), []);
}

#[test]
fn abi_0_1_0_continues_request_and_response_by_name() {
    let lines = "set_effective_context 2\n continue_request\n continue_response";
    let callbacks = [("request_headers", "return 1"), ("response_headers", "return 1"), ("foreign_function", lines)];
    let script = script_of("0_1_0", &[], &callbacks);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, true).unwrap();
    call_root(&script, &setup);
    assert_eq!(setup.mock.take_events(), [RESUME_REQUEST]);
    stream.resume(Direction::Request).unwrap();
    stream.on_headers(Direction::Response, 1, true).unwrap();
    call_root(&script, &setup);
    assert_eq!(setup.mock.take_events(), [RESUME_RESPONSE]);
}

#[test]
fn closing_ends_the_stream_after_the_callback() {
    for (number, which) in [(0, StreamType::HttpRequest), (1, StreamType::HttpResponse)] {
        let lines = format!("close_stream {number}\n set_property 'after' 'x'");
        let script = script(&[("request_headers", &lines)]);
        let setup = script.setup();
        let stream = setup.http(1);
        let outcome = stream.on_headers(Direction::Request, 1, false).unwrap();
        script.check(&setup.mock, &["request_headers"]);
        assert!(outcome.action == Action::Close && !outcome.headers, "{outcome:?}");
        let events = setup.mock.take_events();
        assert!(matches!(events[0], Event::SetProperty { .. }), "{events:?}");
        assert_eq!(events[1..], [Event::Close { stream: 1, which }]);
    }
    for (number, which) in [(2, StreamType::Downstream), (3, StreamType::Upstream)] {
        let lines = format!("close_stream {number}");
        let script = script(&[("downstream_data", &lines)]);
        let setup = script.setup();
        let stream = setup.tcp(1);
        stream.on_new_connection().unwrap();
        let outcome = stream.on_data(Direction::Request, &chunk("x"), false).unwrap();
        script.check(&setup.mock, &["downstream_data"]);
        assert_eq!((outcome.action, forwarded(&stream, Direction::Request)), (Action::Close, String::new()));
        assert_eq!(setup.mock.take_events(), [Event::Close { stream: 1, which }]);
    }
}

#[test]
fn closing_twice_closes_once() {
    let setup = in_request(|_| {}, "close_stream 0\n close_stream 1\n close_stream 0");
    assert_eq!(setup.mock.take_events(), [Event::Close { stream: 1, which: StreamType::HttpRequest }]);
}

#[test]
fn closing_numbers_beyond_3_is_a_bad_argument() {
    let setup = in_request(|_| {}, "close_stream 4 => 2\n close_stream -1 => 2");
    assert_eq!(setup.mock.take_events(), []);
}

/// A local response without details and headers.
fn plain(status: u32, body: &str) -> Event {
    Event::LocalResponse {
        stream: 1,
        status,
        grpc_status: None,
        details: String::new(),
        body: body.into(),
        headers: Vec::new(),
    }
}

#[test]
fn a_local_response_reaches_the_host_whole() {
    let setup = in_request(|_| {}, "send_local_response 403 'no such luck' 'bo\\0dy' {X-Why=Because|x-why=twice} 7");
    let expected = Event::LocalResponse {
        stream: 1,
        status: 403,
        grpc_status: Some(7),
        details: "no_such_luck".into(),
        body: "bo\0dy".into(),
        headers: vec![(b"x-why".to_vec(), b"Because".to_vec()), (b"x-why".to_vec(), b"twice".to_vec())],
    };
    assert_eq!(setup.mock.take_events(), [expected]);
}

#[test]
fn a_local_response_has_a_grpc_status_from_0_to_16_only() {
    for (given, expected) in [(0, Some(0)), (16, Some(16)), (17, None), (-1, None)] {
        let setup = in_request(|_| {}, &format!("send_local_response 200 '' '' '' {given}"));
        match &setup.mock.take_events()[..] {
            [Event::LocalResponse { grpc_status, .. }] => assert_eq!(*grpc_status, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_local_response_is_sent_after_the_callback() {
    let setup = in_request(|_| {}, "send_local_response 200 '' 'x' '' -1\n set_property 'after' 'x'");
    let events = setup.mock.take_events();
    assert!(matches!(events[0], Event::SetProperty { .. }), "{events:?}");
    assert_eq!(events[1..], [plain(200, "x")]);
}

#[test]
fn a_local_response_stops_the_request_whatever_the_callback_returns() {
    type Run = fn(&StreamHandle) -> Outcome;
    let phases: [(&str, Run); 3] = [
        ("request_headers", |stream| stream.on_headers(Direction::Request, 1, false).unwrap()),
        ("request_body", |stream| {
            stream.on_headers(Direction::Request, 1, false).unwrap();
            stream.on_body(Direction::Request, &chunk("x"), false).unwrap()
        }),
        ("request_trailers", |stream| {
            stream.on_headers(Direction::Request, 1, false).unwrap();
            stream.on_trailers(Direction::Request, 0).unwrap()
        }),
    ];
    for (phase, run) in phases {
        let first = script(&[(phase, "send_local_response 200 '' 'x' '' -1\n return 0")]);
        let second = script(&[(phase, "say 1 => 1")]);
        let setup = Setup::chain(&[(&first.wasm, config()), (&second.wasm, config())]);
        let stream = setup.http(1);
        let outcome = run(&stream);
        assert_eq!(outcome.action, Action::LocalResponse);
        assert!(!outcome.headers && !outcome.trailers && !outcome.end_of_stream, "{outcome:?}");
        assert_eq!(forwarded(&stream, Direction::Request), "");
        first.check(&setup.mock, &[phase]);
        assert_eq!(setup.mock.take_events(), [plain(200, "x")]);
    }
}

#[test]
fn a_local_response_can_take_the_place_of_the_response() {
    let script = script(&[("response_headers", "send_local_response 502 '' 'x' '' -1\n return 0")]);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, true).unwrap();
    let outcome = stream.on_headers(Direction::Response, 1, false).unwrap();
    assert_eq!((outcome.action, outcome.headers), (Action::LocalResponse, false));
    assert_eq!(setup.mock.take_events(), [plain(502, "x")]);
}

#[test]
fn a_local_response_after_the_headers_of_the_response_have_gone_closes_the_stream() {
    let script = script(&[("response_body", "send_local_response 502 '' 'x' '' -1")]);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, true).unwrap();
    stream.on_headers(Direction::Response, 1, false).unwrap();
    let outcome = stream.on_body(Direction::Response, &chunk("x"), false).unwrap();
    assert_eq!(outcome.action, Action::Close);
    script.check(&setup.mock, &["response_body"]);
    assert_eq!(setup.mock.take_events(), [Event::Close { stream: 1, which: StreamType::HttpResponse }]);
}

#[test]
fn a_local_response_passes_through_the_response_callbacks() {
    let script = script(&[
        ("request_headers", "send_local_response 200 '' 'x' '' -1"),
        ("response_headers", "say $1 => 2"),
        ("response_body", "say $1 => 1"),
    ]);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, true).unwrap();
    let outcome = stream.on_headers(Direction::Response, 2, false).unwrap();
    assert_eq!((outcome.action, outcome.headers), (Action::Continue, true));
    stream.on_body(Direction::Response, &chunk("x"), true).unwrap();
    script.check(&setup.mock, &["request_headers", "response_headers", "response_body"]);
}

#[test]
fn a_local_response_is_sent_once_and_the_first_counts() {
    let setup =
        in_request(|_| {}, "send_local_response 200 '' 'first' '' -1\n send_local_response 201 '' 'second' '' -1");
    assert_eq!(setup.mock.take_events(), [plain(200, "first")]);
}

#[test]
fn a_local_response_is_ok_to_the_guest_also_where_the_host_cannot_send_it() {
    let script = script(&[("request_headers", "send_local_response 200 '' 'x' '' -1")]);
    let setup = script.setup();
    setup.mock.answer("send_local_response", Status::Unimplemented);
    let outcome = setup.http(1).on_headers(Direction::Request, 1, true).unwrap();
    script.check(&setup.mock, &["request_headers"]);
    assert_eq!(outcome.action, Action::Close);
    assert_eq!(setup.mock.take_events()[1..], [Event::Close { stream: 1, which: StreamType::HttpResponse }]);
}

#[test]
fn a_local_response_from_the_root_goes_to_the_stream_of_the_effective_context() {
    let script = script(&[
        ("request_headers", "return 1"),
        (
            "foreign_function",
            "send_local_response 1 '' '' '' -1\n set_effective_context 2\n send_local_response 200 '' 'x' '' -1",
        ),
    ]);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, true).unwrap();
    call_root(&script, &setup);
    assert_eq!(setup.mock.take_events(), [plain(200, "x")]);
    assert_eq!(stream.resume(Direction::Request).unwrap().action, Action::LocalResponse);
}

#[test]
fn a_local_response_of_a_connection_is_ok_and_nothing() {
    let script = script(&[("new_connection", "send_local_response 200 '' 'x' '' -1")]);
    let setup = script.setup();
    let outcome = setup.tcp(1).on_new_connection().unwrap();
    script.check(&setup.mock, &["new_connection"]);
    assert_eq!((outcome.action, setup.mock.take_events()), (Action::Continue, vec![]));
}

#[test]
fn a_local_response_from_outside_memory_is_refused() {
    let setup = in_request(
        |_| {},
        "send_local_response 200 -8 4 '' '' -1 => 6
         send_local_response 200 '' -8 4 '' -1 => 6
         send_local_response 200 '' '' -8 4 -1 => 6
         send_local_response 200 '' '' 1024 -1 -1 => 6",
    );
    assert_eq!(setup.mock.take_events(), []);
}

#[test]
fn a_local_response_with_malformed_pairs_goes_out_without_them() {
    let setup = in_request(|_| {}, "send_local_response 403 '' 'no' '\\x01\\0\\0\\0' -1 => 0");
    let events = setup.mock.take_events();
    let [Event::LocalResponse { status, headers, body, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((*status, headers.len(), body.as_str()), (403, 0, "no"));
}

#[test]
fn a_stream_that_logs_or_is_done_can_be_acted_on_no_more() {
    let lines = "continue_stream 0\n close_stream 0\n send_local_response 200 '' 'x' '' -1";
    let script = script(&[("request_headers", "return 1"), ("log", lines), ("done", lines), ("delete", lines)]);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, true).unwrap();
    stream.log().unwrap();
    stream.done().unwrap();
    stream.finish().unwrap();
    script.check(&setup.mock, &["log", "done", "delete"]);
    assert_eq!(setup.mock.take_events(), []);
}

#[test]
fn clearing_the_route_cache_asks_the_host_by_its_foreign_function_and_is_always_ok() {
    let clear = || Event::Foreign { name: "clear_route_cache".into(), argument: Vec::new() };
    // The mock does not know the function.
    let setup = in_request(|_| {}, "clear_route_cache\n call_foreign_function 'clear_route_cache' '' out => 1");
    assert_eq!(setup.mock.take_events(), [clear(), clear()]);
    in_configure("clear_route_cache");
}
