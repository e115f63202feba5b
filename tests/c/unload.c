/* SPDX-License-Identifier: Apache-2.0
 *
 * A proxy that reloads its modules: dlopen, use, dlclose, again. The library stays where it is, since its
 * signal handlers do.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "host.h"

#define FIND(name)                                                                                           \
    __typeof__(&proxywasm_##name) name;                                                                      \
    *(void **)&name = dlsym(library, "proxywasm_" #name);                                                    \
    CHECK(name != NULL)

static int32_t answer(void *user_data, void *stream_data, int32_t map, proxywasm_slice name,
                      proxywasm_slice *out_value)
{
    (void)user_data, (void)stream_data, (void)map, (void)name, (void)out_value;
    return PROXYWASM_STATUS_NOT_FOUND;
}

static void round_trip(void *library, const char *script, int32_t expected)
{
    FIND(engine_new);
    FIND(engine_free);
    FIND(module_compile);
    FIND(module_free);
    FIND(plugin_config_new);
    FIND(plugin_config_set_configuration);
    FIND(plugin_config_free);
    FIND(plugin_new);
    FIND(plugin_free);
    FIND(worker_new);
    FIND(worker_add_plugin);
    FIND(instance_remove);
    FIND(worker_free);
    FIND(chain_new);
    FIND(chain_free);
    FIND(stream_new);
    FIND(stream_on_request_headers);
    FIND(stream_free);
    proxywasm_engine *engine = NULL;
    proxywasm_module *module = NULL;
    proxywasm_plugin_config *config = NULL;
    proxywasm_plugin *plugin = NULL;
    proxywasm_worker *worker = NULL;
    proxywasm_instance *instance = NULL;
    proxywasm_chain *chain = NULL;
    proxywasm_stream *stream = NULL;
    proxywasm_host table;
    memset(&table, 0, sizeof table);
    table.struct_size = sizeof table;
    table.get_header = answer;
    proxywasm_outcome outcome = {.struct_size = sizeof outcome};
    CHECK_INT(engine_new(NULL, &engine), 0);
    CHECK_INT(module_compile(engine, guest("scripted"), &module), 0);
    CHECK_INT(plugin_config_new((proxywasm_slice){(const uint8_t *)"p", 1}, &config), 0);
    CHECK_INT(
        plugin_config_set_configuration(config, (proxywasm_slice){(const uint8_t *)script, strlen(script)}),
        0);
    CHECK_INT(plugin_new(module, config, &plugin), 0);
    CHECK_INT(worker_new(engine, &table, NULL, &worker), 0);
    CHECK_INT(worker_add_plugin(worker, plugin, &instance), 0);
    const proxywasm_instance *instances[] = {instance};
    CHECK_INT(chain_new(worker, instances, 1, &chain), 0);
    CHECK_INT(stream_new(chain, 0, NULL, &stream), 0);
    CHECK_INT(stream_on_request_headers(stream, 0, true, &outcome), expected);
    stream_free(stream);
    chain_free(chain);
    CHECK_INT(instance_remove(instance), 0);
    worker_free(worker);
    plugin_free(plugin);
    plugin_config_free(config);
    module_free(module);
    engine_free(engine);
}

int main(void)
{
    void *first = NULL;
    for (int i = 0; i < 10; i++) {
        void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
        if (!CHECK(library != NULL)) {
            fprintf(stderr, "    %s\n", dlerror());
            break;
        }
        void *here = dlsym(library, "proxywasm_engine_new");
        CHECK(first == NULL || first == here);
        first = here;
        round_trip(library, "request_headers=get", PROXYWASM_RESULT_OK);
        round_trip(library, "request_headers=oob", PROXYWASM_RESULT_GUEST_TRAP);
        CHECK_INT(dlclose(library), 0);
        /* Still mapped, whatever the count says. */
        Dl_info info;
        CHECK(dladdr(first, &info) != 0 && info.dli_sname != NULL);
    }
    /* The handlers are those of the library, and they are there. */
    struct sigaction action;
    CHECK_INT(sigaction(SIGSEGV, NULL, &action), 0);
    Dl_info info;
    void *handler;
    memcpy(&handler, &action.sa_sigaction, sizeof handler);
    CHECK((action.sa_flags & SA_SIGINFO) != 0 && dladdr(handler, &info) != 0);
    return check_summary("unload");
}
