// SPDX-License-Identifier: Apache-2.0
//! Two plugins and more on one stream: order, what one makes of the message for the next, and bytes that nobody touches.

use crate::support::{chunk, forwarded, Event, Setup};
use crate::trace::*;
use proxywasm::abi::MapType;
use proxywasm::Direction::{Request, Response};
use proxywasm::*;

const NAMES: [&str; 3] = ["first", "second", "third"];

/// Plugins named first, second, third, each in a VM of its own. What they logged while they started is forgotten.
fn chain(guests: &[Guest]) -> Setup {
    let modules: Vec<_> = guests.iter().map(Guest::build).collect();
    let plugins: Vec<_> = modules.iter().zip(NAMES).map(|(wasm, name)| (&wasm[..], named(name))).collect();
    let setup = Setup::chain(&plugins);
    setup.mock.take_log();
    setup
}

fn http_watcher() -> Guest {
    let phases = ["request_headers", "request_body", "request_trailers"];
    let responses = ["response_headers", "response_body", "response_trailers"];
    phases.into_iter().chain(responses).fold(Guest::new(), |guest, name| guest.log(name))
}

fn log(setup: &Setup) -> Vec<String> {
    log_by_plugin(&setup.mock)
}

/// Resumes a direction of stream context 2 when its `proxy_on_foreign_function` is called with the number of the direction.
fn resumable(guest: Guest) -> Guest {
    guest.quiet("foreign_function", "(call $effective (i32.const 2)) (call $continue (local.get 1))")
}

fn let_go(setup: &Setup, plugin: usize, direction: Direction) {
    setup.instances[plugin].call_foreign(direction as u32, b"").unwrap();
}

#[test]
fn requests_pass_forward_and_responses_backward() {
    let setup = chain(&[http_watcher(), http_watcher(), http_watcher()]);
    setup.mock.set_map(MapType::RequestTrailers, &[("t", "1")]);
    setup.mock.set_map(MapType::ResponseTrailers, &[("t", "1")]);
    let stream = setup.http(1);
    for direction in [Request, Response] {
        stream.on_headers(direction, 0, false).unwrap();
        stream.on_body(direction, &chunk("x"), false).unwrap();
        stream.on_trailers(direction, 1).unwrap();
    }
    let order: Vec<_> = log(&setup);
    let mut expected = Vec::new();
    for phase in ["request_headers 2 0 0", "request_body 2 1 0", "request_trailers 2 1"] {
        expected.extend(NAMES.iter().map(|name| format!("{name}: {phase}")));
    }
    for phase in ["response_headers 2 0 0", "response_body 2 1 0", "response_trailers 2 1"] {
        expected.extend(NAMES.iter().rev().map(|name| format!("{name}: {phase}")));
    }
    assert_eq!(order, expected);
}

#[test]
fn tcp_passes_forward_from_the_client_and_backward_to_it() {
    let watcher = || Guest::new().log("new_connection").log("downstream_data").log("upstream_data");
    let setup = chain(&[watcher(), watcher()]);
    let stream = setup.tcp(1);
    stream.on_new_connection().unwrap();
    stream.on_data(Request, &chunk("a"), false).unwrap();
    stream.on_data(Response, &chunk("b"), false).unwrap();
    let expected = [
        "first: new_connection 2",
        "second: new_connection 2",
        "first: downstream_data 2 1 0",
        "second: downstream_data 2 1 0",
        "second: upstream_data 2 1 0",
        "first: upstream_data 2 1 0",
    ];
    assert_eq!(log(&setup), expected);
}

#[test]
fn an_empty_chain_passes_everything() {
    let setup = chain(&[]);
    let stream = setup.http(1);
    assert_eq!(told(&stream.on_headers(Request, 0, false).unwrap()), (Action::Continue, true, false, false));
    stream.on_body(Request, &chunk("x"), false).unwrap();
    assert_eq!(forwarded(&stream, Request), "x");
    assert_eq!(told(&stream.on_trailers(Request, 0).unwrap()), (Action::Continue, false, true, true));
    assert!(setup.chain.is_empty() && setup.chain.phases() == Phases(0));
}

#[test]
fn the_second_streams_what_the_first_lets_go_of_its_buffer() {
    let first = Guest::new().on("request_body", "(i32.eqz (local.get 2))");
    let setup = chain(&[first, http_watcher()]);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    log(&setup);
    for part in ["one ", "two "] {
        let outcome = stream.on_body(Request, &chunk(part), false).unwrap();
        assert_eq!(told(&outcome), (Action::PauseAndBuffer, false, false, false));
    }
    let outcome = stream.on_body(Request, &chunk("three"), true).unwrap();
    assert_eq!(told(&outcome), (Action::Continue, false, false, true));
    assert_eq!(forwarded(&stream, Request), "one two three");
    let expected = [
        "first: request_body 2 4 0",
        "first: request_body 2 8 0",
        "first: request_body 2 13 1",
        "second: request_body 2 13 1",
    ];
    assert_eq!(log(&setup), expected);
}

#[test]
fn the_first_streams_while_the_second_pauses_on_headers() {
    let second = resumable(Guest::new().gives("request_headers", 1).log("request_body"));
    let setup = chain(&[http_watcher(), second, http_watcher()]);
    let stream = setup.http(1);
    assert_eq!(told(&stream.on_headers(Request, 0, false).unwrap()), (Action::Pause, false, false, false));
    log(&setup);
    stream.on_body(Request, &chunk("one "), false).unwrap();
    let outcome = stream.on_body(Request, &chunk("two"), true).unwrap();
    assert_eq!(told(&outcome), (Action::Pause, false, false, false));
    assert_eq!(log(&setup), ["first: request_body 2 4 0", "first: request_body 2 3 1"]);
    let_go(&setup, 1, Request);
    let outcome = stream.resume(Request).unwrap();
    assert_eq!(told(&outcome), (Action::Continue, true, false, true));
    assert_eq!(forwarded(&stream, Request), "one two");
    let expected = ["third: request_headers 2 0 0", "second: request_body 2 7 1", "third: request_body 2 7 1"];
    assert_eq!(log(&setup), expected);
}

#[test]
fn two_plugins_that_both_pause_are_passed_one_after_the_other() {
    let pauses = || resumable(Guest::new().gives("request_headers", 1));
    let setup = chain(&[pauses(), pauses()]);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, true).unwrap();
    assert_eq!(log(&setup), ["first: request_headers 2 0 1"]);
    let_go(&setup, 0, Request);
    assert_eq!(told(&stream.resume(Request).unwrap()), (Action::Pause, false, false, false));
    assert_eq!(log(&setup), ["second: request_headers 2 0 1"]);
    let_go(&setup, 1, Request);
    assert_eq!(told(&stream.resume(Request).unwrap()), (Action::Continue, true, false, true));
    assert!(log(&setup).is_empty());
}

#[test]
fn both_plugins_may_let_go_before_the_host_resumes() {
    let first = resumable(Guest::new().gives("request_body", 1));
    let second = resumable(Guest::new().gives("request_headers", 1));
    let setup = chain(&[first, second]);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    stream.on_body(Request, &chunk("body"), true).unwrap();
    let_go(&setup, 0, Request);
    let_go(&setup, 1, Request);
    assert_eq!(told(&stream.resume(Request).unwrap()), (Action::Continue, true, false, true));
    assert_eq!(forwarded(&stream, Request), "body");
}

#[test]
fn a_pause_in_one_direction_leaves_the_other_alone() {
    let setup = chain(&[Guest::new().gives("request_body", 1), http_watcher()]);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    assert_eq!(stream.on_body(Request, &chunk("x"), false).unwrap().action, Action::PauseAndBuffer);
    let outcome = stream.on_headers(Response, 0, false).unwrap();
    assert_eq!(told(&outcome), (Action::Continue, true, false, false));
    stream.on_body(Response, &chunk("answer"), true).unwrap();
    assert_eq!(forwarded(&stream, Response), "answer");
    assert!(forwarded(&stream, Request).is_empty());
}

#[test]
fn a_local_response_of_the_second_passes_those_that_saw_the_request_and_not_the_third() {
    let second = http_watcher().on("request_headers", "(call $respond (i32.const 403)) (i32.const 0)");
    let setup = chain(&[http_watcher(), second, http_watcher()]);
    let stream = setup.http(1);
    assert_eq!(stream.on_headers(Request, 0, true).unwrap().action, Action::LocalResponse);
    assert_eq!(local_responses(&setup.mock).len(), 1);
    assert_eq!(log(&setup), ["first: request_headers 2 0 1", "second: request_headers 2 0 1"]);
    assert_eq!(told(&stream.on_headers(Response, 1, false).unwrap()), (Action::Continue, true, false, false));
    stream.on_body(Response, &chunk("no"), true).unwrap();
    assert_eq!(forwarded(&stream, Response), "no");
    let expected = [
        "second: response_headers 2 1 0",
        "first: response_headers 2 1 0",
        "second: response_body 2 2 1",
        "first: response_body 2 2 1",
    ];
    assert_eq!(log(&setup), expected);
}

#[test]
fn the_plugins_that_saw_a_local_response_can_change_it() {
    let first = http_watcher().wat(r#"(data (i32.const 1024) "x-by" "first")"#).on(
        "response_headers",
        "(call $status (call $proxy_add_header_map_value
            (i32.const 2) (i32.const 1024) (i32.const 4) (i32.const 1028) (i32.const 5)))
         (i32.const 0)",
    );
    let second = Guest::new().on("request_headers", "(call $respond (i32.const 403)) (i32.const 0)");
    let setup = chain(&[first, second]);
    setup.mock.set_map(MapType::ResponseHeaders, &[(":status", "403")]);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, true).unwrap();
    stream.on_headers(Response, 1, true).unwrap();
    assert_eq!(setup.mock.map(MapType::ResponseHeaders)[1].1, "first");
}

#[test]
fn the_next_plugin_is_told_the_number_of_headers_after_changes() {
    let adds = |map: u32, phase: &str| {
        Guest::new().wat(r#"(data (i32.const 1024) "n" "v")"#).log("request_headers").on(
            phase,
            &format!(
                "(drop (call $proxy_add_header_map_value
                    (i32.const {map}) (i32.const 1024) (i32.const 1) (i32.const 1025) (i32.const 1)))
                 (i32.const 0)"
            ),
        )
    };
    let setup = chain(&[adds(0, "request_headers"), http_watcher(), http_watcher()]);
    setup.mock.set_map(MapType::RequestHeaders, &[("a", "1"), ("b", "2")]);
    setup.http(1).on_headers(Request, 2, true).unwrap();
    let expected = ["first: request_headers 2 2 1", "second: request_headers 2 3 1", "third: request_headers 2 3 1"];
    assert_eq!(log(&setup), expected);

    let setup = chain(&[http_watcher(), adds(2, "response_headers")]);
    setup.mock.set_map(MapType::ResponseHeaders, &[(":status", "200")]);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, true).unwrap();
    log(&setup);
    stream.on_headers(Response, 1, true).unwrap();
    assert_eq!(log(&setup), ["second: response_headers 2 1 1", "first: response_headers 2 2 1"]);
}

#[test]
fn the_next_plugin_is_told_the_number_of_trailers_after_changes_and_after_held_headers() {
    let first = Guest::new().wat(r#"(data (i32.const 1024) "n" "v")"#).gives("request_headers", 1).on(
        "request_trailers",
        "(drop (call $proxy_add_header_map_value
            (i32.const 1) (i32.const 1024) (i32.const 1) (i32.const 1025) (i32.const 1)))
         (i32.const 0)",
    );
    let (first, second) = (first.build(), http_watcher().build());
    let mut config = named("first");
    config.allow_on_headers_stop_iteration = true;
    let setup = Setup::chain(&[(&first, config), (&second, named("second"))]);
    setup.mock.set_map(MapType::RequestHeaders, &[("a", "1"), ("b", "2"), ("c", "3")]);
    setup.mock.set_map(MapType::RequestTrailers, &[("t", "1")]);
    let stream = setup.http(1);
    stream.on_headers(Request, 3, false).unwrap();
    log(&setup);
    stream.on_trailers(Request, 1).unwrap();
    let expected = ["first: request_trailers 2 1", "second: request_headers 2 3 0", "second: request_trailers 2 2"];
    assert_eq!(log(&setup), expected);
}

#[test]
fn the_number_of_trailers_is_not_taken_for_that_of_held_headers() {
    // The first takes no part in trailers, so nobody has used their number up.
    let first = Guest::new().gives("request_headers", 1).build();
    let second = http_watcher().build();
    let mut config = named("first");
    config.allow_on_headers_stop_iteration = true;
    let setup = Setup::chain(&[(&first, config), (&second, named("second"))]);
    setup.mock.set_map(MapType::RequestHeaders, &[("a", "1"), ("b", "2"), ("c", "3")]);
    let stream = setup.http(1);
    stream.on_headers(Request, 3, false).unwrap();
    log(&setup);
    stream.on_trailers(Request, 7).unwrap();
    assert_eq!(log(&setup), ["second: request_headers 2 3 0", "second: request_trailers 2 7"]);
}

#[test]
fn a_property_that_one_sets_the_other_reads_and_only_on_the_same_stream() {
    let first = Guest::new().wat(r#"(data (i32.const 1024) "user" "alice")"#).on(
        "request_headers",
        "(if (i32.eqz (local.get 2))
           (then (call $status (call $proxy_set_property
             (i32.const 1024) (i32.const 4) (i32.const 1028) (i32.const 5)))))
         (i32.const 0)",
    );
    let second = Guest::new().wat(r#"(data (i32.const 1024) "user")"#).on(
        "request_headers",
        "(call $status (call $proxy_get_property (i32.const 1024) (i32.const 4) (global.get $out) (global.get $out_len)))
         (call $value) (i32.const 0)",
    );
    let setup = chain(&[first, second]);
    let (one, two) = (setup.http(1), setup.http(2));
    one.on_headers(Request, 0, false).unwrap();
    let seen = log(&setup);
    assert_eq!(seen[1], "first: status=0");
    assert_eq!(seen[3..], ["second: status=0", "second: alice"]);
    two.on_headers(Request, 0, true).unwrap();
    assert_eq!(log(&setup)[2], "second: status=1");
}

#[test]
fn with_trailers_no_plugin_sees_the_end_in_headers_or_body() {
    let setup = chain(&[Guest::new().gives("request_body", 1), http_watcher()]);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    stream.on_body(Request, &chunk("held"), false).unwrap();
    log(&setup);
    // The first has no trailers callback: its buffer goes on with them.
    let outcome = stream.on_trailers(Request, 1).unwrap();
    assert_eq!(told(&outcome), (Action::Continue, false, true, true));
    assert_eq!(forwarded(&stream, Request), "held");
    assert_eq!(log(&setup), ["second: request_body 2 4 0", "second: request_trailers 2 1"]);
}

#[test]
fn a_plugin_is_skipped_in_phases_that_its_configuration_leaves_out() {
    let wasm = Guest::everything().build();
    let mut only_responses = named("first");
    only_responses.phases = Phases::RESPONSE_HEADERS;
    let setup = Setup::chain(&[(&wasm, only_responses), (&wasm, named("second"))]);
    assert_eq!(setup.instances[0].plugin().phases(), Phases::RESPONSE_HEADERS);
    log(&setup);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    stream.on_body(Request, &chunk("x"), true).unwrap();
    stream.on_headers(Response, 0, false).unwrap();
    stream.on_body(Response, &chunk("y"), true).unwrap();
    stream.log().unwrap();
    stream.finish().unwrap();
    let first: Vec<_> = log(&setup).into_iter().filter(|line| line.starts_with("first")).collect();
    let expected = ["first: context_create 2 1", "first: response_headers 2 0 0", "first: done 2", "first: delete 2"];
    assert_eq!(first, expected);
}

#[test]
fn the_phases_of_a_chain_are_those_of_its_plugins_and_the_beginning() {
    let setup = chain(&[Guest::new().log("request_body"), Guest::new().log("response_trailers").log("log")]);
    let begin = Phases::REQUEST_HEADERS.0 | Phases::NEW_CONNECTION.0;
    let own = Phases::REQUEST_BODY.0 | Phases::RESPONSE_TRAILERS.0 | Phases::LOG.0;
    assert_eq!(setup.chain.phases(), Phases(begin | own));
    assert_eq!(setup.chain.len(), 2);
}

#[test]
fn every_plugin_is_logged_and_deleted_in_order() {
    let watcher = || Guest::new().log("log").log("done").log("delete");
    let setup = chain(&[watcher(), watcher()]);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, true).unwrap();
    stream.log().unwrap();
    stream.finish().unwrap();
    let expected =
        ["first: log 2", "second: log 2", "first: done 2", "first: delete 2", "second: done 2", "second: delete 2"];
    assert_eq!(log(&setup), expected);

    let stream = setup.http(1);
    stream.on_headers(Request, 0, true).unwrap();
    stream.complete().unwrap();
    assert_eq!(log(&setup), expected.map(|line| line.replace('2', "3")));
}

#[test]
fn what_has_been_said_at_the_end_is_not_said_again() {
    let setup = chain(&[Guest::new().log("log").log("done").log("delete")]);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, true).unwrap();
    stream.complete().unwrap();
    assert_eq!(log(&setup), ["first: log 2", "first: done 2", "first: delete 2"]);
    stream.complete().unwrap();
    stream.finish().unwrap();
    assert!(log(&setup).is_empty());

    let stream = setup.http(1);
    stream.on_headers(Request, 0, true).unwrap();
    stream.done().unwrap();
    stream.complete().unwrap();
    assert_eq!(log(&setup), ["first: done 3", "first: log 3", "first: delete 3"]);
}

#[test]
fn a_stream_without_request_headers_gets_its_context_to_log() {
    let setup = chain(&[Guest::new().log("context_create").log("log").log("delete")]);
    log(&setup);
    setup.http(1).complete().unwrap();
    assert_eq!(log(&setup), ["first: context_create 2 1", "first: log 2", "first: delete 2"]);
}

#[test]
fn a_plugin_that_fails_while_it_logs_hears_no_more_and_the_others_do() {
    let traps = || Guest::new().quiet("log", "(unreachable)").log("done");
    let alone = chain(&[traps()]);
    let before = chain(&[traps(), Guest::new().log("log").log("done").log("delete")]);
    let others: [&[&str]; 2] = [&[], &["second: log 2", "second: done 2", "second: delete 2"]];
    for (setup, others) in [alone, before].iter().zip(others) {
        let stream = setup.http(1);
        stream.on_headers(Request, 0, true).unwrap();
        let error = stream.complete().unwrap_err();
        assert!(error.to_string().contains("failed in proxy_on_log"), "{error}");
        let said = log(setup);
        assert!(said[0].contains("failed in proxy_on_log"), "{said:?}");
        assert_eq!(said[1..], *others);
    }
}

#[test]
fn one_plugin_may_be_in_a_chain_twice_and_in_several_chains() {
    let setup = chain(&[Guest::new().log("request_headers")]);
    let instance = &setup.instances[0];
    let twice = setup.worker.chain(&[instance, instance]).unwrap();
    let stream = setup.worker.stream(&twice, StreamKind::Http, StreamData(9)).unwrap();
    stream.on_headers(Request, 0, true).unwrap();
    assert_eq!(log(&setup), ["first: request_headers 2 0 1", "first: request_headers 3 0 1"]);
}

#[test]
fn an_instance_of_another_worker_makes_no_chain() {
    let (one, two) = (chain(&[Guest::new()]), chain(&[Guest::new()]));
    let error = one.worker.chain(&[&two.instances[0]]).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_close_by_the_first_keeps_the_second_from_the_request() {
    let first = Guest::new().on("request_headers", "(drop (call $proxy_close_stream (i32.const 0))) (i32.const 0)");
    let setup = chain(&[first, http_watcher()]);
    assert_eq!(setup.http(1).on_headers(Request, 0, true).unwrap().action, Action::Close);
    assert_eq!(log(&setup), ["first: request_headers 2 0 1"]);
    assert!(matches!(setup.mock.take_events()[..], [Event::Close { stream: 1, .. }]));
}

// Bytes that nobody touches

/// Chunks of body and the addresses of their bytes.
fn placed(parts: &[&str]) -> (Vec<Chunk>, Vec<*const u8>) {
    let bytes: Vec<Vec<u8>> = parts.iter().map(|part| part.as_bytes().to_vec()).collect();
    let places = bytes.iter().map(|bytes| bytes.as_ptr()).collect();
    (bytes.into_iter().map(Chunk::owned).collect(), places)
}

fn places(stream: &StreamHandle, direction: Direction) -> Vec<*const u8> {
    stream.forward(direction).slices().map(<[u8]>::as_ptr).collect()
}

#[test]
fn a_body_that_nobody_reads_is_not_copied() {
    for guests in [vec![], vec![Guest::new(), Guest::new()], vec![http_watcher(), http_watcher()]] {
        let setup = chain(&guests);
        let stream = setup.http(1);
        for direction in [Request, Response] {
            stream.on_headers(direction, 0, false).unwrap();
            let (chunks, given) = placed(&["one", "two", "three"]);
            stream.on_body(direction, &chunks, false).unwrap();
            assert_eq!(places(&stream, direction), given);
        }
    }
}

#[test]
fn a_body_that_is_read_is_forwarded_from_where_it_was() {
    let reads = Guest::new().on("request_body", "(call $show (i32.const 0)) (i32.const 0)");
    let setup = chain(&[reads]);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    let (chunks, given) = placed(&["one", "two"]);
    stream.on_body(Request, &chunks, true).unwrap();
    assert_eq!(places(&stream, Request), given);
}

#[test]
fn a_body_that_is_held_back_and_let_go_is_not_copied_when_it_is_owned() {
    for result in [1, 2] {
        let setup = chain(&[resumable(Guest::new().gives("request_body", result)), http_watcher()]);
        let stream = setup.http(1);
        stream.on_headers(Request, 0, false).unwrap();
        let (chunks, given) = placed(&["one", "two"]);
        stream.on_body(Request, &chunks[..1], false).unwrap();
        stream.on_body(Request, &chunks[1..], true).unwrap();
        let_go(&setup, 0, Request);
        stream.resume(Request).unwrap();
        assert_eq!(places(&stream, Request), given, "{result}");
    }
}

#[test]
fn what_a_plugin_puts_before_a_body_leaves_the_rest_in_place() {
    let prepends = Guest::new().wat(r#"(data (i32.const 1024) ">>")"#).on(
        "request_body",
        "(drop (call $proxy_set_buffer_bytes
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1024) (i32.const 2))) (i32.const 0)",
    );
    let setup = chain(&[prepends]);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    let (chunks, given) = placed(&["body"]);
    stream.on_body(Request, &chunks, true).unwrap();
    assert_eq!(forwarded(&stream, Request), ">>body");
    assert_eq!(places(&stream, Request)[1..], given);
}

#[test]
fn what_was_forwarded_is_cleared_by_the_next_phase_of_its_direction_only() {
    let setup = chain(&[Guest::new()]);
    let stream = setup.http(1);
    stream.on_headers(Request, 0, false).unwrap();
    stream.on_body(Request, &chunk("one"), false).unwrap();
    stream.on_headers(Response, 0, true).unwrap();
    assert_eq!(forwarded(&stream, Request), "one");
    stream.on_body(Request, &chunk("two"), true).unwrap();
    assert_eq!(forwarded(&stream, Request), "two");
}
