/* SPDX-License-Identifier: Apache-2.0
 *
 * A proxy in memory: header maps, a clock, a log, and a record of what the library asked for.
 */
#ifndef HOST_H
#define HOST_H

#include <proxywasm.h>
#include <stdbool.h>

struct fake_map {
    struct {
        char name[64];
        char value[256];
    } fields[16];
    size_t count;
};

/* One exchange; `stream_data` of the callbacks. */
struct fake_stream {
    struct fake_map maps[4];
    unsigned resumes[2];
    unsigned local_responses;
    uint32_t local_status;
    char local_body[64];
    int32_t local_result; /* what send_local_response returns */
    unsigned closes;
};

/* One worker's proxy; `user_data` of the callbacks. */
struct fake_host {
    char log[1 << 16];
    size_t log_len;
    int32_t log_level;
    uint64_t now; /* of both clocks; 0 leaves them to the system */
    proxywasm_token tokens[16];
    size_t token_count;
    unsigned cancels;
    proxywasm_token cancelled;
    unsigned grpc_sends, grpc_closes;
    unsigned failures;
    int32_t failure;
    unsigned wakes;
    int32_t call_status; /* what http_call, grpc_call and grpc_stream return */
    /* Called at the beginning of each callback. */
    void (*hook)(struct fake_host *host, const char *callback);
    void *hook_data;
};

proxywasm_slice text_slice(const char *text);

void fake_host_init(struct fake_host *host);
/* A table with every callback that the fake has; metrics, data and queues are left to the library. */
proxywasm_host fake_host_table(void);
/* What plugins and library logged since the last call, one record per line. */
bool fake_host_logged(const struct fake_host *host, const char *line);
void fake_host_forget(struct fake_host *host);

void fake_stream_init(struct fake_stream *stream);
void fake_map_add(struct fake_map *map, const char *name, const char *value);
const char *fake_map_get(const struct fake_map *map, const char *name);

/* A file, read whole. */
proxywasm_slice read_file(const char *path);
/* A test guest by its name. */
proxywasm_slice guest(const char *name);

/* Everything from engine to chain, for one plugin with one configuration of tests/c/guests/scripted.c. */
struct rig {
    proxywasm_engine *engine;
    proxywasm_module *module;
    proxywasm_plugin *plugin;
    proxywasm_worker *worker;
    proxywasm_instance *instance;
    proxywasm_chain *chain;
    struct fake_host host;
};

typedef void rig_configure_fn(proxywasm_plugin_config *config);

/* `configure` may be NULL. */
void rig_open(struct rig *rig, const char *configuration, rig_configure_fn *configure);
/* Plugin, worker, instance and chain, on an engine and module that are there. */
void rig_open_on(struct rig *rig, proxywasm_engine *engine, proxywasm_module *module,
                 const char *configuration, rig_configure_fn *configure);
proxywasm_plugin *new_plugin(proxywasm_module *module, const char *configuration,
                             rig_configure_fn *configure);
void rig_close(struct rig *rig);

proxywasm_stream *rig_stream(struct rig *rig, struct fake_stream *data);
proxywasm_outcome blank_outcome(void);

/* The bytes of an outcome as text, in a static buffer of the calling thread. */
const char *outcome_text(const proxywasm_outcome *outcome);

#endif
