// SPDX-License-Identifier: Apache-2.0
//! HTTP and gRPC calls, what their answers show, and `proxy_get_status`.
//!
//! | hostcall | tests |
//! |---|---|
//! | `proxy_http_call` | `an_http_call_*` |
//! | `proxy_grpc_call` | `a_grpc_call_*` |
//! | `proxy_grpc_stream`, `proxy_grpc_send` | `a_grpc_stream_*`, `sending_*` |
//! | `proxy_grpc_cancel`, `proxy_grpc_close` | `cancelling_*`, `closing_*` |
//! | `proxy_get_status` | `the_status_*` |
//! | all that start calls | `calls_*`, `what_the_host_answers_*`, `a_pointer_*`, `the_classes_*` |

use crate::support::*;
use proxywasm::abi::pairs::PairList;
use proxywasm::abi::Status;
use proxywasm::*;

const CALL: &str = "http_call 'up' {:method=GET|:path=/|:authority=a} '' '' 0 28 ; @28%4 => 0 0\n";
const GRPC_CALL: &str = "grpc_call 'up' 'svc' 'Method' '' 'msg' 0 32 ; @32%4 => 0 1\n";
const GRPC_STREAM: &str = "grpc_stream 'up' 'svc' 'Method' '' 36 ; @36%4 => 0 2\n";

fn pairs(list: &[(&str, &str)]) -> PairList {
    let mut pairs = PairList::new();
    list.iter().for_each(|(name, value)| pairs.push(name.as_bytes(), value.as_bytes()));
    pairs
}

fn response() -> HttpResponse {
    HttpResponse {
        headers: pairs(&[(":status", "200"), ("Server", "s")]),
        body: chunk("answer"),
        trailers: pairs(&[("t", "1")]),
        failed: false,
    }
}

/// A guest with a call of some kind started in `configure`, and callbacks.
fn started(call: &str, callbacks: &[(&str, &str)]) -> (Script, Setup, Token) {
    let all: Vec<_> = [("configure", call)].into_iter().chain(callbacks.iter().copied()).collect();
    let script = script(&all);
    let setup = script.setup();
    let token = setup.mock.last_token();
    setup.mock.take_events();
    (script, setup, token)
}

fn cancelled(token: Token) -> Vec<Event> {
    vec![Event::Cancel { token }]
}

#[test]
fn an_http_call_reaches_the_host_whole() {
    let line =
        "http_call 'cluster' {:method=POST|:path=/p|:authority=h|x=1|x=2} 'bo\\0dy' {t=1} 1500 28 ; @28%4 => 0 0";
    let setup = in_request(|_| {}, line);
    let events = setup.mock.take_events();
    let own =
        |list: &[(&str, &str)]| list.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).collect();
    let Event::HttpCall { token, .. } = events[0] else { panic!("{events:?}") };
    let expected = Event::HttpCall {
        stream: Some(1),
        token,
        upstream: "cluster".into(),
        headers: own(&[(":method", "POST"), (":path", "/p"), (":authority", "h"), ("x", "1"), ("x", "2")]),
        body: b"bo\0dy".to_vec(),
        trailers: own(&[("t", "1")]),
        timeout_ms: 1500,
    };
    assert_eq!(events, [expected]);
}

#[test]
fn an_http_call_without_method_path_or_authority_is_a_bad_argument() {
    let setup = in_configure(
        "http_call 'up' {:path=/|:authority=a} '' '' 0 24 ; @24 => 2 7
         http_call 'up' {:method=GET|:authority=a} '' '' 0 28 => 2
         http_call 'up' {:method=GET|:path=/} '' '' 0 28 => 2
         http_call 'up' '' '' '' 0 28 => 2",
    );
    assert_eq!(setup.mock.take_events(), []);
    assert_eq!(setup.worker.stats().callouts, 0);
}

#[test]
fn an_http_call_with_a_negative_timeout_is_a_bad_argument() {
    let setup = in_configure("http_call 'up' {:method=GET|:path=/|:authority=a} '' '' -1 28 => 2");
    assert_eq!(setup.mock.take_events(), []);
}

#[test]
fn the_timeout_of_a_grpc_call_is_unsigned() {
    let setup = in_configure("grpc_call 'up' 'svc' 'Method' '' 'msg' -1 28 => 0");
    let events = setup.mock.take_events();
    assert!(matches!(&events[..], [Event::GrpcCall { timeout_ms: u32::MAX, .. }]), "{events:?}");
}

#[test]
fn calls_with_malformed_pairs_are_a_bad_argument() {
    in_configure(
        "http_call 'up' '\\x01\\0\\0\\0' '' '' 0 28 => 2
         http_call 'up' {:method=GET|:path=/|:authority=a} '' 'tt' 0 28 => 2
         grpc_call 'up' 'svc' 'Method' '\\x01\\0\\0\\0' 'msg' 0 28 => 2
         grpc_stream 'up' 'svc' 'Method' '\\x01\\0\\0\\0' 28 => 2",
    );
}

#[test]
fn a_pointer_outside_memory_is_an_invalid_memory_access() {
    let setup = in_configure(
        "http_call -8 4 {:method=GET|:path=/|:authority=a} '' '' 0 28 => 6
         http_call 'up' -8 4 '' '' 0 28 => 6
         http_call 'up' {:method=GET|:path=/|:authority=a} -8 4 '' 0 28 => 6
         http_call 'up' {:method=GET|:path=/|:authority=a} '' -8 4 0 28 => 6
         http_call 'up' {:method=GET|:path=/|:authority=a} '' '' 0 -8 => 6
         http_call 'up' {:method=GET|:path=/|:authority=a} '' '' 0 262141 => 6
         grpc_call -8 4 'svc' 'Method' '' 'msg' 0 28 => 6
         grpc_call 'up' -8 4 'Method' '' 'msg' 0 28 => 6
         grpc_call 'up' 'svc' -8 4 '' 'msg' 0 28 => 6
         grpc_call 'up' 'svc' 'Method' -8 4 'msg' 0 28 => 6
         grpc_call 'up' 'svc' 'Method' '' -8 4 0 28 => 6
         grpc_call 'up' 'svc' 'Method' '' 'msg' 0 -8 => 6
         grpc_stream -8 4 'svc' 'Method' '' 28 => 6
         grpc_stream 'up' -8 4 'Method' '' 28 => 6
         grpc_stream 'up' 'svc' -8 4 '' 28 => 6
         grpc_stream 'up' 'svc' 'Method' -8 4 28 => 6
         grpc_stream 'up' 'svc' 'Method' '' -8 => 6
         get_status -8 16 20 => 6
         get_status 28 -8 20 => 6
         get_status 28 16 -8 => 6",
    );
    assert_eq!((setup.mock.take_events(), setup.worker.stats().callouts), (vec![], 0));
}

#[test]
fn what_the_host_answers_reaches_the_guest_and_the_call_is_forgotten() {
    let calls = [("http_call", CALL), ("grpc_call", GRPC_CALL), ("grpc_stream", GRPC_STREAM)];
    for (method, line) in calls {
        let call = line.split(" ; ").next().unwrap();
        let statuses = [Status::BadArgument, Status::ParseFailure, Status::InternalFailure, Status::Unimplemented];
        for status in statuses {
            let setup = in_request(|mock| mock.answer(method, status), &format!("{call} => {}", status as i32));
            assert_eq!(setup.worker.stats().callouts, 0);
            let token = setup.mock.last_token();
            let error = setup.worker.http_call_complete(token, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
    }
}

#[test]
fn the_token_is_0_where_a_call_could_not_be_started() {
    in_request(
        |mock| mock.answer("http_call", Status::InternalFailure),
        "http_call 'up' {:method=GET|:path=/|:authority=a} '' '' 0 28 ; @28 => 10 0",
    );
}

#[test]
fn the_classes_of_tokens_are_told_by_their_low_bits_and_no_token_comes_twice() {
    let lines = [CALL, GRPC_CALL, GRPC_STREAM].concat();
    let setup = in_configure(&lines);
    assert_eq!(setup.worker.stats().callouts, 3);
    let wasm = guest(
        r#"(data (i32.const 1024) "t" ":method" "GET")
        (func (export "proxy_on_configure") (param i32 i32) (result i32) (local $left i32)
          (local.set $left (i32.const 5))
          (loop $again
            (drop (call $proxy_grpc_stream (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
              (i32.const 0) (i32.const 0) (i32.const 16)))
            (call $number (i32.const 1024) (i32.const 1) (i64.load32_u (i32.const 16)))
            (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
          (i32.const 1))"#,
    );
    let mut log = Setup::new(&wasm).mock.take_log();
    log.dedup();
    assert_eq!(log.len(), 5, "{log:?}");
    assert!(!log.contains(&"t=0".to_owned()));
}

#[test]
fn calls_beyond_the_limit_are_an_internal_failure_until_one_has_ended() {
    let lines =
        format!("{CALL}{GRPC_CALL}grpc_stream 'up' 's' 'm' '' 40 ; @40 => 10 0\ngrpc_cancel @32\n{GRPC_STREAM}");
    let script = script(&[("configure", &lines)]);
    let setup = Setup::with(&script.wasm, config_with(|config| config.limits.max_callouts = 2));
    script.check_start(&setup.mock);
    assert_eq!(setup.worker.stats().callouts, 2);
}

#[test]
fn an_http_call_is_answered_on_the_root_context_with_token_and_counts() {
    let script = script(&[
        ("configure", "say $0 => 1"),
        ("request_headers", CALL),
        ("http_call_response", "say $0 => 1\n same $1 @28\n say $2 => 2\n say $3 => 6\n say $4 => 1"),
    ]);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, true).unwrap();
    script.check(&setup.mock, &["request_headers"]);
    // The call outlives the stream.
    stream.finish().unwrap();
    drop(stream);
    setup.worker.http_call_complete(setup.mock.last_token(), Some(response())).unwrap();
    script.check(&setup.mock, &["http_call_response"]);
    assert_eq!(setup.worker.stats().callouts, 0);
}

#[test]
fn an_http_call_is_answered_once() {
    let (script, setup, token) = started(CALL, &[("http_call_response", "same $1 @28")]);
    setup.worker.http_call_complete(token, Some(response())).unwrap();
    script.check(&setup.mock, &["http_call_response"]);
    assert_eq!(setup.worker.http_call_complete(token, Some(response())).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(setup.mock.take_log(), [""; 0]);
}

#[test]
fn the_answer_of_an_http_call_is_maps_6_and_7_and_buffer_4_during_its_callback_only() {
    let absent = "get_header_map_value 6 ':status' out => 2\n get_header_map_pairs 6 out ; @16 @20 => 0 0 0
                  get_header_map_value 7 't' out => 2\n get_buffer_bytes 4 0 9 out => 1";
    let configure = format!("{CALL}{absent}");
    let lines = "get_header_map_value 6 ':status' out ; text => 0 [200]
         get_header_map_value 6 'SERVER' out ; text => 0 [s]
         get_header_map_value 6 'nothing' out => 1
         get_header_map_pairs 6 out ; text => 0 {:status=200|Server=s}
         get_header_map_size 6 16 ; @16 => 0 17
         get_header_map_pairs 7 out ; text => 0 {t=1}
         get_buffer_bytes 4 0 99 out ; text => 0 [answer]
         get_buffer_bytes 4 2 2 out ; text => 0 [sw]
         get_buffer_status 4 16 20 ; @16 @20 => 0 6 0
         get_header_map_pairs 4 out ; @16 @20 => 0 0 0
         get_buffer_bytes 5 0 9 out => 1";
    let (script, setup, token) = started(&configure, &[("http_call_response", lines), ("request_headers", absent)]);
    setup.worker.http_call_complete(token, Some(response())).unwrap();
    script.check(&setup.mock, &["http_call_response"]);
    setup.http(1).on_headers(Direction::Request, 1, true).unwrap();
    script.check(&setup.mock, &["request_headers"]);
}

#[test]
fn the_answer_of_an_http_call_is_read_only() {
    let lines = "add_header_map_value 6 'x' 'y' => 2
         replace_header_map_value 6 ':status' 'y' => 2
         remove_header_map_value 6 ':status' => 2
         set_header_map_pairs 7 {x=y} => 2
         set_buffer_bytes 4 0 0 'x' => 2";
    let (script, setup, token) = started(CALL, &[("http_call_response", lines)]);
    setup.worker.http_call_complete(token, Some(response())).unwrap();
    script.check(&setup.mock, &["http_call_response"]);
}

#[test]
fn the_answer_of_an_http_call_is_read_from_the_root_whatever_the_effective_context() {
    let script = script(&[
        ("request_headers", CALL),
        (
            "http_call_response",
            "set_effective_context 2
             get_header_map_value 6 ':status' out ; text => 0 [200]
             get_buffer_bytes 4 0 99 out ; text => 0 [answer]
             get_header_map_value 0 'host' out ; text => 0 [a]",
        ),
    ]);
    let setup = script.setup();
    setup.mock.set_map(proxywasm::abi::MapType::RequestHeaders, &[("host", "a")]);
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, false).unwrap();
    setup.worker.http_call_complete(setup.mock.last_token(), Some(response())).unwrap();
    script.check(&setup.mock, &["request_headers", "http_call_response"]);
}

#[test]
fn an_http_call_with_an_empty_answer_shows_empty_maps_and_an_empty_body() {
    let lines = "say $2 => 1\n say $3 => 0\n say $4 => 0
         get_header_map_pairs 7 out ; @16 @20 => 0 0 0
         get_buffer_bytes 4 0 9 out ; @16 @20 => 0 0 0";
    let (script, setup, token) = started(CALL, &[("http_call_response", lines)]);
    let answer = HttpResponse { headers: pairs(&[(":status", "204")]), ..HttpResponse::default() };
    setup.worker.http_call_complete(token, Some(answer)).unwrap();
    script.check(&setup.mock, &["http_call_response"]);
}

#[test]
fn an_http_call_that_fails_is_told_with_zeros_and_no_headers() {
    let lines = "same $1 @28\n say $2 => 0\n say $3 => 0\n say $4 => 0
         get_header_map_pairs 6 out ; @16 @20 => 0 0 0
         get_status 16 20 24 ; @16 => 0 11
         get_status 24 out ; text => 0 [reset]";
    let (script, setup, token) = started(CALL, &[("http_call_response", lines)]);
    setup.worker.http_call_complete(token, None).unwrap();
    script.check(&setup.mock, &["http_call_response"]);
}

#[test]
fn why_an_http_call_failed_is_found_by_name_alone() {
    let lines = "same $1 @28\n say $2 => 0\n say $3 => 0\n say $4 => 0
         get_header_map_value 6 ':dispatch_status' out ; text => 0 [timeout]
         get_header_map_value 7 ':dispatch_status' out ; text => 1 -
         get_header_map_pairs 6 out ; @16 @20 => 0 0 0
         get_header_map_size 6 16 ; @16 => 0 0
         get_status 24 out ; text => 0 [reset]";
    let (script, setup, token) = started(CALL, &[("http_call_response", lines)]);
    let reason = HttpResponse { headers: pairs(&[(":dispatch_status", "timeout")]), failed: true, ..response() };
    setup.worker.http_call_complete(token, Some(reason)).unwrap();
    script.check(&setup.mock, &["http_call_response"]);
}

#[test]
fn an_http_call_cannot_be_closed_cancelled_or_sent_on() {
    let (_, setup, _) =
        started(&format!("{CALL}grpc_cancel @28 => 2\n grpc_close @28 => 2\n grpc_send @28 'x' 0 => 2"), &[]);
    assert_eq!((setup.mock.take_events(), setup.worker.stats().callouts), (vec![], 1));
}

#[test]
fn calls_are_cancelled_when_their_worker_ends() {
    let (_, setup, token) = started(CALL, &[]);
    let mock = setup.mock.clone();
    drop(setup);
    assert_eq!(mock.take_events(), cancelled(token));
}

#[test]
fn a_grpc_call_reaches_the_host_whole() {
    let setup = in_configure("grpc_call 'up' 'pkg.Service' 'Get' {k=v} 'message' 250 28 ; @28%4 => 0 1");
    let token = setup.mock.last_token();
    let events = setup.mock.take_events();
    let expected = Event::GrpcCall {
        token,
        upstream: "up".into(),
        service: "pkg.Service".into(),
        method: "Get".into(),
        metadata: vec![(b"k".to_vec(), b"v".to_vec())],
        message: b"message".to_vec(),
        timeout_ms: 250,
    };
    assert_eq!(events, [expected]);
}

#[test]
fn a_grpc_call_ends_with_its_message_which_is_buffer_5_during_the_callback_only() {
    let lines = "say $0 => 1\n same $1 @32\n say $2 => 5
         get_buffer_bytes 5 0 99 out ; text => 0 [reply]
         set_buffer_bytes 5 0 0 'x' => 2
         get_buffer_bytes 4 0 9 out => 1
         grpc_cancel @32 => 1
         grpc_close @32 => 1";
    let (script, setup, token) = started(
        GRPC_CALL,
        &[("grpc_receive", lines), ("grpc_close", "trap"), ("request_headers", "get_buffer_bytes 5 0 9 out => 1")],
    );
    setup.worker.grpc_message(token, chunk("reply")).unwrap();
    script.check(&setup.mock, &["grpc_receive"]);
    assert_eq!(setup.worker.stats().callouts, 0);
    assert_eq!(setup.worker.grpc_close(token, 0, b"").unwrap_err().kind(), ErrorKind::NotFound);
    setup.http(1).on_headers(Direction::Request, 1, true).unwrap();
    script.check(&setup.mock, &["request_headers"]);
}

#[test]
fn a_grpc_call_with_an_empty_message_is_told_all_the_same() {
    let (script, setup, token) =
        started(GRPC_CALL, &[("grpc_receive", "say $2 => 0\n get_buffer_bytes 5 0 9 out ; @16 @20 => 0 0 0")]);
    setup.worker.grpc_message(token, Vec::new()).unwrap();
    script.check(&setup.mock, &["grpc_receive"]);
}

#[test]
fn a_grpc_call_that_fails_is_closed_with_its_status() {
    let lines = "say $0 => 1\n same $1 @32\n say $2 => 14
         get_status 24 out ; @24 text => 0 14 [no way]";
    let (script, setup, token) = started(GRPC_CALL, &[("grpc_close", lines)]);
    setup.worker.grpc_close(token, 14, b"no way").unwrap();
    script.check(&setup.mock, &["grpc_close"]);
    assert_eq!(setup.worker.stats().callouts, 0);
}

#[test]
fn a_grpc_call_is_told_no_metadata_and_cannot_be_sent_on() {
    let trap = "trap";
    let (_, setup, token) = started(
        &format!("{GRPC_CALL}grpc_send @32 'x' 0 => 2"),
        &[("grpc_receive_initial_metadata", trap), ("grpc_receive_trailing_metadata", trap)],
    );
    setup.worker.grpc_initial_metadata(token, pairs(&[("k", "v")])).unwrap();
    setup.worker.grpc_trailing_metadata(token, pairs(&[("k", "v")])).unwrap();
    assert_eq!((setup.mock.take_log(), setup.worker.stats().vms_failed), (vec![], 0));
    assert_eq!(setup.mock.take_events(), []);
}

#[test]
fn a_grpc_stream_reaches_the_host_whole() {
    let setup = in_configure("grpc_stream 'up' 'pkg.Service' 'Watch' {k=v|k=w} 28 ; @28%4 => 0 2");
    let token = setup.mock.last_token();
    let expected = Event::GrpcStream {
        token,
        upstream: "up".into(),
        service: "pkg.Service".into(),
        method: "Watch".into(),
        metadata: vec![(b"k".to_vec(), b"v".to_vec()), (b"k".to_vec(), b"w".to_vec())],
    };
    assert_eq!(setup.mock.take_events(), [expected]);
}

#[test]
fn a_grpc_stream_is_told_everything_until_its_close() {
    let callbacks = [
        (
            "grpc_receive_initial_metadata",
            "say $0 => 1\n same $1 @36\n say $2 => 1
             get_header_map_value 4 'k' out ; text => 0 [first]
             get_header_map_value 5 'k' out => 2
             add_header_map_value 4 'x' 'y' => 2",
        ),
        ("grpc_receive", "same $1 @36\n say $2 => 3\n get_buffer_bytes 5 0 9 out ; text => 0 [msg]\n get_header_map_value 4 'k' out => 2"),
        (
            "grpc_receive_trailing_metadata",
            "same $1 @36\n say $2 => 2
             get_header_map_pairs 5 out ; text => 0 {k=last|k=end}
             get_header_map_value 4 'k' out => 2
             remove_header_map_value 5 'k' => 2",
        ),
        ("grpc_close", "same $1 @36\n say $2 => 0\n get_status 24 out ; @24 @16 @20 => 0 0 0 0\n grpc_send @36 'late' 0 => 1"),
    ];
    let (script, setup, token) = started(GRPC_STREAM, &callbacks);
    let worker = &setup.worker;
    worker.grpc_initial_metadata(token, pairs(&[("k", "first")])).unwrap();
    worker.grpc_message(token, chunk("msg")).unwrap();
    worker.grpc_message(token, chunk("msg")).unwrap();
    worker.grpc_trailing_metadata(token, pairs(&[("k", "last"), ("k", "end")])).unwrap();
    assert_eq!(worker.stats().callouts, 1);
    worker.grpc_close(token, 0, b"").unwrap();
    let order = [
        "grpc_receive_initial_metadata",
        "grpc_receive",
        "grpc_receive",
        "grpc_receive_trailing_metadata",
        "grpc_close",
    ];
    script.check(&setup.mock, &order);
    assert_eq!(worker.stats().callouts, 0);
    assert_eq!(worker.grpc_message(token, chunk("late")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn sending_on_a_grpc_stream_reaches_the_host() {
    let script =
        script(&[("configure", GRPC_STREAM), ("request_headers", "grpc_send @36 'one' 0\n grpc_send @36 '' 1")]);
    let setup = script.setup();
    let token = setup.mock.last_token();
    setup.mock.take_events();
    setup.http(1).on_headers(Direction::Request, 1, true).unwrap();
    script.check(&setup.mock, &["request_headers"]);
    let send = |message: &str, end| Event::GrpcSend { token, message: message.as_bytes().to_vec(), end };
    assert_eq!(setup.mock.take_events(), [send("one", false), send("", true)]);
}

#[test]
fn sending_to_what_is_no_stream_is_a_bad_argument_and_to_an_unknown_one_not_found() {
    in_configure(
        "grpc_send 0 'x' 0 => 2\n grpc_send 1 'x' 0 => 2\n grpc_send 3 'x' 0 => 2\n grpc_send 4 'x' 0 => 2
         grpc_send 2 'x' 0 => 1\n grpc_send -2 'x' 0 => 1",
    );
}

#[test]
fn sending_from_outside_memory_is_an_invalid_memory_access() {
    let (_, setup, _) = started(&format!("{GRPC_STREAM}grpc_send @36 -8 4 0 => 6"), &[]);
    assert_eq!(setup.mock.take_events(), []);
}

#[test]
fn what_the_host_answers_to_sending_and_closing_reaches_the_guest() {
    let script =
        script(&[("configure", GRPC_STREAM), ("request_headers", "grpc_send @36 'x' 0 => 1\n grpc_close @36 => 12")]);
    let setup = script.setup();
    setup.mock.answer("grpc_send", Status::NotFound);
    setup.mock.answer("grpc_close", Status::Unimplemented);
    setup.http(1).on_headers(Direction::Request, 1, true).unwrap();
    script.check(&setup.mock, &["request_headers"]);
}

#[test]
fn closing_and_cancelling_unknown_numbers_is_told_by_their_class() {
    in_configure(
        "grpc_close 0 => 2\n grpc_close 3 => 2\n grpc_close 1 => 1\n grpc_close 2 => 1\n grpc_close -3 => 1
         grpc_cancel 0 => 2\n grpc_cancel 3 => 2\n grpc_cancel 1 => 1\n grpc_cancel 2 => 1",
    );
}

#[test]
fn closing_a_grpc_stream_half_closes_it_and_its_answer_still_comes() {
    let script = script(&[
        ("configure", GRPC_STREAM),
        ("request_headers", "grpc_close @36"),
        ("grpc_receive", "get_buffer_bytes 5 0 9 out ; text => 0 [rest]"),
        ("grpc_close", "same $1 @36\n say $2 => 5"),
    ]);
    let setup = script.setup();
    let token = setup.mock.last_token();
    setup.mock.take_events();
    setup.http(1).on_headers(Direction::Request, 1, true).unwrap();
    assert_eq!(setup.mock.take_events(), [Event::GrpcClose { token }]);
    setup.worker.grpc_message(token, chunk("rest")).unwrap();
    setup.worker.grpc_close(token, 5, b"gone").unwrap();
    script.check(&setup.mock, &["request_headers", "grpc_receive", "grpc_close"]);
}

#[test]
fn closing_a_grpc_call_cancels_it() {
    let script = script(&[("configure", GRPC_CALL), ("request_headers", "grpc_close @32\n grpc_close @32 => 1")]);
    let setup = script.setup();
    let token = setup.mock.last_token();
    setup.mock.take_events();
    setup.http(1).on_headers(Direction::Request, 1, true).unwrap();
    script.check(&setup.mock, &["request_headers"]);
    assert_eq!(setup.mock.take_events(), cancelled(token));
    assert_eq!(setup.worker.stats().callouts, 0);
}

#[test]
fn cancelling_a_grpc_call_or_stream_ends_it_without_a_callback() {
    for (start, at, trapping) in [(GRPC_CALL, 32, "grpc_receive"), (GRPC_STREAM, 36, "grpc_close")] {
        let lines = format!("grpc_cancel @{at}\n grpc_cancel @{at} => 1\n grpc_close @{at} => 1");
        let script = script(&[("configure", start), ("request_headers", &lines), (trapping, "trap")]);
        let setup = script.setup();
        let token = setup.mock.last_token();
        setup.mock.take_events();
        setup.http(1).on_headers(Direction::Request, 1, true).unwrap();
        script.check(&setup.mock, &["request_headers"]);
        assert_eq!(setup.mock.take_events(), cancelled(token));
        assert_eq!(setup.worker.grpc_message(token, chunk("late")).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(setup.worker.grpc_close(token, 0, b"").unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[test]
fn calls_are_not_answered_as_what_they_are_not() {
    let (_, setup, token) = started(CALL, &[("http_call_response", "trap"), ("grpc_receive", "trap")]);
    for error in [setup.worker.grpc_message(token, chunk("x")), setup.worker.grpc_close(token, 0, b"")] {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    let (_, setup, token) = started(GRPC_STREAM, &[("http_call_response", "trap")]);
    assert_eq!(setup.worker.http_call_complete(token, None).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(setup.worker.stats().callouts, 1);
}

#[test]
fn the_status_before_any_call_is_0_without_a_message() {
    in_configure("get_status 24 out ; @24 @16 @20 => 0 0 0 0");
}

#[test]
fn the_status_is_that_of_the_root_for_its_streams_too() {
    let (script, setup, token) =
        started(GRPC_STREAM, &[("request_headers", "get_status 24 out ; @24 text => 0 7 [denied]")]);
    setup.worker.grpc_close(token, 7, b"denied").unwrap();
    setup.http(1).on_headers(Direction::Request, 1, true).unwrap();
    script.check(&setup.mock, &["request_headers"]);
}
