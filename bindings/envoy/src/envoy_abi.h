// SPDX-License-Identifier: Apache-2.0
// The part of Envoy's dynamic module ABI ("v0.2.0", Envoy 1.38 to 1.40) that the module uses: what it calls. The hooks, which
// Envoy calls, are in module.cc. check-symbols.sh compares the names with those that an Envoy exports.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

// Null in an Envoy that does not have it yet, so that the module loads there, too.
#define SINCE_1_39 [[gnu::weak]]
#define SINCE_1_40 [[gnu::weak]]

namespace proxywasm_envoy::abi {

// What envoy_dynamic_module_on_program_init answers.
constexpr const char *version = "v0.2.0";

// Bytes of either side. Those of Envoy live until the end of the hook or the next change of what they are part of.
struct buffer {
  const char *ptr;
  std::size_t length;
};

struct header {
  const char *key_ptr;
  std::size_t key_length;
  const char *value_ptr;
  std::size_t value_length;
};

inline buffer to_buffer(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view view(const buffer &bytes) { return {bytes.ptr, bytes.length}; }
inline header to_header(std::string_view key, std::string_view value) {
  return {key.data(), key.size(), value.data(), value.size()};
}

enum class header_type : std::uint32_t { request_headers, request_trailers, response_headers, response_trailers };
enum class body_type : std::uint32_t { received_request, buffered_request, received_response, buffered_response };

enum class headers_status : std::uint32_t {
  proceed,
  stop_iteration,
  continue_and_dont_end_stream,
  stop_all_iteration_and_buffer,
  stop_all_iteration_and_watermark,
};
enum class body_status : std::uint32_t {
  proceed,
  stop_iteration_and_buffer,
  stop_iteration_and_watermark,
  stop_iteration_no_buffer,
};
enum class trailers_status : std::uint32_t { proceed, stop_iteration };
enum class local_reply_status : std::uint32_t { proceed, continue_and_reset_stream };
enum class reset_reason : std::uint32_t { local_reset, local_refused_stream_reset };

enum class data_status : std::uint32_t { proceed, stop_iteration };
enum class close_type : std::uint32_t { flush_write, no_flush, flush_write_and_delay, abort, abort_reset };
enum class connection_event : std::uint32_t { remote_close, local_close, connected, connected_zero_rtt };

enum class log_level : std::uint32_t { trace, debug, info, warn, error, critical, off };

enum class callout_init_result : std::uint32_t {
  success,
  missing_required_headers,
  cluster_not_found,
  duplicate_callout_id,
  cannot_create_request,
};
enum class stream_reset_reason : std::uint32_t {
  connection_failure,
  connection_termination,
  local_reset,
  local_refused_stream_reset,
  overflow,
  remote_reset,
  remote_refused_stream_reset,
  protocol_error,
};

enum class metrics_result : std::uint32_t { success, metric_not_found, invalid_labels, frozen };
enum class metadata_source : std::uint32_t { dynamic, route, cluster, host, host_locality };

// Numbers of attributes, as `get_attribute_*` takes them.
enum class attribute : std::uint32_t {
  request_path,
  request_url_path,
  request_host,
  request_scheme,
  request_method,
  request_headers,
  request_referer,
  request_useragent,
  request_time,
  request_id,
  request_protocol,
  request_query,
  request_duration,
  request_size,
  request_total_size,
  response_code,
  response_code_details,
  response_flags,
  response_grpc_status,
  response_headers,
  response_trailers,
  response_size,
  response_total_size,
  response_backend_latency,
  source_address,
  source_port,
  destination_address,
  destination_port,
  connection_id,
  connection_mtls,
  connection_requested_server_name,
  connection_tls_version,
  connection_subject_local_certificate,
  connection_subject_peer_certificate,
  connection_dns_san_local_certificate,
  connection_dns_san_peer_certificate,
  connection_uri_san_local_certificate,
  connection_uri_san_peer_certificate,
  connection_sha256_peer_certificate_digest,
  connection_transport_failure_reason,
  connection_termination_details,
  upstream_address,
  upstream_port,
  upstream_tls_version,
  upstream_subject_local_certificate,
  upstream_subject_peer_certificate,
  upstream_dns_san_local_certificate,
  upstream_dns_san_peer_certificate,
  upstream_uri_san_local_certificate,
  upstream_uri_san_peer_certificate,
  upstream_sha256_peer_certificate_digest,
  upstream_local_address,
  upstream_transport_failure_reason,
  upstream_request_attempt_count,
  upstream_cx_pool_ready_duration,
  upstream_locality,
  xds_node,
  xds_cluster_name,
  xds_cluster_metadata,
  xds_listener_direction,
  xds_listener_metadata,
  xds_route_name,
  xds_route_metadata,
  xds_virtual_host_name,
  xds_virtual_host_metadata,
  xds_upstream_host_metadata,
  xds_filter_chain_name,
  health_check,
};

extern "C" {

// ---- The process ----
void envoy_dynamic_module_callback_log(log_level level, buffer message);
bool envoy_dynamic_module_callback_log_enabled(log_level level);
std::uint32_t envoy_dynamic_module_callback_get_concurrency();
bool envoy_dynamic_module_callback_is_validation_mode();

// ---- Headers of a stream ----
bool envoy_dynamic_module_callback_http_get_header(void *filter, header_type type, buffer key, buffer *value,
                                                   std::size_t index, std::size_t *count);
std::size_t envoy_dynamic_module_callback_http_get_headers_size(void *filter, header_type type);
bool envoy_dynamic_module_callback_http_get_headers(void *filter, header_type type, header *headers);
bool envoy_dynamic_module_callback_http_add_header(void *filter, header_type type, buffer key, buffer value);
bool envoy_dynamic_module_callback_http_set_header(void *filter, header_type type, buffer key, buffer value);

// ---- Bodies ----
std::size_t envoy_dynamic_module_callback_http_get_body_size(void *filter, body_type type);
std::size_t envoy_dynamic_module_callback_http_get_body_chunks_size(void *filter, body_type type);
bool envoy_dynamic_module_callback_http_get_body_chunks(void *filter, body_type type, buffer *chunks);
bool envoy_dynamic_module_callback_http_append_body(void *filter, body_type type, buffer bytes);
bool envoy_dynamic_module_callback_http_drain_body(void *filter, body_type type, std::size_t length);
bool envoy_dynamic_module_callback_http_received_buffered_request_body(void *filter);
bool envoy_dynamic_module_callback_http_received_buffered_response_body(void *filter);

// ---- The course of a stream ----
void envoy_dynamic_module_callback_http_send_response(void *filter, std::uint32_t status, const header *headers,
                                                      std::size_t count, buffer body, buffer details);
void envoy_dynamic_module_callback_http_filter_continue_decoding(void *filter);
void envoy_dynamic_module_callback_http_filter_continue_encoding(void *filter);
void envoy_dynamic_module_callback_http_filter_reset_stream(void *filter, reset_reason reason, buffer details);
void envoy_dynamic_module_callback_http_clear_route_cache(void *filter);
std::uint32_t envoy_dynamic_module_callback_http_filter_get_worker_index(void *filter);
const void *envoy_dynamic_module_callback_get_most_specific_route_config(void *filter);

// ---- Events: `commit` from any thread, the rest on the stream's, or the main one ----
void *envoy_dynamic_module_callback_http_filter_scheduler_new(void *filter);
void envoy_dynamic_module_callback_http_filter_scheduler_commit(void *scheduler, std::uint64_t event);
void envoy_dynamic_module_callback_http_filter_scheduler_delete(void *scheduler);
void *envoy_dynamic_module_callback_http_filter_config_scheduler_new(void *config);
void envoy_dynamic_module_callback_http_filter_config_scheduler_commit(void *scheduler, std::uint64_t event);
void envoy_dynamic_module_callback_http_filter_config_scheduler_delete(void *scheduler);

// ---- Calls to clusters ----
callout_init_result envoy_dynamic_module_callback_http_filter_start_http_stream(void *filter, std::uint64_t *id,
                                                                                buffer cluster, const header *headers,
                                                                                std::size_t count, buffer body,
                                                                                bool end_of_stream,
                                                                                std::uint64_t timeout_ms);
bool envoy_dynamic_module_callback_http_stream_send_data(void *filter, std::uint64_t id, buffer bytes,
                                                         bool end_of_stream);
bool envoy_dynamic_module_callback_http_stream_send_trailers(void *filter, std::uint64_t id, const header *trailers,
                                                             std::size_t count);
void envoy_dynamic_module_callback_http_filter_reset_http_stream(void *filter, std::uint64_t id);
callout_init_result envoy_dynamic_module_callback_http_filter_config_start_http_stream(
    void *config, std::uint64_t *id, buffer cluster, const header *headers, std::size_t count, buffer body,
    bool end_of_stream, std::uint64_t timeout_ms);
bool envoy_dynamic_module_callback_http_filter_config_stream_send_data(void *config, std::uint64_t id, buffer bytes,
                                                                       bool end_of_stream);
bool envoy_dynamic_module_callback_http_filter_config_stream_send_trailers(void *config, std::uint64_t id,
                                                                           const header *trailers, std::size_t count);
void envoy_dynamic_module_callback_http_filter_config_reset_http_stream(void *config, std::uint64_t id);

// ---- Attributes, metadata, filter state ----
bool envoy_dynamic_module_callback_http_filter_get_attribute_string(void *filter, attribute id, buffer *value);
bool envoy_dynamic_module_callback_http_filter_get_attribute_int(void *filter, attribute id, std::uint64_t *value);
bool envoy_dynamic_module_callback_http_filter_get_attribute_bool(void *filter, attribute id, bool *value);
// Writes a struct that grows with versions: give it room for 64 numbers of 8 bytes. The first is the start, in ns since 1970.
SINCE_1_40 void envoy_dynamic_module_callback_http_get_timing_info(void *filter, void *info);
bool envoy_dynamic_module_callback_http_get_metadata_string(void *filter, metadata_source source, buffer space,
                                                            buffer key, buffer *value);
bool envoy_dynamic_module_callback_http_get_metadata_number(void *filter, metadata_source source, buffer space,
                                                            buffer key, double *value);
bool envoy_dynamic_module_callback_http_get_metadata_bool(void *filter, metadata_source source, buffer space,
                                                          buffer key, bool *value);
std::size_t envoy_dynamic_module_callback_http_get_metadata_keys_count(void *filter, metadata_source source,
                                                                       buffer space);
bool envoy_dynamic_module_callback_http_get_metadata_keys(void *filter, metadata_source source, buffer space,
                                                          buffer *keys);
bool envoy_dynamic_module_callback_http_get_metadata_list_size(void *filter, metadata_source source, buffer space,
                                                               buffer key, std::size_t *size);
bool envoy_dynamic_module_callback_http_get_metadata_list_string(void *filter, metadata_source source, buffer space,
                                                                 buffer key, std::size_t index, buffer *value);
bool envoy_dynamic_module_callback_http_get_metadata_list_number(void *filter, metadata_source source, buffer space,
                                                                 buffer key, std::size_t index, double *value);
bool envoy_dynamic_module_callback_http_get_metadata_list_bool(void *filter, metadata_source source, buffer space,
                                                               buffer key, std::size_t index, bool *value);
bool envoy_dynamic_module_callback_http_set_filter_state_bytes(void *filter, buffer key, buffer value);
bool envoy_dynamic_module_callback_http_get_filter_state_bytes(void *filter, buffer key, buffer *value);
bool envoy_dynamic_module_callback_http_set_filter_state_typed(void *filter, buffer key, buffer value);
bool envoy_dynamic_module_callback_http_get_filter_state_typed(void *filter, buffer key, buffer *value);

// ---- Metrics: definitions in config_new only ----
metrics_result envoy_dynamic_module_callback_http_filter_config_define_counter(void *config, buffer name,
                                                                               const buffer *labels, std::size_t count,
                                                                               std::size_t *id);
metrics_result envoy_dynamic_module_callback_http_filter_config_define_gauge(void *config, buffer name,
                                                                             const buffer *labels, std::size_t count,
                                                                             std::size_t *id);
metrics_result envoy_dynamic_module_callback_http_filter_config_define_histogram(void *config, buffer name,
                                                                                 const buffer *labels,
                                                                                 std::size_t count, std::size_t *id);
SINCE_1_39 metrics_result envoy_dynamic_module_callback_http_filter_config_increment_counter(
    void *config, std::size_t id, const buffer *labels, std::size_t count, std::uint64_t value);
SINCE_1_39 metrics_result envoy_dynamic_module_callback_http_filter_config_increment_gauge(void *config, std::size_t id,
                                                                                           const buffer *labels,
                                                                                           std::size_t count,
                                                                                           std::uint64_t value);
SINCE_1_39 metrics_result envoy_dynamic_module_callback_http_filter_config_decrement_gauge(void *config, std::size_t id,
                                                                                           const buffer *labels,
                                                                                           std::size_t count,
                                                                                           std::uint64_t value);
SINCE_1_39 metrics_result envoy_dynamic_module_callback_http_filter_config_set_gauge(void *config, std::size_t id,
                                                                                     const buffer *labels,
                                                                                     std::size_t count,
                                                                                     std::uint64_t value);
SINCE_1_39 metrics_result envoy_dynamic_module_callback_http_filter_config_record_histogram_value(
    void *config, std::size_t id, const buffer *labels, std::size_t count, std::uint64_t value);

// ---- TCP: data of a connection, and its course ----
std::uint32_t envoy_dynamic_module_callback_network_filter_get_worker_index(void *filter);
std::size_t envoy_dynamic_module_callback_network_filter_get_read_buffer_chunks_size(void *filter);
bool envoy_dynamic_module_callback_network_filter_get_read_buffer_chunks(void *filter, buffer *chunks);
bool envoy_dynamic_module_callback_network_filter_drain_read_buffer(void *filter, std::size_t length);
bool envoy_dynamic_module_callback_network_filter_append_read_buffer(void *filter, buffer bytes);
bool envoy_dynamic_module_callback_network_filter_inject_read_data(void *filter, buffer bytes, bool end_of_stream);
std::size_t envoy_dynamic_module_callback_network_filter_get_write_buffer_chunks_size(void *filter);
bool envoy_dynamic_module_callback_network_filter_get_write_buffer_chunks(void *filter, buffer *chunks);
bool envoy_dynamic_module_callback_network_filter_drain_write_buffer(void *filter, std::size_t length);
bool envoy_dynamic_module_callback_network_filter_append_write_buffer(void *filter, buffer bytes);
bool envoy_dynamic_module_callback_network_filter_inject_write_data(void *filter, buffer bytes, bool end_of_stream);
void envoy_dynamic_module_callback_network_filter_continue_reading(void *filter);
void envoy_dynamic_module_callback_network_filter_close_with_details(void *filter, close_type how, buffer details);
void *envoy_dynamic_module_callback_network_filter_scheduler_new(void *filter);
void envoy_dynamic_module_callback_network_filter_scheduler_commit(void *scheduler, std::uint64_t event);
void envoy_dynamic_module_callback_network_filter_scheduler_delete(void *scheduler);
void *envoy_dynamic_module_callback_network_filter_config_scheduler_new(void *config);
void envoy_dynamic_module_callback_network_filter_config_scheduler_commit(void *scheduler, std::uint64_t event);
void envoy_dynamic_module_callback_network_filter_config_scheduler_delete(void *scheduler);
callout_init_result envoy_dynamic_module_callback_network_filter_http_callout(void *filter, std::uint64_t *id,
                                                                              buffer cluster, const header *headers,
                                                                              std::size_t count, buffer body,
                                                                              std::uint64_t timeout_ms);
bool envoy_dynamic_module_callback_network_filter_get_cluster_host_count(void *filter, buffer cluster,
                                                                         std::uint32_t priority, std::size_t *total,
                                                                         std::size_t *healthy, std::size_t *degraded);

// ---- TCP: attributes, metadata, filter state ----
SINCE_1_39 bool envoy_dynamic_module_callback_network_filter_get_attribute_string(void *filter, attribute id,
                                                                                  buffer *value);
SINCE_1_39 bool envoy_dynamic_module_callback_network_filter_get_attribute_int(void *filter, attribute id,
                                                                               std::uint64_t *value);
SINCE_1_39 bool envoy_dynamic_module_callback_network_filter_get_attribute_bool(void *filter, attribute id,
                                                                                bool *value);
bool envoy_dynamic_module_callback_network_filter_get_upstream_host_address(void *filter, buffer *address,
                                                                            std::uint32_t *port);
bool envoy_dynamic_module_callback_network_get_dynamic_metadata_string(void *filter, buffer space, buffer key,
                                                                       buffer *value);
bool envoy_dynamic_module_callback_network_get_dynamic_metadata_number(void *filter, buffer space, buffer key,
                                                                       double *value);
bool envoy_dynamic_module_callback_network_get_dynamic_metadata_bool(void *filter, buffer space, buffer key,
                                                                     bool *value);
bool envoy_dynamic_module_callback_network_set_filter_state_bytes(void *filter, buffer key, buffer value);
bool envoy_dynamic_module_callback_network_get_filter_state_bytes(void *filter, buffer key, buffer *value);
bool envoy_dynamic_module_callback_network_set_filter_state_typed(void *filter, buffer key, buffer value);
bool envoy_dynamic_module_callback_network_get_filter_state_typed(void *filter, buffer key, buffer *value);

// ---- TCP: metrics, without labels ----
metrics_result envoy_dynamic_module_callback_network_filter_config_define_counter(void *config, buffer name,
                                                                                  std::size_t *id);
metrics_result envoy_dynamic_module_callback_network_filter_config_define_gauge(void *config, buffer name,
                                                                                std::size_t *id);
metrics_result envoy_dynamic_module_callback_network_filter_config_define_histogram(void *config, buffer name,
                                                                                    std::size_t *id);
SINCE_1_39 metrics_result envoy_dynamic_module_callback_network_filter_config_increment_counter(void *config,
                                                                                                std::size_t id,
                                                                                                std::uint64_t value);
SINCE_1_39 metrics_result envoy_dynamic_module_callback_network_filter_config_increment_gauge(void *config,
                                                                                              std::size_t id,
                                                                                              std::uint64_t value);
SINCE_1_39 metrics_result envoy_dynamic_module_callback_network_filter_config_decrement_gauge(void *config,
                                                                                              std::size_t id,
                                                                                              std::uint64_t value);
SINCE_1_39 metrics_result envoy_dynamic_module_callback_network_filter_config_set_gauge(void *config, std::size_t id,
                                                                                        std::uint64_t value);
SINCE_1_39 metrics_result envoy_dynamic_module_callback_network_filter_config_record_histogram_value(
    void *config, std::size_t id, std::uint64_t value);

// ---- Bootstrap extensions ----
void *envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_new(void *config);
void envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_commit(void *scheduler, std::uint64_t event);
void envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_delete(void *scheduler);
// Envoy waits for it before it takes connections.
void envoy_dynamic_module_callback_bootstrap_extension_config_signal_init_complete(void *config);
metrics_result envoy_dynamic_module_callback_bootstrap_extension_config_define_counter(void *config, buffer name,
                                                                                       const buffer *labels,
                                                                                       std::size_t count,
                                                                                       std::size_t *id);
metrics_result envoy_dynamic_module_callback_bootstrap_extension_config_define_gauge(void *config, buffer name,
                                                                                     const buffer *labels,
                                                                                     std::size_t count,
                                                                                     std::size_t *id);
metrics_result envoy_dynamic_module_callback_bootstrap_extension_config_define_histogram(void *config, buffer name,
                                                                                         const buffer *labels,
                                                                                         std::size_t count,
                                                                                         std::size_t *id);
metrics_result envoy_dynamic_module_callback_bootstrap_extension_config_increment_counter(void *config, std::size_t id,
                                                                                          const buffer *labels,
                                                                                          std::size_t count,
                                                                                          std::uint64_t value);
metrics_result envoy_dynamic_module_callback_bootstrap_extension_config_increment_gauge(void *config, std::size_t id,
                                                                                        const buffer *labels,
                                                                                        std::size_t count,
                                                                                        std::uint64_t value);
metrics_result envoy_dynamic_module_callback_bootstrap_extension_config_decrement_gauge(void *config, std::size_t id,
                                                                                        const buffer *labels,
                                                                                        std::size_t count,
                                                                                        std::uint64_t value);
metrics_result envoy_dynamic_module_callback_bootstrap_extension_config_set_gauge(void *config, std::size_t id,
                                                                                  const buffer *labels,
                                                                                  std::size_t count,
                                                                                  std::uint64_t value);
metrics_result envoy_dynamic_module_callback_bootstrap_extension_config_record_histogram_value(
    void *config, std::size_t id, const buffer *labels, std::size_t count, std::uint64_t value);

}  // extern "C"

}  // namespace proxywasm_envoy::abi
