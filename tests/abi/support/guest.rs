// SPDX-License-Identifier: Apache-2.0
//! Guests in WebAssembly text: a prelude with every hostcall imported and an allocator, to which a test adds its callbacks.

/// Every callback: name without `proxy_on_`, number of parameters, result unless a test says otherwise.
pub const CALLBACKS: &[(&str, usize, Option<u32>)] = &[
    ("context_create", 2, None),
    ("vm_start", 2, Some(1)),
    ("configure", 2, Some(1)),
    ("tick", 1, None),
    ("queue_ready", 2, None),
    ("new_connection", 1, Some(0)),
    ("downstream_data", 3, Some(0)),
    ("upstream_data", 3, Some(0)),
    ("downstream_connection_close", 2, None),
    ("upstream_connection_close", 2, None),
    ("request_headers", 3, Some(0)),
    ("response_headers", 3, Some(0)),
    ("request_body", 3, Some(0)),
    ("response_body", 3, Some(0)),
    ("request_trailers", 2, Some(0)),
    ("response_trailers", 2, Some(0)),
    ("request_metadata", 2, Some(0)),
    ("response_metadata", 2, Some(0)),
    ("http_call_response", 5, None),
    ("grpc_receive_initial_metadata", 3, None),
    ("grpc_receive", 3, None),
    ("grpc_receive_trailing_metadata", 3, None),
    ("grpc_close", 3, None),
    ("foreign_function", 3, None),
    ("done", 1, Some(1)),
    ("log", 1, None),
    ("delete", 1, None),
];

/// Imports of the prelude: name and type.
const IMPORTS: &[(&str, &str)] = &[
    ("proxy_log", "(param i32 i32 i32) (result i32)"),
    ("proxy_get_log_level", "(param i32) (result i32)"),
    ("proxy_get_current_time_nanoseconds", "(param i32) (result i32)"),
    ("proxy_set_tick_period_milliseconds", "(param i32) (result i32)"),
    ("proxy_set_effective_context", "(param i32) (result i32)"),
    ("proxy_done", "(result i32)"),
    ("proxy_get_property", "(param i32 i32 i32 i32) (result i32)"),
    ("proxy_set_property", "(param i32 i32 i32 i32) (result i32)"),
    ("proxy_get_configuration", "(param i32 i32) (result i32)"),
    ("proxy_get_buffer_bytes", "(param i32 i32 i32 i32 i32) (result i32)"),
    ("proxy_get_buffer_status", "(param i32 i32 i32) (result i32)"),
    ("proxy_set_buffer_bytes", "(param i32 i32 i32 i32 i32) (result i32)"),
    ("proxy_get_header_map_pairs", "(param i32 i32 i32) (result i32)"),
    ("proxy_set_header_map_pairs", "(param i32 i32 i32) (result i32)"),
    ("proxy_get_header_map_value", "(param i32 i32 i32 i32 i32) (result i32)"),
    ("proxy_add_header_map_value", "(param i32 i32 i32 i32 i32) (result i32)"),
    ("proxy_replace_header_map_value", "(param i32 i32 i32 i32 i32) (result i32)"),
    ("proxy_remove_header_map_value", "(param i32 i32 i32) (result i32)"),
    ("proxy_get_header_map_size", "(param i32 i32) (result i32)"),
    ("proxy_continue_stream", "(param i32) (result i32)"),
    ("proxy_continue_request", "(result i32)"),
    ("proxy_continue_response", "(result i32)"),
    ("proxy_close_stream", "(param i32) (result i32)"),
    ("proxy_clear_route_cache", "(result i32)"),
    ("proxy_send_local_response", "(param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)"),
    ("proxy_http_call", "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)"),
    ("proxy_grpc_call", "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)"),
    ("proxy_grpc_stream", "(param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)"),
    ("proxy_grpc_send", "(param i32 i32 i32 i32) (result i32)"),
    ("proxy_grpc_cancel", "(param i32) (result i32)"),
    ("proxy_grpc_close", "(param i32) (result i32)"),
    ("proxy_get_status", "(param i32 i32 i32) (result i32)"),
    ("proxy_get_shared_data", "(param i32 i32 i32 i32 i32) (result i32)"),
    ("proxy_set_shared_data", "(param i32 i32 i32 i32 i32) (result i32)"),
    ("proxy_register_shared_queue", "(param i32 i32 i32) (result i32)"),
    ("proxy_resolve_shared_queue", "(param i32 i32 i32 i32 i32) (result i32)"),
    ("proxy_dequeue_shared_queue", "(param i32 i32 i32) (result i32)"),
    ("proxy_enqueue_shared_queue", "(param i32 i32 i32) (result i32)"),
    ("proxy_define_metric", "(param i32 i32 i32 i32) (result i32)"),
    ("proxy_increment_metric", "(param i32 i64) (result i32)"),
    ("proxy_record_metric", "(param i32 i64) (result i32)"),
    ("proxy_get_metric", "(param i32 i32) (result i32)"),
    ("proxy_call_foreign_function", "(param i32 i32 i32 i32 i32 i32) (result i32)"),
];

/// What every guest has besides its callbacks.
///
/// Memory: 0 to 63 out parameters (`$out` 16, `$out_len` 20, `$out_cas` 24), 64 to 1023 scratch of the prelude, 1024 to 16383 the
/// test's data, from 65536 on what is allocated. `$say` logs bytes at level info; `$number` logs a label of up to 32 bytes at an
/// address and a decimal number as `label=number`; `$value` logs what `$out` and `$out_len` point to.
const HELPERS: &str = r#"
  (memory (export "memory") 4)
  (global $heap (mut i32) (i32.const 65536))
  (global $out i32 (i32.const 16))
  (global $out_len i32 (i32.const 20))
  (global $out_cas i32 (i32.const 24))
  (func $malloc (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (global.get $heap)
    (global.set $heap (i32.and (i32.add (i32.add (global.get $heap) (local.get $size)) (i32.const 15)) (i32.const -16))))
  (func $say (param $at i32) (param $len i32)
    (drop (call $proxy_log (i32.const 2) (local.get $at) (local.get $len))))
  (func $value (call $say (i32.load (global.get $out)) (i32.load (global.get $out_len))))
  (func $number (param $label i32) (param $len i32) (param $n i64)
    (local $at i32) (local $end i32)
    (memory.copy (i32.const 64) (local.get $label) (local.get $len))
    (i32.store8 (i32.add (i32.const 64) (local.get $len)) (i32.const 61))
    (local.set $at (i32.const 200))
    (loop $digits
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at) (i32.wrap_i64 (i64.add (i64.const 48) (i64.rem_u (local.get $n) (i64.const 10)))))
      (local.set $n (i64.div_u (local.get $n) (i64.const 10)))
      (br_if $digits (i64.ne (local.get $n) (i64.const 0))))
    (local.set $end (i32.add (i32.const 65) (local.get $len)))
    (memory.copy (local.get $end) (local.get $at) (i32.sub (i32.const 200) (local.get $at)))
    (call $say (i32.const 64) (i32.sub (i32.add (local.get $end) (i32.sub (i32.const 200) (local.get $at))) (i32.const 64))))
  (data (i32.const 1000) "status")
  (func $status (param $status i32) (call $number (i32.const 1000) (i32.const 6) (i64.extend_i32_u (local.get $status))))
  (func (export "proxy_on_context_create") (param i32 i32))
"#;

/// A guest of ABI 0.2.1. `body` is WebAssembly text: exported callbacks, data from 1024 on. `proxy_on_context_create` is there.
pub fn guest(body: &str) -> Vec<u8> {
    guest_of("0_2_1", body)
}

/// A guest of a version, such as `0_1_0`.
pub fn guest_of(version: &str, body: &str) -> Vec<u8> {
    guest_with(version, "", body)
}

/// The same, with more imports.
pub fn guest_with(version: &str, more: &str, body: &str) -> Vec<u8> {
    let imports: String =
        IMPORTS.iter().map(|(name, ty)| format!("(import \"env\" \"{name}\" (func ${name} {ty}))\n")).collect();
    let helpers = if body.contains("\"proxy_on_context_create\"") {
        HELPERS.replace("(func (export \"proxy_on_context_create\") (param i32 i32))", "")
    } else {
        HELPERS.to_owned()
    };
    let text = format!("(module {imports} {more} {helpers} (func (export \"proxy_abi_version_{version}\")) {body})");
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}
