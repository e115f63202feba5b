#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Tests the example with the plugins of examples/filters: test.sh [PROGRAM [FILTERS]]
# Prints `N passed, N failed`; the exit code is 0 when none failed. Needs python3 and curl.
set -u

here=$(cd "$(dirname "$0")" && pwd)
program=${1:-$here/../build/cpp-example/proxywasm-example}
filters=${2:-$here/../build/filters}
results=$(mktemp)
upstream_pid=""
proxy_pid=""

finish() {
  for pid in $upstream_pid $proxy_pid; do
    kill "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
  done
  rm -f "$results" "$results".*
}
trap finish EXIT

ok() { echo "ok   $1" | tee -a "$results"; }
fail() { echo "FAIL $1" | tee -a "$results"; }
# check NAME WANTED HAVE
check() { if [ "$2" = "$3" ]; then ok "$1"; else fail "$1"; echo "    expected: $2"; echo "    got:      $3"; fi; }

# ---- Scenarios ----
for scenario in "$here"/scenarios/*.json; do
  case $scenario in *.expected.json) continue ;; esac
  name="run: $(basename "$scenario" .json)"
  "$program" run "$scenario" >"$results.report" 2>"$results.errors"
  code=$?
  [ "$(basename "$scenario")" = bad-plugins.json ] && wanted=2 || wanted=0
  if [ "$code" -ne "$wanted" ]; then
    fail "$name: exit code $code"
    sed 's/^/    /' "$results.errors"
  elif difference=$(python3 "$here/test/compare.py" "${scenario%.json}.expected.json" <"$results.report"); then
    ok "$name"
  else
    fail "$name"
    echo "$difference"
  fi
done

# ---- Arguments ----
# refuses NAME ARGUMENT...: exit code 2 and one line
refuses() {
  local name=$1 code lines
  shift
  "$program" "$@" >/dev/null 2>"$results.errors"
  code=$?
  lines=$(wc -l <"$results.errors")
  check "refused: $name" "2, 1 line" "$code, $lines line"
}
to=(--listen 127.0.0.1:0 --upstream 127.0.0.1:1)
refuses "no command"
refuses "unknown option" serve --frob
refuses "no listener" serve
refuses "no upstream" serve --listen 127.0.0.1:0
refuses "no TCP upstream" serve "${to[@]}" --tcp-listen 127.0.0.1:0
refuses "metrics without HTTP" serve --tcp-listen 127.0.0.1:0 --tcp-upstream 127.0.0.1:1 --metrics-path /metrics
refuses "bad address" serve --listen 127.0.0.1 --upstream 127.0.0.1:1
refuses "bad cluster" serve "${to[@]}" --cluster nothing
refuses "no such file" serve "${to[@]}" --plugin no-such-file.wasm
refuses "not a module" serve "${to[@]}" --plugin "$here/test.sh"
refuses "bad plugin key" serve "${to[@]}" --plugin "$filters/rust-add-headers.wasm,colour=red"
refuses "bad plugin value" serve "${to[@]}" --plugin "$filters/rust-add-headers.wasm,deadline_ms=soon"
refuses "bad environment" serve "${to[@]}" --plugin "$filters/rust-add-headers.wasm,env=NAME"
refuses "bad service" serve "${to[@]}" --service no-such-file.wasm
refuses "bad configuration" run "$here/CMakeLists.txt"
for command in "" serve run; do
  # shellcheck disable=SC2086
  "$program" $command --help >"$results.report" 2>&1
  check "help ${command:-of the program}" "0" "$?"
done

# ---- Proxy ----
python3 "$here/test/upstream.py" >"$results.upstream" &
upstream_pid=$!
for _ in $(seq 100); do [ -s "$results.upstream" ] && break; sleep 0.05; done
port=$(cat "$results.upstream")
"$program" serve --listen 127.0.0.1:0 --upstream "127.0.0.1:$port" --metrics-path /metrics \
  --plugin "$filters/rust-add-headers.wasm,name=greet,config={\"request\":{\"x-hello\":\"a,b\"},\"response\":{\"x-plugin\":\"greet\"}}" \
  --plugin "$filters/go-block-path.wasm,config={\"prefixes\":[\"/admin\"]}" \
  --plugin "$filters/c-body-upper.wasm,config=request" >"$results.proxy" 2>"$results.log" &
proxy_pid=$!
for _ in $(seq 1200); do [ -s "$results.proxy" ] && break; sleep 0.05; done
url=http://$(sed 's/listening on //' "$results.proxy")

get() { curl -sS --max-time 20 "$@"; }
check "curl: response header" "greet" "$(get -o /dev/null -w '%header{x-plugin}' "$url/" 2>/dev/null || true)"
check "curl: request header" "a,b" "$(get "$url/" | python3 -c 'import json,sys; print(dict(json.load(sys.stdin)["headers"])["x-hello"])')"
check "curl: body" "SOME BODY" "$(get -d 'some body' "$url/" | python3 -c 'import json,sys; print(json.load(sys.stdin)["body"])')"
check "curl: repeated headers" "2" "$(get -D - -o /dev/null "$url/" | grep -ci '^set-cookie')"
check "curl: local response" "403 greet" "$(get -o /dev/null -w '%{http_code} %header{x-plugin}' "$url/admin" )"
check "curl: connection is kept" "1 0" "$(get -o /dev/null -o /dev/null -w '%{num_connects} ' "$url/1" "$url/2" | xargs)"
check "curl: upload" "20000000" "$(head -c 20000000 /dev/zero | get -D - -o /dev/null -H 'expect:' --data-binary @- "$url/sink" | tr -d '\r' | sed -n 's/^x-size: //p')"
check "curl: download" "20000000" "$(get "$url/big/20000000" | wc -c | xargs)"
kill -TERM "$proxy_pid"
wait "$proxy_pid"
check "exit code after SIGTERM" "0" "$?"
proxy_pid=

# Plugins made for these tests, where there is a compiler for them.
guest() {
  local clang
  for clang in clang clang-14; do
    "$clang" --target=wasm32 -O2 -nostdlib -Wl,--no-entry -Wl,--allow-undefined \
      -o "$results.$1.wasm" "$here/test/$1.c" 2>/dev/null && echo "$results.$1.wasm" && return
  done
}
# shellcheck disable=SC2046
python3 "$here/test/serve.py" "$program" "$filters" "$port" $(guest behave) | tee -a "$results"
# shellcheck disable=SC2046
python3 "$here/test/serve_tcp.py" "$program" "$filters" "$port" $(guest behave_tcp) | tee -a "$results"
# Python's h2 is in the venv of tools/setup.sh, group conformance.
grpc_python=
for python in "$here/../build/tools/venv/bin/python" python3; do
  [ -z "$grpc_python" ] && "$python" -c 'import h2' 2>/dev/null && grpc_python=$python
done
grpc_plugin=$(guest behave_grpc)
if [ -n "$grpc_python" ] && [ -n "$grpc_plugin" ]; then
  "$grpc_python" "$here/test/serve_grpc.py" "$program" "$grpc_plugin" | tee -a "$results"
else
  echo "SKIPPED serve: gRPC: needs h2 for Python, and clang for wasm32"
fi

passed=$(grep -c '^ok ' "$results")
failed=$(grep -c '^FAIL ' "$results")
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
