// SPDX-License-Identifier: Apache-2.0
//! Which functions a module may import: those of every version, unknown ones, and those that its capabilities deny.

use crate::support::*;
use proxywasm::*;

/// The hostcalls with the types of their parameters, `l` for 64 bits. All give a status.
const HOSTCALLS: &[(&str, &str)] = &[
    ("proxy_log", "iii"),
    ("proxy_get_log_level", "i"),
    ("proxy_get_current_time_nanoseconds", "i"),
    ("proxy_set_tick_period_milliseconds", "i"),
    ("proxy_get_configuration", "ii"),
    ("proxy_get_property", "iiii"),
    ("proxy_set_property", "iiii"),
    ("proxy_get_buffer_bytes", "iiiii"),
    ("proxy_get_buffer_status", "iii"),
    ("proxy_set_buffer_bytes", "iiiii"),
    ("proxy_get_header_map_pairs", "iii"),
    ("proxy_set_header_map_pairs", "iii"),
    ("proxy_get_header_map_value", "iiiii"),
    ("proxy_add_header_map_value", "iiiii"),
    ("proxy_replace_header_map_value", "iiiii"),
    ("proxy_remove_header_map_value", "iii"),
    ("proxy_get_header_map_size", "ii"),
    ("proxy_continue_request", ""),
    ("proxy_continue_response", ""),
    ("proxy_clear_route_cache", ""),
    ("proxy_continue_stream", "i"),
    ("proxy_close_stream", "i"),
    ("proxy_send_local_response", "iiiiiiii"),
    ("proxy_http_call", "iiiiiiiiii"),
    ("proxy_grpc_call", "iiiiiiiiiiii"),
    ("proxy_grpc_stream", "iiiiiiiii"),
    ("proxy_grpc_send", "iiii"),
    ("proxy_grpc_cancel", "i"),
    ("proxy_grpc_close", "i"),
    ("proxy_get_status", "iii"),
    ("proxy_get_shared_data", "iiiii"),
    ("proxy_set_shared_data", "iiiii"),
    ("proxy_register_shared_queue", "iii"),
    ("proxy_resolve_shared_queue", "iiiii"),
    ("proxy_dequeue_shared_queue", "iii"),
    ("proxy_enqueue_shared_queue", "iii"),
    ("proxy_define_metric", "iiii"),
    ("proxy_increment_metric", "il"),
    ("proxy_record_metric", "il"),
    ("proxy_get_metric", "ii"),
    ("proxy_set_effective_context", "i"),
    ("proxy_done", ""),
    ("proxy_call_foreign_function", "iiiiii"),
];

fn wasm_type(letter: char) -> &'static str {
    if letter == 'l' {
        "i64 "
    } else {
        "i32 "
    }
}

/// A guest that imports exactly these functions besides `proxy_log`, calls each with zeros while it is configured, and logs what
/// it got as `name=status`, or `name=?` for those that give nothing.
pub fn caller(version: &str, imports: &[(&str, &str, &str)]) -> Vec<u8> {
    let (mut head, mut body, mut data) = (String::new(), String::new(), String::new());
    for (index, (module, name, params)) in imports.iter().enumerate() {
        let types: String = params.chars().map(wasm_type).collect();
        head += &format!("(import \"{module}\" \"{name}\" (func $f{index} (param {types}) (result i32)))\n");
        let zeros: String = params.chars().map(|letter| format!("({}.const 0)", wasm_type(letter).trim())).collect();
        let at = 1024 + 64 * index;
        data += &format!("(data (i32.const {at}) \"{name}\")\n");
        body += &format!("(call $say_number (i32.const {at}) (i32.const {}) (call $f{index} {zeros}))\n", name.len());
    }
    let text = format!(
        r#"(module (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
        {head}
        (memory (export "memory") 2) {data}
        (func (export "malloc") (param i32) (result i32) (i32.const 65536))
        (func (export "proxy_abi_version_{version}"))
        ;; Two digits are enough.
        (func $say_number (param $at i32) (param $len i32) (param $n i32)
          (memory.copy (i32.const 256) (local.get $at) (local.get $len))
          (i32.store8 (i32.add (i32.const 256) (local.get $len)) (i32.const 61))
          (i32.store8 (i32.add (i32.const 257) (local.get $len))
            (i32.add (i32.const 48) (i32.div_u (local.get $n) (i32.const 10))))
          (i32.store8 (i32.add (i32.const 258) (local.get $len))
            (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))))
          (drop (call $log (i32.const 2) (i32.const 256) (i32.add (local.get $len) (i32.const 3)))))
        (func (export "proxy_on_configure") (param i32 i32) (result i32) {body} (i32.const 1)))"#
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn all_hostcalls() -> Vec<(&'static str, &'static str, &'static str)> {
    HOSTCALLS.iter().filter(|(name, _)| *name != "proxy_log").map(|(name, params)| ("env", *name, *params)).collect()
}

#[test]
fn every_hostcall_of_every_version_is_offered_to_modules_of_every_version() {
    for version in ["0_1_0", "0_2_0", "0_2_1"] {
        let log = Setup::new(&caller(version, &all_hostcalls())).mock.take_log();
        assert_eq!(log.len(), HOSTCALLS.len() - 1);
        for line in &log {
            let (_, status) = line.split_once('=').unwrap();
            assert!(status != "12" || line.starts_with("proxy_continue_stream"), "{line}");
        }
    }
}

#[test]
fn a_hostcall_of_zeros_answers_as_the_abi_says() {
    let log = Setup::new(&caller("0_2_1", &all_hostcalls())).mock.take_log();
    let of = |name: &str| log.iter().find_map(|line| line.strip_prefix(&format!("{name}="))).unwrap().to_owned();
    // All pointers are to address 0, which is inside memory, and all strings are empty.
    let expected = [
        ("proxy_get_property", "03"),
        ("proxy_set_property", "01"),
        ("proxy_get_buffer_bytes", "01"),
        ("proxy_get_header_map_pairs", "00"),
        ("proxy_get_header_map_value", "02"),
        ("proxy_continue_stream", "00"),
        ("proxy_send_local_response", "00"),
        ("proxy_http_call", "02"),
        ("proxy_grpc_send", "02"),
        ("proxy_get_shared_data", "01"),
        ("proxy_dequeue_shared_queue", "01"),
        ("proxy_define_metric", "00"),
        ("proxy_increment_metric", "01"),
        ("proxy_set_effective_context", "00"),
        ("proxy_done", "01"),
        ("proxy_call_foreign_function", "01"),
    ];
    for (name, status) in expected {
        assert_eq!(of(name), status, "{name}");
    }
}

#[test]
fn a_hostcall_that_no_version_has_answers_unimplemented() {
    let imports = [("env", "proxy_redis_init", "iiiiiii"), ("env", "proxy_of_tomorrow", "l"), ("env", "proxy_", "")];
    let log = Setup::new(&caller("0_2_1", &imports)).mock.take_log();
    assert_eq!(log, ["proxy_redis_init=12", "proxy_of_tomorrow=12", "proxy_=12"]);
}

#[test]
fn a_hostcall_that_is_not_there_may_give_64_bits_or_nothing() {
    let script = script_of(
        "0_2_1",
        &[("env", "proxy_wide", "(param i32) (result i64)"), ("env", "proxy_void", "(param i64)")],
        &[],
    );
    Setup::new(&script.wasm);
}

#[test]
fn old_emscripten_imports_are_offered() {
    let wasm = guest_with(
        "0_2_1",
        r#"(import "env" "pthread_equal" (func $equal (param i32 i32) (result i32)))
           (import "env" "emscripten_notify_memory_growth" (func $grown (param i32)))"#,
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (call $grown (i32.const 0))
             (call $status (call $equal (i32.const 5) (i32.const 5)))
             (call $status (call $equal (i32.const 5) (i32.const 6)))
             (i32.const 1))"#,
    );
    assert_eq!(Setup::new(&wasm).mock.take_log(), ["status=1", "status=0"]);
}

/// A configuration that allows these and no more.
fn only(names: &[&str]) -> PluginConfig {
    config_with(|config| names.iter().for_each(|name| config.capabilities.allow(name)))
}

#[test]
fn a_hostcall_that_is_denied_answers_internal_failure() {
    let wasm = caller("0_2_1", &all_hostcalls());
    let setup = Setup::with(&wasm, only(&["proxy_log", "proxy_on_configure", "proxy_get_log_level"]));
    let log = setup.mock.take_log();
    for ((_, name, _), line) in all_hostcalls().iter().zip(&log) {
        let status = if *name == "proxy_get_log_level" { "00" } else { "10" };
        assert_eq!(*line, format!("{name}={status}"));
    }
    assert_eq!(log.len(), HOSTCALLS.len() - 1);
}

#[test]
fn a_denied_log_is_silent() {
    let wasm = caller("0_2_1", &[("env", "proxy_done", "")]);
    assert_eq!(Setup::with(&wasm, only(&["proxy_on_configure"])).mock.take_log(), [""; 0]);
}

#[test]
fn a_wasi_function_that_is_denied_answers_not_capable() {
    for module in ["wasi_snapshot_preview1", "wasi_unstable"] {
        let wasm = caller("0_2_1", &[(module, "sched_yield", ""), (module, "clock_time_get", "ili")]);
        let setup = Setup::with(&wasm, only(&["proxy_log", "proxy_on_configure", "sched_yield"]));
        assert_eq!(setup.mock.take_log(), ["sched_yield=00", "clock_time_get=76"]);
    }
}

#[test]
fn a_denied_proc_exit_returns() {
    let wasm = guest_with(
        "0_2_1",
        r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#,
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (call $exit (i32.const 1)) (call $status (i32.const 0)) (i32.const 1))"#,
    );
    let setup = Setup::with(&wasm, only(&["proxy_log", "proxy_on_configure"]));
    assert_eq!(setup.mock.take_log(), ["status=0"]);
}

#[test]
fn a_callback_that_is_denied_counts_as_absent() {
    let script = script(&[
        ("context_create", "trap"),
        ("vm_start", "return 0"),
        ("configure", "return 0"),
        ("request_headers", "say $0 => 2\n return 0"),
        ("request_body", "trap"),
        ("log", "trap"),
        ("done", "trap"),
        ("delete", "trap"),
    ]);
    let setup = Setup::with(&script.wasm, only(&["proxy_log", "proxy_on_request_headers"]));
    let stream = setup.http(1);
    stream.on_headers(Direction::Request, 1, false).unwrap();
    let outcome = stream.on_body(Direction::Request, &chunk("body"), true).unwrap();
    assert_eq!((outcome.action, forwarded(&stream, Direction::Request)), (Action::Continue, "body".into()));
    stream.log().unwrap();
    stream.finish().unwrap();
    script.check(&setup.mock, &["request_headers"]);
    assert_eq!(setup.worker.stats().vms_failed, 0);
}

#[test]
fn nothing_allowed_means_everything_is() {
    let log = Setup::with(&caller("0_2_1", &[("env", "proxy_get_log_level", "i")]), only(&[])).mock.take_log();
    assert_eq!(log, ["proxy_get_log_level=00"]);
}

#[test]
fn an_unknown_hostcall_answers_unimplemented_also_where_capabilities_are_restricted() {
    let wasm = caller("0_2_1", &[("env", "proxy_of_tomorrow", "l")]);
    let setup = Setup::with(&wasm, only(&["proxy_log", "proxy_on_configure"]));
    assert_eq!(setup.mock.take_log(), ["proxy_of_tomorrow=12"]);
}

/// A guest that calls one hostcall with zeros in a function, which is exported under a name.
fn calls_in(export: &str, result: &str, hostcall: &str) -> Vec<u8> {
    let (_, params) = HOSTCALLS.iter().find(|(name, _)| *name == hostcall).unwrap();
    let types: String = params.chars().map(wasm_type).collect();
    let zeros: String = params.chars().map(|letter| format!("({}.const 0)", wasm_type(letter).trim())).collect();
    let text = format!(
        r#"(module (import "env" "{hostcall}" (func $f (param {types}) (result i32)))
        (import "env" "proxy_get_buffer_bytes" (func $read (param i32 i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 2)
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "{export}") {result} (drop (call $f {zeros})) {value})
        (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 65536))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (drop (call $read (i32.const 7) (i32.const 0) (i32.const 9) (i32.const 16) (i32.const 20))) (i32.const 1)))"#,
        value = if result.is_empty() { "" } else { "(i32.const 65536)" },
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Whether a guest starts whose entry, or whose allocator, makes a hostcall.
fn starts(export: &str, result: &str, hostcall: &str) -> bool {
    let config = config_with(|config| config.configuration = b"configured".to_vec());
    match Setup::try_chain(&[(&calls_in(export, result, hostcall), config)]) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::GuestTrap);
            assert!(error.to_string().contains(hostcall), "{error}");
            false
        }
    }
}

#[test]
fn while_the_module_starts_only_log_level_and_time_can_be_asked() {
    for (hostcall, _) in HOSTCALLS {
        let allowed = ["proxy_log", "proxy_get_log_level", "proxy_get_current_time_nanoseconds"].contains(hostcall);
        assert_eq!(starts("_initialize", "", hostcall), allowed, "{hostcall}");
    }
}

#[test]
fn while_the_guest_allocates_only_the_log_can_be_called() {
    for (hostcall, _) in HOSTCALLS {
        let allowed = *hostcall == "proxy_log";
        assert_eq!(starts("malloc", "(param i32) (result i32)", hostcall), allowed, "{hostcall}");
    }
}
