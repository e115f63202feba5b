/* SPDX-License-Identifier: Apache-2.0
 *
 * What the host finds in the module: the marker of the ABI, the allocator and the callbacks.
 */
#include "run.h"

#define EXPORT(name) __attribute__((export_name(name)))

#if BARE_ABI == 100
#define MARKER "proxy_abi_version_0_1_0"
#elif BARE_ABI == 200
#define MARKER "proxy_abi_version_0_2_0"
#else
#define MARKER "proxy_abi_version_0_2_1"
#endif

/* It is never called. */
EXPORT(MARKER) void abi_version(void)
{
}

#if BARE_ABI != 200
EXPORT("malloc") uint32_t host_malloc(uint32_t size)
{
    return run_allocator(size);
}
#endif

#if BARE_ABI >= 200
EXPORT("proxy_on_memory_allocate") uint32_t host_memory_allocate(uint32_t size)
{
    return run_allocator(size);
}
#endif

#define X(result, name, answer, parameters, ...)                                                             \
    EXPORT("proxy_on_" #name) result on_##name parameters                                                    \
    {                                                                                                        \
        const uint32_t values[] = {__VA_ARGS__};                                                             \
        return (result)run_callback(CALLBACK_##name, values, sizeof(values) / sizeof(values[0]));            \
    }
CALLBACKS(X)
#undef X
