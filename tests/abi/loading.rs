// SPDX-License-Identifier: Apache-2.0
//! Which modules load, which are refused and with what words, and how a VM starts.

use crate::support::{chunk, config, config_with, guest, guest_of, Mock, MockHost, Setup, CALLBACKS};
use crate::trace::Guest;
use proxywasm::abi::{AbiVersion, LogLevel};
use proxywasm::*;
use std::sync::{Arc, Mutex};

fn engine() -> Engine {
    Engine::new(&EngineConfig::new()).unwrap()
}

fn compile(bytes: &[u8]) -> Result<Module> {
    Module::compile(&engine(), bytes)
}

/// A module of this text, which is all it has.
fn bare(text: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {text})")).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// What every module must export, less the marker.
const NEEDED: &str = r#"(memory (export "memory") 1) (func (export "malloc") (param i32) (result i32) (i32.const 8))"#;
const MARKER: &str = r#"(func (export "proxy_abi_version_0_2_1"))"#;

/// The kind and the text with which a module is refused.
fn refused(bytes: &[u8]) -> (ErrorKind, String) {
    match compile(bytes) {
        Ok(_) => panic!("the module was not refused"),
        Err(error) => (error.kind(), error.to_string()),
    }
}

#[test]
fn equal_bytes_are_compiled_once() {
    let engine = engine();
    let wasm = bare(&format!("{NEEDED} {MARKER}"));
    let one = Module::compile(&engine, &wasm).unwrap();
    let same = Module::compile(&engine, &wasm).unwrap();
    assert!(std::ptr::eq(&*one, &*same));
    assert!(!std::ptr::eq(&*one, &*compile(&wasm).unwrap()), "engines share nothing");
    let longer = bare(&format!("{NEEDED} {MARKER} (func)"));
    assert!(!std::ptr::eq(&*one, &*Module::compile(&engine, &longer).unwrap()));
}

#[track_caller]
fn assert_refused(bytes: &[u8], kind: ErrorKind, words: &[&str]) {
    let (found, text) = refused(bytes);
    assert_eq!(found, kind, "{text}");
    words.iter().for_each(|word| assert!(text.contains(word), "{word:?} is not in: {text}"));
}

// The marker

#[test]
fn each_marker_names_its_version() {
    let versions = [("0_1_0", AbiVersion::V0_1_0), ("0_2_0", AbiVersion::V0_2_0), ("0_2_1", AbiVersion::V0_2_1)];
    for (marker, version) in versions {
        assert_eq!(compile(&guest_of(marker, "")).unwrap().abi_version(), version);
    }
}

#[test]
fn of_two_markers_the_first_export_counts() {
    let module = |first: &str, second: &str| {
        bare(&format!(
            r#"{NEEDED} (func (export "proxy_abi_version_{first}")) (func (export "proxy_abi_version_{second}"))"#
        ))
    };
    assert_eq!(compile(&module("0_1_0", "0_2_1")).unwrap().abi_version(), AbiVersion::V0_1_0);
    assert_eq!(compile(&module("0_2_1", "0_1_0")).unwrap().abi_version(), AbiVersion::V0_2_1);
}

#[test]
fn an_unknown_marker_before_a_known_one_is_passed_over() {
    let text = format!(r#"{NEEDED} (func (export "proxy_abi_version_0_2_100")) {MARKER}"#);
    assert_eq!(compile(&bare(&text)).unwrap().abi_version(), AbiVersion::V0_2_1);
}

#[test]
fn a_module_without_a_marker_is_refused_with_advice() {
    assert_refused(&bare(NEEDED), ErrorKind::UnknownAbi, &["not a Proxy-Wasm module", "proxy_abi_version_"]);
}

#[test]
fn a_marker_that_is_no_function_does_not_count() {
    let text = format!(r#"{NEEDED} (global (export "proxy_abi_version_0_2_1") i32 (i32.const 1))"#);
    assert_refused(&bare(&text), ErrorKind::UnknownAbi, &[]);
}

#[test]
fn an_unknown_version_is_refused_and_named_beside_those_that_are_spoken() {
    let text = format!(r#"{NEEDED} (func (export "proxy_abi_version_0_9_0"))"#);
    assert_refused(&bare(&text), ErrorKind::UnknownAbi, &["proxy_abi_version_0_9_0", "0_1_0", "0_2_0", "0_2_1"]);
}

#[test]
fn the_marker_is_never_called() {
    let text = format!(r#"{NEEDED} (func (export "proxy_abi_version_0_2_1") (unreachable))"#);
    Setup::new(&bare(&text)).http(1).on_headers(Direction::Request, 0, true).unwrap();
}

// What is no Proxy-Wasm module

#[test]
fn an_http_wasm_plugin_is_told_apart() {
    let by_export = format!(r#"{NEEDED} (func (export "handle_request") (result i64) (i64.const 0))"#);
    let by_import = format!(r#"(import "http_handler" "log" (func (param i32 i32 i32))) {NEEDED}"#);
    for text in [by_export, by_import] {
        assert_refused(&bare(&text), ErrorKind::UnknownAbi, &["http-wasm"]);
    }
}

#[test]
fn a_plain_wasi_program_is_told_apart() {
    for wasi in ["wasi_snapshot_preview1", "wasi_unstable"] {
        let text = format!(r#"(import "{wasi}" "proc_exit" (func (param i32))) {NEEDED} (func (export "_start"))"#);
        assert_refused(&bare(&text), ErrorKind::UnknownAbi, &["plain WASI program"]);
    }
}

#[test]
fn a_module_from_before_0_1_0_is_told_apart() {
    let text = format!(r#"(import "env" "_proxy_log" (func (param i32 i32 i32) (result i32))) {NEEDED}"#);
    assert_refused(&bare(&text), ErrorKind::UnknownAbi, &["before 0.1.0", "current SDK"]);
}

#[test]
fn a_component_is_told_apart() {
    let component = wat::parse_str("(component)").unwrap();
    assert_refused(&component, ErrorKind::BadModule, &["component", "wasip1"]);
}

#[test]
fn common_mistakes_are_named() {
    let cases: [(&[u8], &str); 8] = [
        (b"", "empty"),
        (b"\x1f\x8b\x08\0rest", "gzip"),
        (b"\x7fELF\x02\x01\x01\0", "ELF"),
        (b"(module)", "text"),
        (b"#!/bin/sh\n", "does not begin with"),
        (b"\0asm", "truncated"),
        (b"\0asm\x01\0\0", "truncated"),
        (b"\0asm\x02\0\0\0", "version"),
    ];
    for (bytes, word) in cases {
        assert_refused(bytes, ErrorKind::BadModule, &[word]);
    }
}

#[test]
fn garbage_after_the_header_is_refused() {
    for garbage in [&b"\xff\xff\xff\xff\xff"[..], &[0x01, 0x7f], &[0x0a; 64], b"hello, world"] {
        let bytes = [&b"\0asm\x01\0\0\0"[..], garbage].concat();
        assert_refused(&bytes, ErrorKind::BadModule, &["not a valid WebAssembly module"]);
    }
}

#[test]
fn a_module_cut_off_anywhere_is_refused() {
    let whole = bare(&format!("{NEEDED} {MARKER}"));
    let engine = engine();
    assert!(Module::compile(&engine, &whole).is_ok());
    for len in 0..whole.len() {
        let Err(error) = Module::compile(&engine, &whole[..len]) else { panic!("{len} bytes make a module") };
        // Cut between two sections it may be valid WebAssembly, but without its marker.
        assert!(matches!(error.kind(), ErrorKind::BadModule | ErrorKind::UnknownAbi), "{len}: {error}");
    }
    let large = guest("");
    for len in [9, 64, 500, large.len() / 2, large.len() - 1] {
        assert!(Module::compile(&engine, &large[..len]).is_err(), "{len} of {} bytes make a module", large.len());
    }
}

#[test]
fn every_single_flipped_byte_is_survived() {
    let whole = bare(&format!("{NEEDED} {MARKER}"));
    let engine = engine();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        // Loads or not, but comes back.
        let _ = Module::compile(&engine, &bytes);
    }
}

#[test]
fn sections_with_code_compiled_elsewhere_are_not_looked_at() {
    let mut bytes = bare(&format!("{NEEDED} {MARKER}"));
    let name = b"precompiled_wasmtime_v99_x";
    let payload = [&[name.len() as u8][..], name, &[0xff; 20]].concat();
    bytes.extend([&[0, payload.len() as u8][..], &payload].concat());
    Setup::new(&bytes);
}

// Allocator and memory

#[test]
fn malloc_is_preferred_and_asked_for_the_exact_size() {
    let allocator = r#"
        (data (i32.const 1024) "malloc" "host")
        (func (export "malloc") (param i32) (result i32)
          (call $number (i32.const 1024) (i32.const 6) (i64.extend_i32_u (local.get 0)))
          (call $malloc (local.get 0)))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (drop (call $proxy_get_header_map_value
            (i32.const 0) (i32.const 1030) (i32.const 4) (global.get $out) (global.get $out_len)))
          (call $value)
          (i32.const 0))"#;
    let setup = Setup::new(&guest(allocator));
    setup.mock.set_map(abi::MapType::RequestHeaders, &[("host", "example")]);
    assert_eq!(setup.request_log(), ["malloc=7", "example"]);
}

#[test]
fn memory_that_grows_inside_a_hostcall_is_found_where_it_is() {
    // Each value gets a page of its own, made for it.
    let allocator = r#"
        (func (export "malloc") (param i32) (result i32) (i32.mul (memory.grow (i32.const 1)) (i32.const 65536)))
        (data (i32.const 1030) "host")
        (func $read
          (call $status (call $proxy_get_header_map_value
            (i32.const 0) (i32.const 1030) (i32.const 4) (global.get $out) (global.get $out_len)))
          (call $value))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $read)
          ;; As many pages as the limit lets it have, and the answer to one more.
          (block $full (loop $more (br_if $full (i32.lt_s (memory.grow (i32.const 1)) (i32.const 0))) (br $more)))
          (call $number (i32.const 1030) (i32.const 4) (i64.extend_i32_u (memory.size)))
          (call $status (call $proxy_set_header_map_pairs
            (i32.const 0) (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)) (i32.const 4)))
          (call $status (call $proxy_set_header_map_pairs
            (i32.const 0) (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)) (i32.const 5)))
          (i32.const 0))"#;
    let config = config_with(|config| config.limits.max_memory = 40 * 65536);
    let setup = Setup::with(&guest(allocator), config);
    setup.mock.set_map(abi::MapType::RequestHeaders, &[("host", "example")]);
    assert_eq!(setup.request_log(), ["status=0", "example", "host=40", "status=0", "status=6"]);
}

#[test]
fn proxy_on_memory_allocate_serves_where_there_is_no_malloc() {
    let wasm = Guest::new().on("configure", "(call $show (i32.const 7)) (i32.const 1)").build();
    let setup = Setup::with(&wasm, config_with(|config| config.configuration = b"seven".to_vec()));
    assert_eq!(setup.mock.take_log(), ["configure 1 5", "buffer=seven"]);
}

#[test]
fn a_module_without_an_allocator_is_refused() {
    let text = format!(r#"(memory (export "memory") 1) {MARKER}"#);
    assert_refused(&bare(&text), ErrorKind::MissingExport, &["malloc", "proxy_on_memory_allocate"]);
}

#[test]
fn a_module_that_exports_no_memory_is_refused() {
    let allocator = r#"(func (export "malloc") (param i32) (result i32) (i32.const 8))"#;
    let cases = ["(memory 1)", "", r#"(memory (export "mem") 1)"#, r#"(func (export "memory"))"#];
    for memory in cases {
        assert_refused(&bare(&format!("{memory} {allocator} {MARKER}")), ErrorKind::MissingExport, &["memory"]);
    }
}

#[test]
fn a_module_that_starts_with_more_memory_than_its_limit_is_refused() {
    let plugin = |limit: u64| {
        let module = compile(&guest("")).unwrap();
        assert_eq!(module.initial_memory(), 4 << 16);
        Plugin::new(&module, config_with(|config| config.limits.max_memory = limit))
    };
    assert!(plugin(4 << 16).is_ok());
    let error = plugin((4 << 16) - 1).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::GuestLimit);
    assert!(error.to_string().contains("262144") && error.to_string().contains("262143"), "{error}");
}

// Entry functions

/// The log of a start: the names in the order in which they were called.
fn start_log(entries: &[(&str, &str)]) -> Vec<String> {
    let mut text = String::new();
    for (index, (name, ty)) in entries.iter().enumerate() {
        let at = 1024 + 32 * index;
        let len = name.len();
        let result = if ty.contains("result") { "(i32.const 7)" } else { "" };
        text.push_str(&format!(
            r#"(data (i32.const {at}) "{name}")
            (func (export "{name}") {ty} (call $say (i32.const {at}) (i32.const {len})) {result})"#
        ));
    }
    let setup = Setup::new(&Guest::new().log("context_create").wat(&text).build());
    setup.mock.take_log()
}

#[test]
fn a_reactor_is_initialized_and_then_its_main_runs() {
    let all = [
        ("_initialize", ""),
        ("main", "(param i32 i32) (result i32)"),
        ("__main_void", "(result i32)"),
        ("_start", ""),
    ];
    assert_eq!(start_log(&all), ["_initialize", "main", "context_create 1 0"]);
    assert_eq!(start_log(&[all[0], all[2], all[3]]), ["_initialize", "__main_void", "context_create 1 0"]);
    assert_eq!(start_log(&[all[0], all[3]]), ["_initialize", "context_create 1 0"]);
}

#[test]
fn a_command_is_started_and_its_main_left_to_it() {
    let all = [("_start", ""), ("main", "(param i32 i32) (result i32)"), ("__main_void", "(result i32)")];
    assert_eq!(start_log(&all), ["_start", "context_create 1 0"]);
}

#[test]
fn no_entry_function_is_needed() {
    assert_eq!(start_log(&[]), ["context_create 1 0"]);
    assert_eq!(start_log(&[("main", "(param i32 i32) (result i32)")]), ["context_create 1 0"]);
}

#[test]
fn main_gets_no_arguments() {
    let text = r#"(func (export "_initialize"))
        (func (export "main") (param i32 i32) (result i32)
          (if (i32.or (local.get 0) (local.get 1)) (then (unreachable))) (i32.const 0))"#;
    Setup::new(&guest(text));
}

#[test]
fn a_trap_in_an_entry_function_refuses_the_plugin() {
    for name in ["_initialize", "_start"] {
        let text = format!(r#"(func $broken_entry (export "{name}") (unreachable))"#);
        let error = Setup::try_chain(&[(&guest(&text), config())]).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::GuestTrap);
        assert!(error.to_string().contains("broken_entry"), "{error}");
    }
}

#[test]
fn the_start_section_runs_under_the_same_restrictions() {
    let text = r#"(func $early (drop (call $proxy_done))) (start $early)"#;
    let error = Setup::try_chain(&[(&guest(text), config())]).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::GuestTrap);
    assert!(error.to_string().contains("proxy_done"), "{error}");
}

#[test]
fn while_the_module_starts_hostcalls_that_need_a_plugin_trap() {
    let calls = [
        ("proxy_done", 0),
        ("proxy_set_tick_period_milliseconds", 1),
        ("proxy_set_effective_context", 1),
        ("proxy_get_property", 4),
        ("proxy_set_property", 4),
        ("proxy_get_buffer_bytes", 5),
        ("proxy_get_header_map_pairs", 3),
        ("proxy_add_header_map_value", 5),
        ("proxy_continue_stream", 1),
        ("proxy_close_stream", 1),
        ("proxy_send_local_response", 8),
        ("proxy_http_call", 10),
        ("proxy_grpc_call", 12),
        ("proxy_get_shared_data", 5),
        ("proxy_register_shared_queue", 3),
        ("proxy_define_metric", 4),
        ("proxy_call_foreign_function", 6),
        ("proxy_get_status", 3),
    ];
    for (name, params) in calls {
        let zeros = "(i32.const 0)".repeat(params);
        let text = format!(r#"(func (export "_start") (drop (call ${name} {zeros})))"#);
        let error = Setup::try_chain(&[(&guest(&text), config())]).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::GuestTrap, "{name}: {error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn while_the_module_starts_it_may_log_print_and_ask_the_time() {
    let text = r#"
        (data (i32.const 1024) "logged" "printed\n" "\06\04\00\00\08\00\00\00")
        (func (export "_initialize")
          (call $say (i32.const 1024) (i32.const 6))
          (drop (call $proxy_get_current_time_nanoseconds (i32.const 32))))"#;
    let print = r#"(import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))"#;
    let setup = Setup::new(&guest(text));
    assert_eq!(setup.mock.take_log(), ["logged"]);
    for wasi in ["wasi_snapshot_preview1", "wasi_unstable"] {
        let module = bare(&format!(
            r#"{} {NEEDED} {MARKER} (data (i32.const 16) "printed\n" "\10\00\00\00\08\00\00\00")
            (func (export "_start")
              (drop (call $fd_write (i32.const 1) (i32.const 24) (i32.const 1) (i32.const 4))))"#,
            print.replace("wasi_snapshot_preview1", wasi)
        ));
        assert_eq!(Setup::new(&module).mock.take_log(), ["printed"]);
    }
}

// Exports with another type

#[test]
fn every_callback_with_a_wrong_type_is_refused_by_name() {
    let others = [
        ("_initialize", 0, false),
        ("_start", 0, false),
        ("main", 2, true),
        ("__main_void", 0, true),
        ("malloc", 1, true),
        ("proxy_on_memory_allocate", 1, true),
    ];
    let callbacks =
        CALLBACKS.iter().map(|(name, params, result)| (format!("proxy_on_{name}"), *params, result.is_some()));
    let all = callbacks.chain(others.map(|(name, params, result)| (name.to_owned(), params, result)));
    let engine = engine();
    for (name, params, result) in all {
        // One parameter too many, no result where there is one or the other way round, and another type.
        let needed = if ["malloc", "memory"].contains(&&*name) { r#"(memory (export "memory") 1)"# } else { NEEDED };
        let signatures = [
            (" i32".repeat(params + 1), result, "i32"),
            (" i32".repeat(params), !result, "i32"),
            (" i64".repeat(params.max(1)), result, "i32"),
        ];
        for (params, result, ty) in signatures {
            let result = if result { format!("(result {ty})") } else { String::new() };
            let text = format!(r#"{needed} {MARKER} (func (export "{name}") (param{params}) {result} (unreachable))"#);
            let Err(error) = Module::compile(&engine, &bare(&text)) else { panic!("{name} passes as {text}") };
            assert_eq!(error.kind(), ErrorKind::MissingExport, "{error}");
            assert!(error.to_string().contains(&name), "{error}");
        }
        let text = format!(r#"{needed} {MARKER} (global (export "{name}") i32 (i32.const 0))"#);
        let Err(error) = Module::compile(&engine, &bare(&text)) else { panic!("{name} passes as a global") };
        assert!(error.to_string().contains(&name), "{error}");
    }
}

#[test]
fn header_callbacks_have_two_parameters_in_0_1_0_and_three_later() {
    for name in ["proxy_on_request_headers", "proxy_on_response_headers"] {
        let module = |version: &str, params: usize| {
            let params = " i32".repeat(params);
            bare(&format!(
                r#"{NEEDED} (func (export "proxy_abi_version_{version}"))
                (func (export "{name}") (param{params}) (result i32) (i32.const 0))"#
            ))
        };
        for (version, right) in [("0_1_0", 2), ("0_2_0", 3), ("0_2_1", 3)] {
            assert!(compile(&module(version, right)).is_ok(), "{version} {name}");
            assert_refused(&module(version, 5 - right), ErrorKind::MissingExport, &[name]);
        }
    }
}

// Imports

#[test]
fn an_import_that_no_host_offers_is_named() {
    let cases = [
        ("env", "foo"),
        ("env", "_proxy_log"),
        ("wasi_snapshot_preview1", "fd_frobnicate"),
        ("wasi_snapshot_preview2", "fd_write"),
        ("proxy", "proxy_log"),
    ];
    for (module, name) in cases {
        let text = format!(r#"(import "{module}" "{name}" (func)) {NEEDED} {MARKER}"#);
        assert_refused(&bare(&text), ErrorKind::DeniedImport, &[&format!("{module}.{name}")]);
    }
}

#[test]
fn an_import_of_another_type_is_refused() {
    let text = format!(r#"(import "env" "proxy_log" (func (param i32 i32) (result i32))) {NEEDED} {MARKER}"#);
    assert_refused(&bare(&text), ErrorKind::DeniedImport, &["proxy_log"]);
    let text = format!(r#"(import "env" "proxy_done" (func)) {NEEDED} {MARKER}"#);
    assert_refused(&bare(&text), ErrorKind::DeniedImport, &["proxy_done"]);
}

#[test]
fn an_import_that_is_no_function_is_refused() {
    let imports = [
        r#"(import "env" "table" (table 1 funcref))"#,
        r#"(import "env" "proxy_log" (global i32))"#,
        r#"(import "env" "shared" (memory 1))"#,
    ];
    for (import, name) in imports.into_iter().zip(["table", "proxy_log", "shared"]) {
        // Only one memory is allowed where the feature is off, so the module has none of its own there.
        let own = if name == "shared" { "" } else { NEEDED };
        let (kind, text) = refused(&bare(&format!("{import} {own} {MARKER}")));
        assert!(matches!(kind, ErrorKind::DeniedImport | ErrorKind::MissingExport), "{text}");
        assert!(kind == ErrorKind::MissingExport || text.contains(name), "{text}");
    }
}

/// Keeps the diagnostics of the library.
#[derive(Default)]
struct Sink(Mutex<Vec<(LogLevel, String)>>);

impl LogSink for Sink {
    fn log(&self, level: LogLevel, message: &str) {
        self.0.lock().unwrap().push((level, message.to_owned()));
    }
}

#[test]
fn an_unknown_hostcall_is_stubbed_warned_of_and_answers_unimplemented() {
    let text = format!(
        r#"(import "env" "proxy_redis_init" (func $redis (param i32 i64 f32) (result i32)))
        (import "env" "proxy_nothing" (func $nothing))
        {NEEDED} {MARKER}
        (func (export "proxy_on_vm_start") (param i32 i32) (result i32)
          (call $nothing)
          (i32.eq (call $redis (i32.const 1) (i64.const 2) (f32.const 3)) (i32.const 12)))"#
    );
    let sink = Arc::new(Sink::default());
    let engine = Engine::new(EngineConfig::new().log(LogLevel::Warn, sink.clone())).unwrap();
    let module = Module::compile(&engine, &bare(&text)).unwrap();
    let log = sink.0.lock().unwrap().clone();
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(log[0].0 == LogLevel::Warn && log[0].1.contains("proxy_redis_init"), "{log:?}");
    let worker = Worker::new(&engine, Box::new(MockHost(Mock::default()))).unwrap();
    // vm_start is true only for status 12.
    worker.add_plugin(&Plugin::new(&module, config()).unwrap()).unwrap();
}

#[test]
fn every_version_may_import_the_hostcalls_of_all() {
    // The prelude imports them all.
    for version in ["0_1_0", "0_2_0", "0_2_1"] {
        Setup::new(&guest_of(version, ""));
    }
}

#[test]
fn old_emscripten_builds_find_their_two_functions() {
    let text = format!(
        r#"(import "env" "pthread_equal" (func $equal (param i32 i32) (result i32)))
        (import "env" "emscripten_notify_memory_growth" (func $grown (param i32)))
        {NEEDED} {MARKER}
        (func (export "_initialize") (call $grown (i32.const 0)))
        (func (export "proxy_on_vm_start") (param i32 i32) (result i32)
          (i32.gt_u (call $equal (i32.const 3) (i32.const 3)) (call $equal (i32.const 3) (i32.const 4))))"#
    );
    Setup::new(&bare(&text));
}

// Configuration of the VM

#[test]
fn environment_variables_that_cannot_be_are_refused() {
    let module = compile(&guest("")).unwrap();
    let plugin = |name: &str, value: &str| {
        let environment = vec![("GOOD".into(), "1".into()), (name.into(), value.into())];
        Plugin::new(&module, config_with(|config| config.environment = environment))
    };
    for (name, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0y")] {
        let error = plugin(name, value).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{name:?}={value:?}");
        assert!(error.to_string().contains("environment variable"), "{error}");
    }
    for (name, value) in [("A", ""), ("A", "b=c"), ("lower.case", "ü\n")] {
        assert!(plugin(name, value).is_ok(), "{name:?}={value:?}");
    }
}

#[test]
fn a_denied_callback_is_treated_as_absent_and_a_denied_hostcall_answers_internal_failure() {
    let wasm = Guest::new()
        .on("request_headers", "(call $status (call $proxy_done)) (i32.const 1)")
        .gives("request_body", 1)
        .build();
    let setup = Setup::with(
        &wasm,
        config_with(|config| {
            for name in ["proxy_log", "proxy_on_request_headers", "proxy_on_context_create"] {
                config.capabilities.allow(name);
            }
            config.allow_on_headers_stop_iteration = true;
        }),
    );
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 0, false).unwrap();
    // The body callback, which would pause, is not there: what it would have let go on goes on.
    let outcome = stream.on_body(Direction::Request, &chunk("x"), true).unwrap();
    assert_eq!(setup.mock.take_log(), ["request_headers 2 0 0", "status=10"]);
    assert!(outcome.end_of_stream && outcome.headers, "{outcome:?}");
}

#[test]
fn a_trial_start_finds_what_a_real_one_would() {
    let validated = |wasm: &[u8]| {
        let engine = engine();
        let plugin = Plugin::new(&Module::compile(&engine, wasm).unwrap(), config()).unwrap();
        validate(&plugin, Box::new(MockHost(Mock::default())))
    };
    assert!(validated(&guest("")).is_ok());
    let rejects = Guest::new().gives("configure", 0).build();
    assert_eq!(validated(&rejects).unwrap_err().kind(), ErrorKind::GuestRejected);
    let traps = Guest::new().on("vm_start", "(unreachable)").build();
    assert_eq!(validated(&traps).unwrap_err().kind(), ErrorKind::GuestTrap);
}

#[test]
fn a_digest_names_the_bytes_of_a_module() {
    let (one, two) = (compile(&guest("")).unwrap(), compile(&guest_of("0_2_0", "")).unwrap());
    assert_ne!(one.digest(), two.digest());
    assert_eq!(one.digest(), compile(&guest("")).unwrap().digest());
}
