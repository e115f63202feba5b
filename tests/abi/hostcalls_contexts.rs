// SPDX-License-Identifier: Apache-2.0
//! Log, clock, ticks, contexts and their end, configuration.
//!
//! | hostcall | tests |
//! |---|---|
//! | `proxy_log`, `proxy_get_log_level` | `a_log_record_*`, `logging_*`, `the_log_level_*` |
//! | `proxy_get_current_time_nanoseconds` | `the_time_*` |
//! | `proxy_set_tick_period_milliseconds` | `ticks_*` |
//! | `proxy_set_effective_context` | `the_effective_context_*` |
//! | `proxy_done` | `done_*` |
//! | `proxy_get_configuration` | `the_configuration_*` |

use crate::support::*;
use proxywasm::abi::{LogLevel, MapType};
use proxywasm::*;

#[test]
fn a_log_record_tells_level_plugin_context_and_any_bytes() {
    let script = script(&[
        ("configure", "log 5 'root'"),
        ("request_headers", "log 0 'trace'\n log 1 'a\\0b'\n log 2 ''\n log 3 'warn'\n log 4 'line\\n'"),
    ]);
    let setup = Setup::new(&script.wasm);
    setup.http(1).on_headers(Direction::Request, 1, true).unwrap();
    let state = setup.mock.0.borrow();
    let levels =
        [LogLevel::Critical, LogLevel::Trace, LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error];
    let texts = ["root", "trace", "a\0b", "", "warn", "line\n"];
    // Each is followed by the script's own record of the status.
    let records: Vec<_> = state.log.iter().step_by(2).collect();
    let statuses: Vec<_> = state.log.iter().skip(1).step_by(2).map(|(.., text)| &**text).collect();
    assert_eq!(statuses, ["0"; 6]);
    for ((record, level), text) in records.iter().zip(levels).zip(texts) {
        let context = if text == "root" { 1 } else { 2 };
        assert_eq!(**record, (level, "test".to_owned(), context, text.to_owned()));
    }
    assert_eq!(records.len(), 6);
}

#[test]
fn logging_at_a_level_beyond_critical_is_a_bad_argument() {
    in_configure("log 6 'x' => 2\n log -1 'x' => 2");
}

#[test]
fn logging_is_not_filtered_by_the_level_of_the_host() {
    let script = script(&[("request_headers", "log 0 'x'")]);
    let setup = script.setup();
    setup.mock.0.borrow_mut().log_level = Some(LogLevel::Critical);
    assert_eq!(setup.request_log(), ["x", "0"]);
}

#[test]
fn a_pointer_outside_memory_is_an_invalid_memory_access() {
    in_configure(
        "log 2 -8 4 => 6
         log 2 1024 -1 => 6
         get_log_level -8 => 6
         get_log_level 262141 => 6
         get_current_time_nanoseconds -8 => 6
         get_current_time_nanoseconds 262137 => 6
         get_configuration -8 20 => 6
         get_configuration 16 -8 => 6",
    );
}

#[test]
fn the_log_level_is_the_hosts() {
    for level in [LogLevel::Trace, LogLevel::Info, LogLevel::Critical] {
        in_request(
            |mock| mock.0.borrow_mut().log_level = Some(level),
            &format!("get_log_level 16 ; @16 => 0 {}", level as i32),
        );
    }
}

#[test]
fn the_time_is_the_hosts_in_nanoseconds_since_1970() {
    in_request(
        |mock| mock.0.borrow_mut().now_realtime = 1_700_000_000_123_456_789,
        "get_current_time_nanoseconds 16 ; @16L => 0 1700000000123456789",
    );
}

#[test]
fn the_time_without_a_clock_of_the_host_is_the_systems() {
    struct Clockless(Mock);
    impl Host for Clockless {
        fn log(&self, stream: Option<StreamData>, record: &LogRecord<'_>) {
            MockHost(self.0.clone()).log(stream, record);
        }
    }
    let wasm = guest(
        r#"(data (i32.const 1024) "now")
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (drop (call $proxy_get_current_time_nanoseconds (i32.const 16)))
          (call $number (i32.const 1024) (i32.const 3) (i64.load (i32.const 16)))
          (i32.const 1))"#,
    );
    let engine = Engine::new(&EngineConfig::new()).unwrap();
    let mock = Mock::default();
    let worker = Worker::new(&engine, Box::new(Clockless(mock.clone()))).unwrap();
    let module = Module::compile(&engine, &wasm).unwrap();
    let _instance = worker.add_plugin(&Plugin::new(&module, config()).unwrap()).unwrap();
    let log = mock.take_log();
    let now: u64 = log[0].strip_prefix("now=").unwrap().parse().unwrap();
    let here = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    assert!(now <= here && here - now < 60_000_000_000, "{now} {here}");
}

/// Lets time pass and gives what ticks logged.
fn after(setup: &Setup, milliseconds: u64) -> Vec<String> {
    setup.mock.advance(milliseconds);
    setup.worker.on_timeout().unwrap();
    setup.mock.take_log()
}

#[test]
fn ticks_come_on_the_root_context_once_a_period() {
    let setup = script(&[("configure", "set_tick_period_milliseconds 10"), ("tick", "say $0 => 1")]).setup();
    assert_eq!(setup.worker.timeout_ns(), Some(10_000_000));
    assert_eq!(after(&setup, 9), [""; 0]);
    assert_eq!(setup.worker.timeout_ns(), Some(1_000_000));
    assert_eq!(after(&setup, 1), ["1"]);
    assert_eq!(after(&setup, 0), [""; 0]);
    assert_eq!(after(&setup, 10), ["1"]);
    // What was missed is not made up for.
    assert_eq!(after(&setup, 95), ["1"]);
    assert_eq!(after(&setup, 0), [""; 0]);
}

#[test]
fn ticks_of_a_new_period_replace_the_old_and_a_period_of_0_ends_them() {
    let setup = script(&[
        ("configure", "set_tick_period_milliseconds 10\n set_tick_period_milliseconds 50"),
        ("tick", "say $0 => 1\n set_tick_period_milliseconds 0"),
    ])
    .setup();
    assert_eq!(after(&setup, 49), [""; 0]);
    assert_eq!(after(&setup, 1), ["1", "0"]);
    assert_eq!(setup.worker.timeout_ns(), None);
    assert_eq!(after(&setup, 1000), [""; 0]);
}

#[test]
fn ticks_asked_for_by_a_stream_are_the_roots_and_outlive_it() {
    let script =
        script(&[("request_headers", "say $0 => 2\n set_tick_period_milliseconds 10"), ("tick", "say $0 => 1")]);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, true).unwrap();
    stream.finish().unwrap();
    drop(stream);
    script.check(&setup.mock, &["request_headers"]);
    assert_eq!(after(&setup, 10), ["1"]);
}

#[test]
fn ticks_come_to_each_root_context_with_its_own_period() {
    let wasm = script(&[("configure", "set_tick_period_milliseconds 10"), ("tick", "say $0 => 1")]).wasm;
    let slow = config_with(|config| config.root_id = "other".into());
    let setup = Setup::chain(&[(&wasm, config()), (&wasm, slow)]);
    setup.mock.take_log();
    assert_eq!(setup.worker.stats().vms, 1);
    assert_eq!(after(&setup, 10), ["1", "2"]);
}

#[test]
fn the_effective_context_decides_what_hostcalls_act_on_until_the_callback_ends() {
    let script = script(&[
        ("request_headers", "return 1"),
        (
            "foreign_function",
            "get_header_map_value 0 'host' out => 2
             set_effective_context 2
             get_header_map_value 0 'host' out ; text => 0 [a]
             add_header_map_value 0 'x' 'y'
             set_property 'p' 'v'
             get_property 'p' out ; text => 0 [v]
             set_effective_context 1
             get_property 'p' out => 1
             get_header_map_value 0 'host' out => 2
             set_effective_context 2",
        ),
        ("tick", ""),
    ]);
    let setup = script.setup();
    setup.mock.set_map(MapType::RequestHeaders, &[("host", "a")]);
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, true).unwrap();
    // The second time shows that the first has left nothing behind.
    for _ in 0..2 {
        setup.instances[0].call_foreign(0, b"").unwrap();
        script.check(&setup.mock, &["foreign_function"]);
    }
}

#[test]
fn the_effective_context_of_a_stream_can_be_another_stream() {
    let script = script(&[("response_headers", "set_effective_context 2\n send_local_response 200 '' '' '' -1")]);
    let setup = script.setup();
    let (first, second) = (setup.http(1), setup.http(2));
    first.on_headers(Direction::Request, 1, true).unwrap();
    second.on_headers(Direction::Request, 1, true).unwrap();
    let outcome = second.on_headers(Direction::Response, 1, true).unwrap();
    script.check(&setup.mock, &["response_headers"]);
    assert_eq!(outcome.action, Action::Continue);
    assert!(matches!(setup.mock.take_events()[..], [Event::LocalResponse { stream: 1, .. }]));
}

#[test]
fn the_effective_context_names_the_record_in_the_log() {
    let script =
        script(&[("request_headers", "return 1"), ("foreign_function", "set_effective_context 2\n log 2 'x'")]);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, true).unwrap();
    setup.instances[0].call_foreign(0, b"").unwrap();
    let state = setup.mock.0.borrow();
    let ids: Vec<_> = state.log.iter().map(|(_, _, id, text)| (*id, &**text)).collect();
    assert_eq!(ids, [(2, "0"), (2, "x"), (2, "0")]);
}

#[test]
fn the_effective_context_0_is_that_of_the_callback_again() {
    let script = script(&[
        ("request_headers", "return 1"),
        (
            "foreign_function",
            "set_effective_context 2
             get_header_map_size 0 16
             set_effective_context 0
             get_header_map_size 0 16 => 2",
        ),
    ]);
    let setup = script.setup();
    setup.mock.set_map(MapType::RequestHeaders, &[("host", "a")]);
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, true).unwrap();
    setup.instances[0].call_foreign(0, b"").unwrap();
    script.check(&setup.mock, &["foreign_function"]);
}

#[test]
fn the_effective_context_must_be_alive() {
    let script = script(&[
        ("request_headers", ""),
        (
            "foreign_function",
            "set_effective_context 2 => 2
             set_effective_context 99 => 2
             set_effective_context -1 => 2
             set_effective_context 1",
        ),
    ]);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, true).unwrap();
    stream.finish().unwrap();
    setup.instances[0].call_foreign(0, b"").unwrap();
    script.check(&setup.mock, &["foreign_function"]);
}

#[test]
fn done_without_a_pending_end_is_not_found() {
    in_configure("done => 1");
    in_request(|_| {}, "done => 1");
    let script = script(&[("done", "done => 1\n return 0"), ("log", "done => 1")]);
    let setup = script.setup();
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, true).unwrap();
    stream.log().unwrap();
    stream.finish().unwrap();
    script.check(&setup.mock, &["log", "done"]);
}

#[test]
fn done_ends_a_root_context_whose_end_is_pending_after_the_callback_and_once() {
    let script = script(&[
        ("configure", "set_tick_period_milliseconds 10"),
        ("done", "say $0 => 1\n return 0"),
        ("tick", "done\n done => 1"),
        ("delete", "say $0 => 1"),
    ]);
    let mut setup = script.setup();
    let instance = setup.instances.pop().unwrap();
    setup.worker.remove_plugin(instance).unwrap();
    script.check(&setup.mock, &["done"]);
    assert!(!setup.worker.is_idle());
    setup.mock.advance(10);
    setup.worker.on_timeout().unwrap();
    script.check(&setup.mock, &["tick", "delete"]);
    assert!(setup.worker.is_idle());
}

#[test]
fn done_is_not_needed_where_the_callback_returned_true() {
    let script = script(&[("done", "return 1"), ("delete", "say $0 => 1")]);
    let mut setup = script.setup();
    let instance = setup.instances.pop().unwrap();
    setup.worker.remove_plugin(instance).unwrap();
    script.check(&setup.mock, &["done", "delete"]);
}

#[test]
fn the_configuration_is_the_plugins_while_it_is_configured_and_else_the_vms() {
    let vm = "get_configuration out ; text => 0 [of the vm]";
    let script = script_of(
        "0_1_0",
        &[],
        &[
            ("context_create", vm),
            ("vm_start", vm),
            ("configure", "get_configuration out ; text => 0 [of the plugin]"),
            ("request_headers", vm),
        ],
    );
    let config = config_with(|config| {
        config.vm_configuration = b"of the vm".to_vec();
        config.configuration = b"of the plugin".to_vec();
    });
    let setup = Setup::with(&script.wasm, config);
    script.check_start(&setup.mock);
    setup.http(1).on_headers(Direction::Request, 1, true).unwrap();
    script.check(&setup.mock, &["context_create", "request_headers"]);
}

#[test]
fn the_configuration_may_be_empty_which_is_ok_null_and_0() {
    script_of("0_1_0", &[], &[("configure", "get_configuration out ; @16 @20 => 0 0 0")]).setup();
}
