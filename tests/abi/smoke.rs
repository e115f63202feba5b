// SPDX-License-Identifier: Apache-2.0
//! A stream from beginning to end.

use crate::support::*;
use proxywasm::abi::MapType;
use proxywasm::*;

#[test]
fn a_guest_reads_and_adds_headers() {
    let wasm = guest(
        r#"
        (data (i32.const 1024) "host" "x-seen" "yes")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $status (call $proxy_get_header_map_value
            (i32.const 0) (i32.const 1024) (i32.const 4) (global.get $out) (global.get $out_len)))
          (call $value)
          (call $status (call $proxy_add_header_map_value
            (i32.const 0) (i32.const 1028) (i32.const 6) (i32.const 1034) (i32.const 3)))
          (i32.const 0))"#,
    );
    let setup = Setup::new(&wasm);
    setup.mock.set_map(MapType::RequestHeaders, &[("host", "example.com")]);
    let stream = setup.http(1);
    let outcome = stream.on_headers(Direction::Request, 1, false).unwrap();
    assert!(outcome.headers && !outcome.end_of_stream && outcome.action == Action::Continue, "{outcome:?}");
    assert_eq!(setup.mock.take_log(), ["status=0", "example.com", "status=0"]);
    let outcome = stream.on_body(Direction::Request, &chunk("body"), true).unwrap();
    assert!(outcome.end_of_stream);
    assert_eq!(forwarded(&stream, Direction::Request), "body");
    stream.log().unwrap();
    stream.done().unwrap();
    stream.finish().unwrap();
    let map = setup.mock.map(MapType::RequestHeaders);
    assert_eq!(map[1], ("x-seen".to_owned(), "yes".to_owned()));
}

#[test]
fn a_trap_ends_the_stream_by_policy_and_the_next_gets_a_new_vm() {
    let wasm = guest(r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (unreachable))"#);
    let setup = Setup::new(&wasm);
    for _ in 0..2 {
        let stream = setup.http(1);
        let outcome = stream.on_headers(Direction::Request, 1, false).unwrap();
        assert_eq!(outcome.action, Action::LocalResponse, "{outcome:?}");
        let failure = outcome.failure.unwrap();
        assert!(failure.to_string().contains("unreachable"), "{failure}");
        stream.finish().unwrap();
        setup.mock.advance(1100);
    }
    assert_eq!(setup.worker.stats().vms_failed, 2);
}

#[test]
fn traps_are_caught_without_signal_handlers_too() {
    let wasm = guest(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.load (i32.const -8)))"#,
    );
    let engine = Engine::new(EngineConfig::new().signal_traps(false)).unwrap();
    let setup = Setup::on_engine(&engine, &Mock::default(), &[(&wasm, config())]).unwrap();
    let outcome = setup.http(1).on_headers(Direction::Request, 1, true).unwrap();
    assert_eq!(outcome.failure.unwrap().kind(), ErrorKind::GuestTrap);
}

#[test]
fn code_that_is_not_optimized_is_compiled_and_runs() {
    let wasm = guest(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.eq (local.get 1) (i32.const 7)))"#,
    );
    let engine = Engine::new(EngineConfig::new().optimization(false)).unwrap();
    let setup = Setup::on_engine(&engine, &Mock::default(), &[(&wasm, config())]).unwrap();
    assert_eq!(setup.http(1).on_headers(Direction::Request, 7, true).unwrap().action, Action::Pause);
    assert_eq!(setup.http(2).on_headers(Direction::Request, 6, true).unwrap().action, Action::Continue);
}
