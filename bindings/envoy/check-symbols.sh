#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# check-symbols.sh MODULE ENVOY: the module exports nothing but Envoy's hooks, all that Envoy demands, and calls
# nothing that this Envoy does not export.
set -euo pipefail
module=$1 envoy=$2

# What Envoy refuses a filter without.
mandatory=(
    program_init
    http_filter_{config_new,config_destroy,new,destroy,stream_complete,scheduled}
    http_filter_{request,response}_{headers,body,trailers}
    http_filter_http_callout_done
    http_filter_http_stream_{headers,data,trailers,complete,reset}
    http_filter_downstream_{above_write_buffer_high,below_write_buffer_low}_watermark
)

exported=$(nm -D --defined-only "$module" | awk '{ print $3 }' | LC_ALL=C sort)
if other=$(grep -v '^envoy_dynamic_module_on_' <<<"$exported"); then
    printf 'check-symbols: exported besides hooks:\n%s\n' "$other" >&2
    exit 1
fi
for hook in "${mandatory[@]}"; do
    grep -qx "envoy_dynamic_module_on_$hook" <<<"$exported" || {
        echo "check-symbols: the hook $hook is missing" >&2
        exit 1
    }
done
wanted=$(nm -D --undefined-only "$module" | awk '{ print $2 }' | { grep '^envoy_dynamic_module_callback_' || true; } | LC_ALL=C sort)
offered=$(nm -D --defined-only "$envoy" | awk '{ print $3 }' | { grep '^envoy_dynamic_module_callback_' || true; } | LC_ALL=C sort)
if missing=$(LC_ALL=C comm -23 <(printf '%s\n' "$wanted") <(printf '%s\n' "$offered")) && [ -n "$missing" ]; then
    printf 'check-symbols: not in this Envoy:\n%s\n' "$missing" >&2
    exit 1
fi
# memory.cc stands for the allocator, and for functions of the C library whose answer is to be freed.
allocators='(.*alloc|cfree|free|.*memalign|strn?dup|realpath|canonicalize_file_name|get_current_dir_name|getline|getdelim|v?asprintf|open_memstream|scandir)'
if other=$(nm -D --undefined-only "$module" | awk '{ sub(/@.*/, "", $2); print $2 }' | grep -xE "$allocators"); then
    printf "check-symbols: of Envoy's allocator:\n%s\n" "$other" >&2
    exit 1
fi
needed=$(readelf -dW "$module" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | { grep -vE '^(libc|libm|libdl|libpthread|ld-linux.*)\.so\.' || true; })
if [ -n "$needed" ]; then
    printf 'check-symbols: the module needs %s\n' "$needed" >&2
    exit 1
fi
echo "check-symbols: $(wc -l <<<"$exported") hooks, $(wc -l <<<"$wanted") of Envoy's $(wc -l <<<"$offered") callbacks"
