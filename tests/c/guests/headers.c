/* SPDX-License-Identifier: Apache-2.0
 *
 * A guest that takes part in the request headers only, of ABI 0.2.0.
 */
#include "abi.h"

static char memory[4096];

void EXPORT(proxy_abi_version_0_2_0)(void)
{
}

void *EXPORT(malloc)(u32 size)
{
    return size <= sizeof memory ? memory : 0;
}

u32 EXPORT(proxy_on_request_headers)(u32 id, u32 count, u32 end)
{
    (void)id;
    (void)count;
    (void)end;
    return 0;
}
