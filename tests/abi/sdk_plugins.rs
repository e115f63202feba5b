// SPDX-License-Identifier: Apache-2.0
//! Plugins built with the SDKs: every filter of `examples/filters` starts, and does what its README says.

use crate::support::{chunk, forwarded, Event, Mock, MockHost, Setup};
use crate::trace::{local_responses, named};
use proxywasm::abi::pairs::PairList;
use proxywasm::abi::{LogLevel, MapType, PeerType};
use proxywasm::Direction::{Request, Response};
use proxywasm::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

const FILTERS: [&str; 11] = [
    "assemblyscript-add-headers",
    "c-add-headers",
    "c-body-upper",
    "go-add-headers",
    "go-block-path",
    "rust-add-headers",
    "rust-auth-callout",
    "rust-metrics",
    "rust-rate-limit",
    "rust-rewrite-json",
    "rust-tcp",
];

/// A configuration with which a filter starts.
fn some_configuration(name: &str) -> &'static str {
    match name {
        "go-block-path" => r#"{"prefixes": ["/admin"]}"#,
        "rust-auth-callout" => r#"{"cluster": "auth"}"#,
        "rust-rewrite-json" => r#"{"response": {"set": {"a": 1}}}"#,
        _ => "",
    }
}

/// One engine for all these tests, and every filter compiled once: the large ones take seconds.
fn module(name: &str) -> Module {
    static MODULES: Mutex<BTreeMap<String, Arc<OnceLock<Module>>>> = Mutex::new(BTreeMap::new());
    let slot = MODULES.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default().clone();
    let compile = || {
        let path = format!("{}/build/filters/{name}.wasm", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(path);
        let bytes = bytes.unwrap_or_else(|error| panic!("build/filters/{name}.wasm: {error}; run make filters first"));
        Module::compile(&engine(), &bytes).unwrap()
    };
    slot.get_or_init(compile).clone()
}

fn engine() -> Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new(&EngineConfig::new()).unwrap()).clone()
}

fn set_up(mock: &Mock, plugins: &[(&str, PluginConfig)]) -> Result<Setup> {
    let engine = engine();
    let worker = Worker::new(&engine, Box::new(MockHost(mock.clone())))?;
    let mut instances = Vec::new();
    for (name, config) in plugins {
        instances.push(worker.add_plugin(&Plugin::new(&module(name), config.clone())?)?);
    }
    let chain = worker.chain(&instances.iter().collect::<Vec<_>>())?;
    Ok(Setup { mock: mock.clone(), engine, worker, instances, chain })
}

fn try_start(name: &str, configuration: &str) -> (Result<Setup>, Mock) {
    let mock = Mock::default();
    let mut config = named(name);
    config.configuration = configuration.as_bytes().to_vec();
    (set_up(&mock, &[(name, config)]), mock)
}

fn start(name: &str, configuration: &str) -> Setup {
    let (setup, mock) = try_start(name, configuration);
    setup.unwrap_or_else(|error| panic!("{name}: {error}\n{:?}", mock.take_log()))
}

const GET: &[(&str, &str)] = &[(":method", "GET"), (":path", "/"), (":authority", "example.com")];

fn has(mock: &Mock, map: MapType, name: &str, value: &str) -> bool {
    mock.map(map).contains(&(name.to_owned(), value.to_owned()))
}

/// Nothing failed, and nothing was logged as an error.
#[track_caller]
fn assert_well(setup: &Setup) {
    let log = setup.mock.0.borrow();
    let bad: Vec<_> =
        log.log.iter().filter(|(level, ..)| matches!(level, LogLevel::Error | LogLevel::Critical)).collect();
    assert!(bad.is_empty(), "{bad:?}");
    drop(log);
    assert_eq!(setup.worker.stats().vms_failed, 0);
}

/// Request headers without a body, and the response `200`; the stream ends well.
fn exchange(setup: &Setup, request: &[(&str, &str)]) -> Outcome {
    setup.mock.set_map(MapType::RequestHeaders, request);
    setup.mock.set_map(MapType::ResponseHeaders, &[(":status", "200")]);
    let stream = setup.http(1);
    let outcome = stream.on_headers(Request, request.len() as u32, true).unwrap();
    stream.on_headers(Response, 1, true).unwrap();
    stream.log().unwrap();
    stream.done().unwrap();
    stream.finish().unwrap();
    outcome
}

#[test]
fn every_filter_starts_ends_and_frees_its_vm() {
    for name in FILTERS {
        let mut setup = start(name, some_configuration(name));
        assert_well(&setup);
        setup.worker.remove_plugin(setup.instances.remove(0)).unwrap();
        // The AssemblyScript SDK has no end for a root context: its proxy_on_done aborts on the id, in any host.
        match name {
            "assemblyscript-add-headers" => assert_eq!(setup.worker.stats().vms_failed, 1),
            _ => assert_well(&setup),
        }
        let Setup { worker, chain, .. } = setup;
        drop(chain);
        worker.run_pending().unwrap();
        assert_eq!(worker.stats().vms, 0, "{name}");
    }
}

#[test]
fn every_filter_passes_a_trial_start() {
    for name in FILTERS {
        let mut config = named(name);
        config.configuration = some_configuration(name).as_bytes().to_vec();
        let plugin = Plugin::new(&module(name), config).unwrap();
        validate(&plugin, Box::new(MockHost(Mock::default()))).unwrap();
    }
}

#[test]
fn every_filter_takes_hundreds_of_streams() {
    for name in FILTERS {
        let setup = start(name, some_configuration(name));
        let memory = setup.worker.stats().memory;
        for id in 0..300 {
            setup.mock.set_map(MapType::RequestHeaders, GET);
            setup.mock.set_map(MapType::ResponseHeaders, &[(":status", "200")]);
            if name == "rust-tcp" {
                let stream = setup.tcp(id);
                stream.on_new_connection().unwrap();
                stream.on_data(Request, &chunk("hello"), true).unwrap();
                stream.log().unwrap();
                stream.finish().unwrap();
            } else {
                let stream = setup.http(id);
                stream.on_headers(Request, 3, true).unwrap();
                stream.on_headers(Response, 1, true).unwrap();
                stream.log().unwrap();
                stream.finish().unwrap();
            }
            setup.mock.take_log();
        }
        assert_eq!(setup.worker.stats().vms_failed, 0, "{name}");
        let grown = setup.worker.stats().memory.saturating_sub(memory);
        assert!(grown < 8 << 20, "{name} grew by {grown} bytes");
    }
}

#[test]
fn configurations_that_a_filter_does_not_understand_are_refused_with_a_reason() {
    let cases = [
        ("assemblyscript-add-headers", r#"{"requests": {}}"#),
        ("c-add-headers", r#"{"request": 1}"#),
        ("c-body-upper", "sideways"),
        ("go-add-headers", r#"{"unknown": {}}"#),
        ("go-block-path", ""),
        ("rust-add-headers", "nonsense"),
        ("rust-auth-callout", "{}"),
        ("rust-metrics", r#"{"prefix": ""}"#),
        ("rust-rate-limit", r#"{"limit": "many"}"#),
        ("rust-rewrite-json", "{}"),
        ("rust-tcp", "shout"),
    ];
    for (name, configuration) in cases {
        let (setup, mock) = try_start(name, configuration);
        let error = setup.err().unwrap_or_else(|| panic!("{name} accepts {configuration}"));
        assert_eq!(error.kind(), ErrorKind::GuestRejected, "{name}: {error}");
        let log = mock.take_log();
        let told = log.iter().filter(|line| line.contains("configuration refused:")).count();
        assert_eq!(told, 1, "{name}: {log:?}");
    }
}

#[test]
fn add_headers_adds_them_in_all_four_languages() {
    for language in ["rust", "go", "assemblyscript", "c"] {
        let name = format!("{language}-add-headers");
        let setup = start(&name, "");
        let outcome = exchange(&setup, GET);
        assert!(outcome.headers && outcome.failure.is_none(), "{name}");
        assert!(has(&setup.mock, MapType::RequestHeaders, "x-proxy-wasm", language), "{name}");
        assert!(has(&setup.mock, MapType::ResponseHeaders, "x-plugin", &name), "{name}");
        assert_well(&setup);

        let configuration = r#"{"request": {"x-hello": "you"}, "response": {"x-one": "1", "x-two": "2"}}"#;
        let setup = start(&name, configuration);
        exchange(&setup, GET);
        assert!(has(&setup.mock, MapType::RequestHeaders, "x-hello", "you"), "{name}");
        assert!(has(&setup.mock, MapType::ResponseHeaders, "x-one", "1"), "{name}");
        assert!(has(&setup.mock, MapType::ResponseHeaders, "x-two", "2"), "{name}");
        assert!(!has(&setup.mock, MapType::RequestHeaders, "x-proxy-wasm", language), "{name}");
        assert_well(&setup);
    }
}

#[test]
fn filters_of_all_languages_run_in_one_chain() {
    let names = ["rust-add-headers", "go-add-headers", "assemblyscript-add-headers", "c-add-headers"];
    let setup = set_up(&Mock::default(), &names.map(|name| (name, named(name)))).unwrap();
    exchange(&setup, GET);
    let added: Vec<_> = setup.mock.map(MapType::ResponseHeaders).into_iter().map(|(_, value)| value).collect();
    for name in names {
        assert!(added.contains(&name.to_owned()), "{name} is not in {added:?}");
    }
    // Responses pass the chain backward.
    let mut order = added.into_iter().filter(|value| value.ends_with("add-headers")).collect::<Vec<_>>();
    order.reverse();
    assert_eq!(order, names);
}

/// The authorization filter, waiting for its answer.
fn asked() -> (Setup, StreamHandle) {
    let setup = start("rust-auth-callout", r#"{"cluster": "auth", "path": "/check", "timeout_ms": 500}"#);
    setup.mock.set_map(MapType::RequestHeaders, &[GET, &[("authorization", "secret")]].concat());
    let stream = setup.http(1);
    let outcome = stream.on_headers(Request, 4, false).unwrap();
    assert_eq!((outcome.action, outcome.headers), (Action::Pause, false));
    (setup, stream)
}

fn answer(setup: &Setup, status: Option<&str>) {
    let response = status.map(|status| {
        let mut headers = PairList::new();
        headers.push(b":status", status.as_bytes());
        HttpResponse { headers, ..HttpResponse::default() }
    });
    setup.worker.http_call_complete(setup.mock.last_token(), response).unwrap();
}

#[test]
fn auth_callout_asks_with_the_headers_that_it_forwards() {
    let (setup, _stream) = asked();
    let events = setup.mock.take_events();
    let Some(Event::HttpCall { upstream, headers, timeout_ms, .. }) = events.first() else { panic!("{events:?}") };
    assert_eq!((&**upstream, *timeout_ms), ("auth", 500));
    let expected = [
        (":method", "GET"),
        (":path", "/check"),
        (":authority", "auth"),
        ("x-original-method", "GET"),
        ("x-original-path", "/"),
        ("authorization", "secret"),
    ];
    for (name, value) in expected {
        let pair = (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        assert!(headers.contains(&pair), "{name} is missing");
    }
}

#[test]
fn auth_callout_lets_a_request_pass_after_200_with_what_waited() {
    let (setup, stream) = asked();
    stream.on_body(Request, &chunk("body"), true).unwrap();
    answer(&setup, Some("200"));
    assert!(setup.mock.take_events().contains(&Event::Resume { stream: 1, request: true }));
    let outcome = stream.resume(Request).unwrap();
    assert!(outcome.headers && outcome.end_of_stream && outcome.action == Action::Continue, "{outcome:?}");
    assert_eq!(forwarded(&stream, Request), "body");
    stream.finish().unwrap();
    assert_well(&setup);
}

#[test]
fn auth_callout_refuses_with_403_and_answers_503_without_an_answer() {
    for (answered, status) in [(Some("401"), 403), (Some("500"), 403), (None, 503)] {
        let (setup, stream) = asked();
        answer(&setup, answered);
        let responses: Vec<_> = local_responses(&setup.mock).into_iter().map(|(_, status, _)| status).collect();
        assert_eq!(responses, [status]);
        assert_eq!(stream.resume(Request).unwrap().action, Action::LocalResponse);
        stream.finish().unwrap();
        assert_well(&setup);
    }
}

#[test]
fn auth_callout_answers_503_when_the_call_cannot_be_made() {
    let setup = start("rust-auth-callout", r#"{"cluster": "auth"}"#);
    setup.mock.answer("http_call", abi::Status::BadArgument);
    setup.mock.set_map(MapType::RequestHeaders, GET);
    let outcome = setup.http(1).on_headers(Request, 3, true).unwrap();
    assert_eq!(outcome.action, Action::LocalResponse, "{outcome:?}");
    assert_eq!(local_responses(&setup.mock)[0].1, 503);
    assert_eq!(setup.worker.stats().vms_failed, 0);
}

#[test]
fn auth_callout_takes_an_answer_to_a_stream_that_has_gone() {
    let (setup, stream) = asked();
    stream.finish().unwrap();
    drop(stream);
    answer(&setup, Some("200"));
    assert_well(&setup);
    assert!(!setup.mock.take_events().iter().any(|event| matches!(event, Event::Resume { .. })));
}

#[test]
fn rewrite_json_sets_and_removes_fields_of_a_body_in_parts() {
    let setup = start("rust-rewrite-json", r#"{"response": {"set": {"served-by": "proxy"}, "remove": ["secret"]}}"#);
    setup.mock.set_map(MapType::RequestHeaders, &[GET, &[("accept-encoding", "gzip")]].concat());
    let headers = [(":status", "200"), ("content-type", "application/json; charset=utf-8"), ("content-length", "40")];
    setup.mock.set_map(MapType::ResponseHeaders, &headers);
    let stream = setup.http(1);
    stream.on_headers(Request, 4, true).unwrap();
    assert!(!setup.mock.map(MapType::RequestHeaders).iter().any(|(name, _)| name == "accept-encoding"));
    let outcome = stream.on_headers(Response, 3, false).unwrap();
    assert!(outcome.headers);
    assert!(!setup.mock.map(MapType::ResponseHeaders).iter().any(|(name, _)| name == "content-length"));
    for part in [r#"{"user": "alice", "#, r#""secret": "hunter2""#] {
        let outcome = stream.on_body(Response, &chunk(part), false).unwrap();
        assert_eq!(outcome.action, Action::PauseAndBuffer);
        assert!(forwarded(&stream, Response).is_empty());
    }
    assert!(stream.on_body(Response, &chunk("}"), true).unwrap().end_of_stream);
    assert_eq!(forwarded(&stream, Response), r#"{"user":"alice","served-by":"proxy"}"#);
    stream.finish().unwrap();
    assert_well(&setup);
}

#[test]
fn rewrite_json_ends_with_trailers_as_well() {
    let setup = start("rust-rewrite-json", r#"{"request": {"set": {"checked": true}}}"#);
    setup.mock.set_map(MapType::RequestHeaders, &[GET, &[("content-type", "application/json")]].concat());
    let stream = setup.http(1);
    stream.on_headers(Request, 4, false).unwrap();
    stream.on_body(Request, &chunk("{}"), false).unwrap();
    let outcome = stream.on_trailers(Request, 1).unwrap();
    assert!(outcome.trailers && outcome.end_of_stream, "{outcome:?}");
    assert_eq!(forwarded(&stream, Request), r#"{"checked":true}"#);
    assert_well(&setup);
}

#[test]
fn rewrite_json_leaves_other_bodies_alone_and_in_place() {
    let setup = start("rust-rewrite-json", r#"{"response": {"set": {"a": 1}}}"#);
    setup.mock.set_map(MapType::RequestHeaders, GET);
    setup.mock.set_map(MapType::ResponseHeaders, &[(":status", "200"), ("content-type", "text/html")]);
    let stream = setup.http(1);
    stream.on_headers(Request, 3, true).unwrap();
    stream.on_headers(Response, 2, false).unwrap();
    let bytes = b"<html>".to_vec();
    let place = bytes.as_ptr();
    stream.on_body(Response, &[Chunk::owned(bytes)], true).unwrap();
    assert_eq!(stream.forward(Response).slices().next().unwrap().as_ptr(), place);
    assert_well(&setup);
}

#[test]
fn rate_limit_answers_429_after_the_limit_for_each_client_until_the_window_ends() {
    let setup = start("rust-rate-limit", r#"{"limit": 3, "window_seconds": 60}"#);
    let request = |client: &str| {
        let outcome = exchange(&setup, &[GET, &[("x-client-id", client)]].concat());
        outcome.action
    };
    setup.mock.0.borrow_mut().now_realtime = 600_000_000_000 + 10_000_000_000;
    for _ in 0..3 {
        assert_eq!(request("one"), Action::Continue);
    }
    assert_eq!(request("one"), Action::LocalResponse);
    assert_eq!(request("two"), Action::Continue, "clients count apart");
    let events = setup.mock.take_events();
    let [Event::LocalResponse { status: 429, headers, .. }] = &events[..] else { panic!("{events:?}") };
    assert!(headers.contains(&(b"retry-after".to_vec(), b"50".to_vec())), "{headers:?}");
    setup.mock.0.borrow_mut().now_realtime += 50_000_000_000;
    assert_eq!(request("one"), Action::Continue, "the next window");
    assert_well(&setup);
}

#[test]
fn rate_limit_counts_across_workers() {
    let worker = || {
        let mut config = named("across-workers");
        config.configuration = br#"{"limit": 2}"#.to_vec();
        set_up(&Mock::default(), &[("rust-rate-limit", config)]).unwrap()
    };
    let (one, two) = (worker(), worker());
    assert_eq!(exchange(&one, GET).action, Action::Continue);
    assert_eq!(exchange(&two, GET).action, Action::Continue);
    assert_eq!(exchange(&one, GET).action, Action::LocalResponse);
    assert_eq!(exchange(&two, GET).action, Action::LocalResponse);
}

#[test]
fn metrics_are_rendered_with_what_was_counted() {
    let setup = start("rust-metrics", r#"{"prefix": "demo"}"#);
    for _ in 0..3 {
        exchange(&setup, GET);
    }
    setup.mock.set_map(MapType::RequestHeaders, GET);
    setup.http(9).on_headers(Request, 3, true).unwrap();
    let mut text = String::new();
    setup.engine.metrics().render_prometheus(&mut text);
    for line in [
        "# TYPE demo_requests_total counter",
        "demo_requests_total 4",
        "demo_requests_active 1",
        "demo_responses_2xx_total 3",
        "demo_responses_5xx_total 0",
        "# TYPE demo_request_duration_ms histogram",
        "demo_request_duration_ms_count 3",
    ] {
        assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
    }
    assert_well(&setup);
}

/// A connection through the TCP filter: what goes to the upstream for what comes from the client.
fn tcp(configuration: &str, parts: &[&str]) -> (String, Setup) {
    let setup = start("rust-tcp", configuration);
    let stream = setup.tcp(1);
    stream.on_new_connection().unwrap();
    let mut sent = String::new();
    for part in parts {
        stream.on_data(Request, &chunk(part), false).unwrap();
        sent.push_str(&forwarded(&stream, Request));
    }
    stream.on_data(Response, &chunk("answer"), true).unwrap();
    assert_eq!(forwarded(&stream, Response), "answer");
    stream.on_data(Request, &[], true).unwrap();
    stream.on_close(Request, PeerType::Remote).unwrap();
    stream.done().unwrap();
    stream.log().unwrap();
    stream.finish().unwrap();
    assert_well(&setup);
    (sent, setup)
}

#[test]
fn tcp_is_censored_and_its_bytes_are_logged() {
    let (sent, setup) = tcp("censor secret", &["a secret and ", "another secret"]);
    assert_eq!(sent, "a ****** and another ******");
    let log = setup.mock.take_log();
    let told = "closed: 27 bytes from downstream, 6 from upstream";
    assert!(log.iter().any(|line| line.contains(told)), "{log:?}");
}

#[test]
fn tcp_is_made_uppercase() {
    assert_eq!(tcp("", &["hello, ", "world"]).0, "HELLO, WORLD");
}

#[test]
fn block_path_answers_by_itself_for_its_prefixes_and_what_is_below_them() {
    let setup = start("go-block-path", r#"{"prefixes": ["/admin"], "status": 404, "body": "nothing here"}"#);
    for path in ["/admin", "/admin/users", "/admin?x=1", "//admin", "/x/../admin", "/%61dmin"] {
        let request = [(":method", "GET"), (":path", path), (":authority", "example.com")];
        assert_eq!(exchange(&setup, &request).action, Action::LocalResponse, "{path}");
        let events = setup.mock.take_events();
        let [Event::LocalResponse { status: 404, body, grpc_status: None, .. }] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(body, "nothing here");
    }
    for path in ["/", "/administrators", "/public/admin"] {
        let request = [(":method", "GET"), (":path", path), (":authority", "example.com")];
        assert_eq!(exchange(&setup, &request).action, Action::Continue, "{path}");
    }
    assert!(setup.mock.take_events().is_empty());
    assert_well(&setup);
}

#[test]
fn body_upper_changes_the_directions_that_it_is_told_chunk_by_chunk() {
    for (configuration, request, response) in
        [("", "body", "BODY"), ("request", "BODY", "body"), ("both", "BODY", "BODY")]
    {
        let setup = start("c-body-upper", configuration);
        setup.mock.set_map(MapType::RequestHeaders, GET);
        setup.mock.set_map(MapType::ResponseHeaders, &[(":status", "200")]);
        let stream = setup.http(1);
        for (direction, expected) in [(Request, request), (Response, response)] {
            stream.on_headers(direction, 1, false).unwrap();
            let mut sent = String::new();
            for (part, end) in [("bo", false), ("dy", true)] {
                stream.on_body(direction, &chunk(part), end).unwrap();
                sent.push_str(&forwarded(&stream, direction));
            }
            assert_eq!(sent, expected, "{configuration:?} {direction:?}");
        }
        stream.finish().unwrap();
        assert_well(&setup);
    }
}
