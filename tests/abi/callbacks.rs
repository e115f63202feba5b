// SPDX-License-Identifier: Apache-2.0
//! Every callback: when it comes, with which arguments, what its result does, and what happens where it is missing.

use crate::support::{chunk, config_with, forwarded, Event, Setup};
use crate::trace::*;
use proxywasm::abi::pairs::PairList;
use proxywasm::abi::{MapType, PeerType};
use proxywasm::*;

fn pairs(list: &[(&str, &str)]) -> PairList {
    let mut pairs = PairList::new();
    list.iter().for_each(|(name, value)| pairs.push(name.as_bytes(), value.as_bytes()));
    pairs
}

/// A setup whose guest has every callback; what it logged while it started is forgotten.
fn everything() -> Setup {
    started(Guest::everything())
}

fn started(guest: Guest) -> Setup {
    let setup = Setup::new(&guest.build());
    setup.mock.take_log();
    setup
}

/// The log since the last look.
fn log(setup: &Setup) -> Vec<String> {
    setup.mock.take_log()
}

// Life of a VM and of its plugins

#[test]
fn a_plugin_is_created_started_and_configured_with_the_sizes_of_its_configurations() {
    let config = config_with(|config| {
        config.vm_configuration = b"vm".to_vec();
        config.configuration = b"plugin".to_vec();
    });
    let guest = Guest::everything()
        .on("vm_start", "(call $show (i32.const 6)) (i32.const 1)")
        .on("configure", "(call $show (i32.const 7)) (i32.const 1)");
    let setup = Setup::with(&guest.build(), config);
    let expected = ["context_create 1 0", "vm_start 1 2", "buffer=vm", "configure 1 6", "buffer=plugin"];
    assert_eq!(log(&setup), expected);
}

#[test]
fn in_a_shared_vm_each_plugin_is_created_started_and_configured_in_its_own_root_context() {
    let wasm = Guest::everything().build();
    let plugin = |name: &str, size: usize| {
        let mut config = PluginConfig::new(name);
        config.configuration = vec![b'x'; size];
        config
    };
    let setup = Setup::chain(&[(&wasm, plugin("a", 1)), (&wasm, plugin("b", 2))]);
    let expected = [
        "a: context_create 1 0",
        "a: vm_start 1 0",
        "a: configure 1 1",
        "b: context_create 2 0",
        "b: vm_start 2 0",
        "b: configure 2 2",
    ];
    assert_eq!(log_by_plugin(&setup.mock), expected);
    assert_eq!(setup.worker.stats().vms, 1);
}

#[test]
fn stream_contexts_name_their_root_and_ids_count_on_through_the_vm() {
    let wasm = Guest::new().log("context_create").log("request_headers").build();
    let setup = Setup::chain(&[(&wasm, PluginConfig::new("a")), (&wasm, PluginConfig::new("b"))]);
    log(&setup);
    let (one, two) = (setup.http(1), setup.http(2));
    for stream in [&one, &two] {
        stream.on_headers(Direction::Request, 0, true).unwrap();
    }
    let expected = [
        "a: context_create 3 1",
        "a: request_headers 3 0 1",
        "b: context_create 4 2",
        "b: request_headers 4 0 1",
        "a: context_create 5 1",
        "a: request_headers 5 0 1",
        "b: context_create 6 2",
        "b: request_headers 6 0 1",
    ];
    assert_eq!(log_by_plugin(&setup.mock), expected);
    one.finish().unwrap();
    let three = setup.http(3);
    three.on_headers(Direction::Request, 0, true).unwrap();
    assert_eq!(log(&setup)[0], "context_create 7 1", "an id is not used again soon");
}

#[test]
fn the_context_is_created_when_the_stream_first_reaches_the_plugin() {
    let setup = everything();
    let stream = setup.http(1);
    assert!(log(&setup).is_empty());
    stream.on_headers(Direction::Request, 0, true).unwrap();
    assert_eq!(log(&setup), ["context_create 2 1", "request_headers 2 0 1"]);
}

#[test]
fn vm_start_false_refuses_the_plugin_and_it_is_not_configured() {
    let guest = Guest::everything().gives("vm_start", 0);
    let mock = crate::support::Mock::default();
    let engine = Engine::new(&EngineConfig::new()).unwrap();
    let error = Setup::on_engine(&engine, &mock, &[(&guest.build(), PluginConfig::new("picky"))]).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::GuestRejected);
    assert!(error.to_string().contains("proxy_on_vm_start") && error.to_string().contains("picky"), "{error}");
    assert_eq!(mock.take_log(), ["context_create 1 0", "vm_start 1 0"]);
}

#[test]
fn configure_false_refuses_the_plugin() {
    let error = Setup::try_chain(&[(&Guest::new().gives("configure", 0).build(), PluginConfig::new("picky"))]);
    let error = error.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::GuestRejected);
    assert!(error.to_string().contains("proxy_on_configure") && error.to_string().contains("picky"), "{error}");
}

#[test]
fn any_result_but_zero_accepts() {
    Setup::new(&Guest::new().gives("vm_start", 256).gives("configure", u32::MAX >> 1).build());
}

#[test]
fn a_plugin_that_is_refused_leaves_the_other_plugin_of_the_vm_alone() {
    // The second to be configured is refused.
    let wasm = Guest::new().on("configure", &first_then(1, 0)).log("request_headers").build();
    let setup = Setup::with(&wasm, PluginConfig::new("a"));
    let module = Module::compile(&setup.engine, &wasm).unwrap();
    let error = setup.worker.add_plugin(&Plugin::new(&module, PluginConfig::new("b")).unwrap()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::GuestRejected);
    log(&setup);
    setup.http(1).on_headers(Direction::Request, 0, true).unwrap();
    assert_eq!(log(&setup), ["request_headers 3 0 1"]);
    assert_eq!(setup.worker.stats().vms, 1);
}

// HTTP

#[test]
fn the_phases_of_http_come_with_context_count_or_size_and_end() {
    let setup = everything();
    setup.mock.set_map(MapType::RequestHeaders, &[("a", "1"), ("b", "2")]);
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 2, false).unwrap();
    stream.on_body(Direction::Request, &chunk("hello"), false).unwrap();
    stream.on_trailers(Direction::Request, 3).unwrap();
    stream.on_headers(Direction::Response, 1, false).unwrap();
    stream.on_body(Direction::Response, &chunk("ab"), false).unwrap();
    stream.on_body(Direction::Response, &chunk("c"), true).unwrap();
    stream.log().unwrap();
    stream.done().unwrap();
    stream.finish().unwrap();
    let expected = [
        "context_create 2 1",
        "request_headers 2 2 0",
        "request_body 2 5 0",
        "request_trailers 2 3",
        "response_headers 2 1 0",
        "response_body 2 2 0",
        "response_body 2 1 1",
        "log 2",
        "done 2",
        "delete 2",
    ];
    assert_eq!(log(&setup), expected);
}

#[test]
fn headers_that_end_the_stream_say_so_in_0_2_and_cannot_in_0_1_0() {
    for (version, expected) in [
        ("0_1_0", ["request_headers 2 7", "response_headers 2 8"]),
        ("0_2_0", ["request_headers 2 7 1", "response_headers 2 8 1"]),
        ("0_2_1", ["request_headers 2 7 1", "response_headers 2 8 1"]),
    ] {
        let setup = started(Guest::new().version(version).log("request_headers").log("response_headers"));
        let stream = setup.http(1);
        let request = stream.on_headers(Direction::Request, 7, true).unwrap();
        let response = stream.on_headers(Direction::Response, 8, true).unwrap();
        assert_eq!(log(&setup), expected, "{version}");
        // The host is told all the same.
        assert!(request.end_of_stream && response.end_of_stream);
    }
}

#[test]
fn every_version_gets_every_callback_but_foreign_function_in_0_1_0() {
    for version in ["0_1_0", "0_2_0", "0_2_1"] {
        let setup = started(Guest::everything().version(version));
        let stream = setup.http(1);
        stream.on_headers(Direction::Request, 0, false).unwrap();
        stream.on_metadata(Direction::Request, 4).unwrap();
        stream.on_body(Direction::Request, &chunk("x"), false).unwrap();
        stream.on_trailers(Direction::Request, 1).unwrap();
        stream.log().unwrap();
        stream.finish().unwrap();
        let names: Vec<_> = log(&setup).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
        let expected = [
            "context_create",
            "request_headers",
            "request_metadata",
            "request_body",
            "request_trailers",
            "log",
            "done",
            "delete",
        ];
        assert_eq!(names, expected, "{version}");
    }
}

#[test]
fn an_empty_end_of_body_is_shown_and_an_empty_chunk_before_the_end_is_not() {
    let setup = started(Guest::new().log("request_body"));
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 0, false).unwrap();
    stream.on_body(Direction::Request, &[], false).unwrap();
    assert!(log(&setup).is_empty());
    assert!(stream.on_body(Direction::Request, &[], true).unwrap().end_of_stream);
    assert_eq!(log(&setup), ["request_body 2 0 1"]);
}

#[test]
fn several_chunks_at_once_are_one_body() {
    let setup = started(Guest::new().on("request_body", "(call $show (i32.const 0)) (i32.const 0)"));
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 0, false).unwrap();
    let chunks = [chunk("one "), chunk(""), chunk("two")].concat();
    stream.on_body(Direction::Request, &chunks, false).unwrap();
    assert_eq!(log(&setup), ["request_body 2 7 0", "buffer=one two"]);
    assert_eq!(forwarded(&stream, Direction::Request), "one two");
}

#[test]
fn metadata_is_told_and_its_result_does_not_count() {
    let setup = started(Guest::everything().gives("request_metadata", 1).gives("response_metadata", 3));
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 0, false).unwrap();
    let outcome = stream.on_metadata(Direction::Request, 4).unwrap();
    assert_eq!(told(&outcome), (Action::Continue, false, false, false));
    stream.on_body(Direction::Request, &chunk("x"), true).unwrap();
    stream.on_headers(Direction::Response, 0, false).unwrap();
    assert_eq!(stream.on_metadata(Direction::Response, 5).unwrap().action, Action::Continue);
    let expected = [
        "context_create 2 1",
        "request_headers 2 0 0",
        "request_metadata 2 4",
        "request_body 2 1 1",
        "response_headers 2 0 0",
        "response_metadata 2 5",
    ];
    assert_eq!(log(&setup), expected);
}

#[test]
fn the_end_of_an_http_stream_is_log_then_done_then_delete() {
    let setup = started(Guest::new().log("log").log("done").log("delete").log("request_headers"));
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 0, true).unwrap();
    log(&setup);
    stream.log().unwrap();
    assert_eq!(log(&setup), ["log 2"]);
    stream.done().unwrap();
    assert_eq!(log(&setup), ["done 2"]);
    stream.finish().unwrap();
    assert_eq!(log(&setup), ["delete 2"]);
}

#[test]
fn finish_alone_tells_done_and_delete_once() {
    let setup = started(Guest::everything());
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 0, true).unwrap();
    log(&setup);
    stream.finish().unwrap();
    assert_eq!(log(&setup), ["done 2", "delete 2"]);
    stream.done().unwrap();
    stream.finish().unwrap();
    drop(stream);
    assert!(log(&setup).is_empty());
}

#[test]
fn done_false_does_not_keep_a_stream_context() {
    let setup = started(Guest::everything().gives("done", 0));
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 0, true).unwrap();
    log(&setup);
    stream.finish().unwrap();
    assert_eq!(log(&setup), ["done 2", "delete 2"]);
}

#[test]
fn a_guest_with_nothing_but_the_end_callbacks_is_told_the_end() {
    let setup = started(Guest::new().log("context_create").log("done").log("delete"));
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 0, true).unwrap();
    stream.finish().unwrap();
    assert_eq!(log(&setup), ["context_create 2 1", "done 2", "delete 2"]);
}

#[test]
fn a_stream_that_never_reached_the_plugin_is_created_just_to_be_logged() {
    let setup = started(Guest::everything());
    let stream = setup.http(1);
    stream.log().unwrap();
    stream.finish().unwrap();
    assert_eq!(log(&setup), ["context_create 2 1", "log 2", "done 2", "delete 2"]);
}

#[test]
fn a_stream_that_never_reached_the_plugin_and_is_not_logged_is_not_created_at_all() {
    let setup = everything();
    setup.http(1).finish().unwrap();
    assert!(log(&setup).is_empty());
}

#[test]
fn while_it_logs_a_plugin_reads_headers_and_cannot_change_them() {
    let guest = Guest::new().log("request_headers").on(
        "log",
        "(call $status (call $proxy_get_header_map_value
            (i32.const 0) (i32.const 1024) (i32.const 4) (global.get $out) (global.get $out_len)))
         (call $value)
         (call $status (call $proxy_add_header_map_value
            (i32.const 0) (i32.const 1024) (i32.const 4) (i32.const 1024) (i32.const 4)))",
    );
    let setup = started(guest.wat(r#"(data (i32.const 1024) "host")"#));
    setup.mock.set_map(MapType::RequestHeaders, &[("host", "example")]);
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, true).unwrap();
    log(&setup);
    stream.log().unwrap();
    assert_eq!(log(&setup), ["log 2", "status=0", "example", "status=2"]);
    assert_eq!(setup.mock.map(MapType::RequestHeaders).len(), 1);
}

#[test]
fn a_response_without_a_request_passes_a_plugin_by() {
    // As in Envoy: the context begins with the request headers.
    let setup = everything();
    let stream = setup.http(1);
    let outcome = stream.on_headers(Direction::Response, 0, false).unwrap();
    assert_eq!(told(&outcome), (Action::Continue, true, false, false));
    let outcome = stream.on_body(Direction::Response, &chunk("x"), true).unwrap();
    assert_eq!(told(&outcome), (Action::Continue, false, false, true));
    assert_eq!(forwarded(&stream, Direction::Response), "x");
    assert!(log(&setup).is_empty());
}

#[test]
fn a_guest_with_response_callbacks_only_sees_the_response() {
    let setup = started(Guest::new().log("context_create").log("response_headers").log("response_body"));
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 0, true).unwrap();
    stream.on_headers(Direction::Response, 0, false).unwrap();
    stream.on_body(Direction::Response, &chunk("x"), true).unwrap();
    assert_eq!(log(&setup), ["context_create 2 1", "response_headers 2 0 0", "response_body 2 1 1"]);
}

#[test]
fn a_host_that_runs_only_the_phases_of_the_chain_shows_a_response_to_a_guest_with_response_callbacks_only() {
    // `Chain::phases` says that the other phases need not be run.
    let setup = started(Guest::new().log("response_headers"));
    let stream = setup.http(1);
    if setup.chain.phases().has(Phases::REQUEST_HEADERS) {
        stream.on_headers(Direction::Request, 0, true).unwrap();
    }
    stream.on_headers(Direction::Response, 0, true).unwrap();
    assert_eq!(log(&setup), ["response_headers 2 0 1"]);
}

// TCP

#[test]
fn the_phases_of_tcp_come_in_order_with_size_end_and_peer() {
    let setup = everything();
    let stream = setup.tcp(1);
    stream.on_new_connection().unwrap();
    stream.on_data(Direction::Request, &chunk("hello"), false).unwrap();
    stream.on_data(Direction::Response, &chunk("hi"), false).unwrap();
    stream.on_data(Direction::Response, &[], true).unwrap();
    stream.on_close(Direction::Response, PeerType::Unknown).unwrap();
    stream.on_data(Direction::Request, &chunk("x"), true).unwrap();
    stream.on_close(Direction::Request, PeerType::Remote).unwrap();
    stream.done().unwrap();
    stream.log().unwrap();
    stream.finish().unwrap();
    let expected = [
        "context_create 2 1",
        "new_connection 2",
        "downstream_data 2 5 0",
        "upstream_data 2 2 0",
        "upstream_data 2 0 1",
        "upstream_connection_close 2 0",
        "downstream_data 2 1 1",
        "downstream_connection_close 2 2",
        "done 2",
        "log 2",
        "delete 2",
    ];
    assert_eq!(log(&setup), expected);
}

#[test]
fn the_peer_that_closed_is_told() {
    let setup = everything();
    let stream = setup.tcp(1);
    stream.on_new_connection().unwrap();
    log(&setup);
    for (peer, number) in [(PeerType::Unknown, 0), (PeerType::Local, 1), (PeerType::Remote, 2)] {
        stream.on_close(Direction::Request, peer).unwrap();
        assert_eq!(log(&setup), [format!("downstream_connection_close 2 {number}")]);
    }
}

#[test]
fn tcp_data_is_read_from_the_buffer_of_its_direction() {
    let guest = Guest::new()
        .on("downstream_data", "(call $show (i32.const 2)) (call $show (i32.const 3)) (i32.const 0)")
        .on("upstream_data", "(call $show (i32.const 3)) (call $show (i32.const 0)) (i32.const 0)");
    let setup = started(guest);
    let stream = setup.tcp(1);
    stream.on_new_connection().unwrap();
    stream.on_data(Direction::Request, &chunk("down"), false).unwrap();
    stream.on_data(Direction::Response, &chunk("up"), false).unwrap();
    let expected = ["downstream_data 2 4 0", "buffer=down", "buffer!1", "upstream_data 2 2 0", "buffer=up", "buffer!1"];
    assert_eq!(log(&setup), expected);
}

#[test]
fn a_stream_has_no_phases_of_the_other_kind() {
    let setup = everything();
    let (http, tcp) = (setup.http(1), setup.tcp(2));
    let results = [
        http.on_new_connection().map(|_| ()),
        http.on_data(Direction::Request, &chunk("x"), false).map(|_| ()),
        http.on_close(Direction::Request, PeerType::Local),
        tcp.on_headers(Direction::Request, 0, false).map(|_| ()),
        tcp.on_body(Direction::Response, &chunk("x"), false).map(|_| ()),
        tcp.on_trailers(Direction::Request, 0).map(|_| ()),
        tcp.on_metadata(Direction::Request, 0).map(|_| ()),
    ];
    for result in results {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Unsupported);
    }
    assert!(log(&setup).is_empty());
}

// Calls

/// A guest that calls from its request headers.
fn caller() -> Guest {
    Guest::everything().on("request_headers", "(drop (call $call)) (i32.const 1)")
}

#[test]
fn an_answer_comes_to_the_root_with_token_and_counts_and_can_be_read() {
    let guest = caller().on("http_call_response", "(call $show (i32.const 4))");
    let setup = started(guest);
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 0, true).unwrap();
    log(&setup);
    let response = HttpResponse {
        headers: pairs(&[(":status", "200"), ("a", "b")]),
        body: [chunk("bo"), chunk("dy")].concat(),
        trailers: pairs(&[("t", "u")]),
        failed: false,
    };
    setup.worker.http_call_complete(setup.mock.last_token(), Some(response)).unwrap();
    assert_eq!(log(&setup), ["http_call_response 1 4 2 4 1", "buffer=body"]);
}

#[test]
fn a_call_that_failed_comes_with_three_zeros() {
    let setup = started(caller());
    setup.http(1).on_headers(Direction::Request, 0, true).unwrap();
    log(&setup);
    setup.worker.http_call_complete(setup.mock.last_token(), None).unwrap();
    assert_eq!(log(&setup), ["http_call_response 1 4 0 0 0"]);
}

#[test]
fn an_answer_is_told_once_and_then_its_token_is_stale() {
    let setup = started(caller());
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 0, true).unwrap();
    let token = setup.mock.last_token();
    setup.worker.http_call_complete(token, Some(HttpResponse::default())).unwrap();
    log(&setup);
    for _ in 0..2 {
        let error = setup.worker.http_call_complete(token, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    assert_eq!(setup.worker.grpc_close(token, 0, b"").unwrap_err().kind(), ErrorKind::NotFound);
    assert!(log(&setup).is_empty());
}

#[test]
fn a_call_outlives_the_stream_that_made_it() {
    let setup = started(caller());
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 0, true).unwrap();
    stream.finish().unwrap();
    drop(stream);
    log(&setup);
    setup.worker.http_call_complete(setup.mock.last_token(), Some(HttpResponse::default())).unwrap();
    assert_eq!(log(&setup), ["http_call_response 1 4 0 0 0"]);
    assert!(!setup.mock.take_events().iter().any(|event| matches!(event, Event::Cancel { .. })));
}

#[test]
fn what_a_call_brought_is_gone_after_its_callback() {
    let guest = caller()
        .on("http_call_response", "(call $tick_ms (i32.const 10)) (call $show (i32.const 4))")
        .on("tick", "(call $show (i32.const 4))");
    let setup = started(guest);
    setup.http(1).on_headers(Direction::Request, 0, true).unwrap();
    let response = HttpResponse { body: chunk("body"), ..HttpResponse::default() };
    setup.worker.http_call_complete(setup.mock.last_token(), Some(response)).unwrap();
    log(&setup);
    setup.mock.advance(10);
    setup.worker.on_timeout().unwrap();
    assert_eq!(log(&setup), ["tick 1", "buffer!1"]);
}

#[test]
fn tokens_of_calls_count_by_fours_and_carry_the_kind_in_the_low_bits() {
    let setup = started(caller());
    for expected in [4, 8, 12] {
        setup.http(1).on_headers(Direction::Request, 0, true).unwrap();
        log(&setup);
        setup.worker.http_call_complete(setup.mock.last_token(), None).unwrap();
        assert_eq!(log(&setup), [format!("http_call_response 1 {expected} 0 0 0")]);
    }
}

/// A guest that opens a gRPC stream, or makes a gRPC call, when it is configured.
fn grpc(stream: bool) -> Guest {
    let zeros = |n: usize| "(i32.const 0)".repeat(n);
    let start = if stream {
        format!("(call $proxy_grpc_stream (i32.const 21030) (i32.const 4) {} (i32.const 28))", zeros(6))
    } else {
        format!("(call $proxy_grpc_call (i32.const 21030) (i32.const 4) {} (i32.const 28))", zeros(9))
    };
    Guest::everything()
        .on("configure", &format!("(drop {start}) (i32.const 1)"))
        .on("grpc_receive", "(call $show (i32.const 5))")
}

#[test]
fn a_grpc_stream_is_told_metadata_messages_metadata_and_close() {
    let setup = started(grpc(true));
    let token = setup.mock.last_token();
    setup.worker.grpc_initial_metadata(token, pairs(&[("a", "1"), ("b", "2")])).unwrap();
    setup.worker.grpc_message(token, chunk("first")).unwrap();
    setup.worker.grpc_message(token, chunk("second")).unwrap();
    setup.worker.grpc_trailing_metadata(token, pairs(&[("c", "3")])).unwrap();
    setup.worker.grpc_close(token, 0, b"").unwrap();
    let expected = [
        "grpc_receive_initial_metadata 1 6 2",
        "grpc_receive 1 6 5",
        "buffer=first",
        "grpc_receive 1 6 6",
        "buffer=second",
        "grpc_receive_trailing_metadata 1 6 1",
        "grpc_close 1 6 0",
    ];
    assert_eq!(log(&setup), expected);
    assert_eq!(setup.worker.grpc_message(token, chunk("late")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_grpc_call_is_told_its_message_and_nothing_more() {
    let setup = started(grpc(false));
    let token = setup.mock.last_token();
    setup.worker.grpc_initial_metadata(token, pairs(&[("a", "1")])).unwrap();
    setup.worker.grpc_message(token, chunk("answer")).unwrap();
    assert_eq!(log(&setup), ["grpc_receive 1 5 6", "buffer=answer"]);
    assert_eq!(setup.worker.grpc_close(token, 0, b"").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_grpc_call_that_failed_is_told_its_status() {
    let setup = started(grpc(false));
    setup.worker.grpc_close(setup.mock.last_token(), 14, b"unavailable").unwrap();
    assert_eq!(log(&setup), ["grpc_close 1 5 14"]);
}

#[test]
fn a_call_of_one_kind_is_not_answered_as_another() {
    let setup = started(grpc(true));
    let token = setup.mock.last_token();
    let error = setup.worker.http_call_complete(token, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(log(&setup).is_empty());
    // It is still in flight.
    setup.worker.grpc_close(token, 0, b"").unwrap();
    assert_eq!(log(&setup), ["grpc_close 1 6 0"]);
}

// Other callbacks of the root context

#[test]
fn a_foreign_call_comes_to_the_root_with_its_number_and_argument() {
    let setup = started(Guest::everything().on("foreign_function", "(call $show (i32.const 8))"));
    setup.instances[0].call_foreign(77, b"argument").unwrap();
    setup.instances[0].call_foreign(0, b"").unwrap();
    let expected = ["foreign_function 1 77 8", "buffer=argument", "foreign_function 1 0 0", "buffer="];
    assert_eq!(log(&setup), expected);
}

#[test]
fn ticks_come_to_the_root_each_period() {
    let setup = started(Guest::everything().on("configure", "(call $tick_ms (i32.const 100)) (i32.const 1)"));
    assert_eq!(setup.worker.timeout_ns(), Some(100_000_000));
    setup.mock.advance(99);
    setup.worker.on_timeout().unwrap();
    assert!(log(&setup).is_empty());
    setup.mock.advance(1);
    setup.worker.on_timeout().unwrap();
    assert_eq!(log(&setup), ["tick 1"]);
    setup.mock.advance(1000);
    setup.worker.on_timeout().unwrap();
    assert_eq!(log(&setup), ["tick 1"], "ticks that were missed come once");
}

#[test]
fn a_period_of_zero_ends_the_ticks_and_a_new_one_replaces_the_old() {
    let guest = Guest::everything()
        .on("configure", "(call $tick_ms (i32.const 100)) (i32.const 1)")
        .on("tick", "(call $tick_ms (select (i32.const 30) (i32.const 0) (i32.eq (call $next) (i32.const 1))))");
    let setup = started(guest);
    setup.mock.advance(100);
    setup.worker.on_timeout().unwrap();
    assert_eq!(setup.worker.timeout_ns(), Some(30_000_000));
    setup.mock.advance(30);
    setup.worker.on_timeout().unwrap();
    assert_eq!(setup.worker.timeout_ns(), None);
    assert_eq!(log(&setup), ["tick 1", "tick 1"]);
}

#[test]
fn each_root_of_a_shared_vm_has_its_own_ticks() {
    let wasm = Guest::new().on("configure", "(call $tick_ms (i32.mul (local.get 1) (i32.const 10))) (i32.const 1)");
    let wasm = wasm.log("tick").build();
    let plugin = |name: &str, size: usize| {
        let mut config = PluginConfig::new(name);
        config.configuration = vec![b'x'; size];
        config
    };
    let setup = Setup::chain(&[(&wasm, plugin("a", 1)), (&wasm, plugin("b", 2))]);
    log(&setup);
    setup.mock.advance(10);
    setup.worker.on_timeout().unwrap();
    assert_eq!(log_by_plugin(&setup.mock), ["a: tick 1"]);
    setup.mock.advance(10);
    setup.worker.on_timeout().unwrap();
    assert_eq!(log_by_plugin(&setup.mock), ["a: tick 1", "b: tick 2"]);
}

#[test]
fn a_stream_sets_the_ticks_of_its_root() {
    let setup = started(Guest::everything().on("request_headers", "(call $tick_ms (i32.const 5)) (i32.const 0)"));
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 0, true).unwrap();
    stream.finish().unwrap();
    log(&setup);
    setup.mock.advance(5);
    setup.worker.on_timeout().unwrap();
    assert_eq!(log(&setup), ["tick 1"]);
}

/// A guest that registers the queue `q` when it is configured and puts an item in it for each request.
fn queue_guest() -> Guest {
    Guest::everything()
        .wat(r#"(data (i32.const 1024) "q" "item")"#)
        .on(
            "configure",
            "(drop (call $proxy_register_shared_queue (i32.const 1024) (i32.const 1) (i32.const 28))) (i32.const 1)",
        )
        .on(
            "request_headers",
            "(call $status (call $proxy_enqueue_shared_queue (i32.load (i32.const 28)) (i32.const 1025) (i32.const 4)))
             (i32.const 0)",
        )
        .on(
            "queue_ready",
            "(call $status (call $proxy_dequeue_shared_queue (local.get 1) (global.get $out) (global.get $out_len)))
             (call $value)",
        )
}

#[test]
fn an_item_in_a_queue_is_told_to_the_root_that_registered_it() {
    let setup = started(queue_guest());
    setup.http(1).on_headers(Direction::Request, 0, true).unwrap();
    let before = log(&setup);
    assert_eq!(before.last().unwrap(), "status=0", "{before:?}");
    assert!(!before.iter().any(|line| line.starts_with("queue_ready")), "not inside the callback that enqueued");
    setup.worker.run_pending().unwrap();
    let told = log(&setup);
    assert!(told[0].starts_with("queue_ready 1 "), "{told:?}");
    assert_eq!(told[1..], ["status=0", "item"]);
    setup.worker.run_pending().unwrap();
    assert!(log(&setup).is_empty());
}

#[test]
fn every_item_is_told() {
    let setup = started(queue_guest());
    for id in 0..3 {
        setup.http(id).on_headers(Direction::Request, 0, true).unwrap();
    }
    log(&setup);
    setup.worker.run_pending().unwrap();
    let told = log(&setup).into_iter().filter(|line| line.starts_with("queue_ready")).count();
    assert_eq!(told, 3);
}

#[test]
fn a_queue_that_nobody_registered_is_not_found() {
    let setup = everything();
    assert_eq!(setup.worker.queue_ready(99).unwrap_err().kind(), ErrorKind::NotFound);
}

// Missing callbacks

#[test]
fn where_callbacks_are_missing_the_plugin_starts_and_all_goes_on() {
    let setup = started(Guest::new());
    setup.instances[0].call_foreign(1, b"x").unwrap();
    let http = setup.http(1);
    let going_on = |outcome: Outcome| assert_eq!(outcome.action, Action::Continue, "{outcome:?}");
    for direction in [Direction::Request, Direction::Response] {
        going_on(http.on_headers(direction, 0, false).unwrap());
        going_on(http.on_metadata(direction, 0).unwrap());
        going_on(http.on_body(direction, &chunk("x"), false).unwrap());
        assert_eq!(forwarded(&http, direction), "x");
        let outcome = http.on_trailers(direction, 0).unwrap();
        assert_eq!(told(&outcome), (Action::Continue, false, true, true));
    }
    http.log().unwrap();
    http.finish().unwrap();
    let tcp = setup.tcp(2);
    going_on(tcp.on_new_connection().unwrap());
    for direction in [Direction::Request, Direction::Response] {
        going_on(tcp.on_data(direction, &chunk("x"), true).unwrap());
        tcp.on_close(direction, PeerType::Local).unwrap();
    }
    tcp.finish().unwrap();
    assert!(log(&setup).is_empty());
    // A context begins with the request or the connection, so these two are run for any plugin.
    assert_eq!(setup.chain.phases(), Phases(Phases::REQUEST_HEADERS.0 | Phases::NEW_CONNECTION.0));
}

#[test]
fn where_callbacks_of_the_root_are_missing_events_are_taken_and_dropped() {
    let guest = Guest::new().quiet(
        "configure",
        "(drop (call $call)) (call $tick_ms (i32.const 1))
         (drop (call $proxy_register_shared_queue (i32.const 1024) (i32.const 1) (i32.const 28)))
         (drop (call $proxy_enqueue_shared_queue (i32.load (i32.const 28)) (i32.const 1024) (i32.const 1)))
         (i32.const 1)",
    );
    let setup = Setup::new(&guest.build());
    setup.worker.http_call_complete(setup.mock.last_token(), None).unwrap();
    setup.mock.advance(1);
    setup.worker.on_timeout().unwrap();
    setup.worker.run_pending().unwrap();
    assert_eq!(setup.worker.stats().callouts, 0);
    let Setup { worker, instances, chain, .. } = setup;
    drop(chain);
    instances.into_iter().for_each(|instance| worker.remove_plugin(instance).unwrap());
    assert_eq!(worker.stats().vms, 0);
}
