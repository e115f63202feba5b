/* SPDX-License-Identifier: Apache-2.0
 *
 * The Proxy-Wasm ABI 0.2.1 as it is, without a C library: the hostcalls that the test guests use.
 */
#ifndef GUEST_ABI_H
#define GUEST_ABI_H

typedef unsigned char u8;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef long long i64;

#define EXPORT(name) __attribute__((export_name(#name))) name
#define IMPORT(name) __attribute__((import_module("env"), import_name(#name))) name

u32 IMPORT(proxy_log)(u32 level, const char *text, u32 size);
u32 IMPORT(proxy_get_buffer_bytes)(u32 buffer, u32 start, u32 max, char **bytes, u32 *size);
u32 IMPORT(proxy_set_buffer_bytes)(u32 buffer, u32 start, u32 size, const char *bytes, u32 new_size);
u32 IMPORT(proxy_get_header_map_pairs)(u32 map, char **bytes, u32 *size);
u32 IMPORT(proxy_set_header_map_pairs)(u32 map, const char *bytes, u32 size);
u32 IMPORT(proxy_get_header_map_value)(u32 map, const char *name, u32 name_size, char **value, u32 *size);
u32 IMPORT(proxy_add_header_map_value)(u32 map, const char *name, u32 name_size, const char *value, u32 size);
u32 IMPORT(proxy_replace_header_map_value)(u32 map, const char *name, u32 name_size, const char *value,
                                           u32 size);
u32 IMPORT(proxy_remove_header_map_value)(u32 map, const char *name, u32 name_size);
u32 IMPORT(proxy_get_property)(const char *path, u32 path_size, char **value, u32 *size);
u32 IMPORT(proxy_set_property)(const char *path, u32 path_size, const char *value, u32 size);
u32 IMPORT(proxy_send_local_response)(u32 status, const char *details, u32 details_size, const char *body,
                                      u32 body_size, const char *headers, u32 headers_size, i32 grpc_status);
u32 IMPORT(proxy_continue_stream)(u32 stream);
u32 IMPORT(proxy_close_stream)(u32 stream);
u32 IMPORT(proxy_http_call)(const char *upstream, u32 upstream_size, const char *headers, u32 headers_size,
                            const char *body, u32 body_size, const char *trailers, u32 trailers_size,
                            u32 timeout, u32 *token);
u32 IMPORT(proxy_grpc_call)(const char *upstream, u32 upstream_size, const char *service, u32 service_size,
                            const char *method, u32 method_size, const char *metadata, u32 metadata_size,
                            const char *message, u32 message_size, u32 timeout, u32 *token);
u32 IMPORT(proxy_grpc_stream)(const char *upstream, u32 upstream_size, const char *service, u32 service_size,
                              const char *method, u32 method_size, const char *metadata, u32 metadata_size,
                              u32 *token);
u32 IMPORT(proxy_grpc_send)(u32 token, const char *message, u32 size, u32 end);
u32 IMPORT(proxy_grpc_cancel)(u32 token);
u32 IMPORT(proxy_grpc_close)(u32 token);
u32 IMPORT(proxy_set_tick_period_milliseconds)(u32 period);
u32 IMPORT(proxy_get_current_time_nanoseconds)(u64 *now);
u32 IMPORT(proxy_register_shared_queue)(const char *name, u32 size, u32 *queue);
u32 IMPORT(proxy_resolve_shared_queue)(const char *vm_id, u32 vm_id_size, const char *name, u32 size,
                                       u32 *queue);
u32 IMPORT(proxy_enqueue_shared_queue)(u32 queue, const char *value, u32 size);
u32 IMPORT(proxy_dequeue_shared_queue)(u32 queue, char **value, u32 *size);
u32 IMPORT(proxy_get_shared_data)(const char *key, u32 key_size, char **value, u32 *size, u32 *cas);
u32 IMPORT(proxy_set_shared_data)(const char *key, u32 key_size, const char *value, u32 size, u32 cas);
u32 IMPORT(proxy_define_metric)(u32 type, const char *name, u32 size, u32 *id);
u32 IMPORT(proxy_increment_metric)(u32 id, i64 delta);
u32 IMPORT(proxy_record_metric)(u32 id, u64 value);
u32 IMPORT(proxy_get_metric)(u32 id, u64 *value);
u32 IMPORT(proxy_call_foreign_function)(const char *name, u32 name_size, const char *argument, u32 size,
                                        char **result, u32 *result_size);
u32 IMPORT(proxy_set_effective_context)(u32 context);
u32 IMPORT(proxy_done)(void);

#endif
