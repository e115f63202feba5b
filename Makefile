# SPDX-License-Identifier: Apache-2.0
#
# A thin front door: `make help`. Each target installs the tools it needs (tools/setup.sh) and stops early when
# there is nothing to do.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Cargo would complain of a jobserver that is named in there and not handed down.
unexport MAKEFLAGS

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
DESTDIR ?=
# Where Debian's NGINX has modules, and the line of configuration that loads each.
NGINX_MODULES_DIR ?= /usr/lib/nginx/modules
NGINX_AVAILABLE_DIR ?= /usr/share/nginx/modules-available

SETUP := @tools/setup.sh
ENV := . tools/env.sh;
STAGE := build/stage
C_TESTS := build/tests-c
ENVOY_TESTS := build/tests-envoy
ENVOY_MODULE := build/envoy/libproxywasm_envoy.so

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS=$$'\t' read -r name text; do printf '%-18s %s\n' "make $$name" "$$text"; done

# The crate types by name: cargo leaves out the whole-program optimisation where a Rust library is built beside them.
.PHONY: build
build: ## the library, into target/release
	@echo "build: libproxywasm (release)"
	$(SETUP) base rust
	@$(ENV) cargo rustc --release --locked --lib --crate-type cdylib,staticlib
	@packaging/link-soname.sh target/release

.PHONY: test
test: test-parts test-rust test-c test-install test-example test-conformance test-nginx test-envoy ## every test

# The library and the tests in Rust. Side by side, because the last minutes of the library's build keep one core only.
.PHONY: test-parts
test-parts:
	$(SETUP) base rust
	@$(MAKE) --no-print-directory -j 2 build rust-tests

.PHONY: rust-tests
rust-tests:
	@echo "rust-tests: cargo test --no-run"
	@$(ENV) cargo test --locked --features fault-injection --no-run

.PHONY: test-rust
test-rust: filters ## the tests of the core and the C boundary, in Rust
	@echo "test-rust: cargo test"
	$(SETUP) base rust
	@$(ENV) cargo test --locked --features fault-injection

# The C tests take the release library, as it is installed; those of faults a debug one that can be made to panic,
# which is the one that test-rust built: naming a test makes cargo choose the same features of the dependencies.
.PHONY: c-tests
c-tests: build
	$(SETUP) base test clang-wasm
	@$(ENV) cargo build --quiet --locked --lib --test header --features fault-injection
	@packaging/link-soname.sh target/debug
	@cmake -S tests/c -B $(C_TESTS) >$(C_TESTS).log 2>&1 || { cat $(C_TESTS).log; exit 1; }
	@cmake --build $(C_TESTS) -j 2 -- --no-print-directory -s

.PHONY: test-c
test-c: c-tests ## the tests of the C interface, with sanitizers and valgrind
	@echo "test-c: ctest"
	@ctest --test-dir $(C_TESTS) --output-on-failure --label-exclude tsan

.PHONY: sanitize
sanitize: c-tests ## the C tests under ASan, UBSan and, those with threads, TSan
	@echo "sanitize: ctest"
	@ctest --test-dir $(C_TESTS) --output-on-failure --label-regex 'asan|tsan'

.PHONY: test-install
test-install: build ## programs built against nothing but an installed copy
	@echo "test-install: install, then build against it"
	$(SETUP) base
	@tests/c/install/run.sh

.PHONY: test-example
test-example: ## the example proxy's own test
	$(SETUP) conformance
	@if [ -e cpp-example/test.sh ]; then \
	    $(MAKE) --no-print-directory filters example && echo "test-example: cpp-example/test.sh" && cpp-example/test.sh; \
	else echo "SKIPPED test-example: there is no cpp-example/test.sh"; fi

# What the conformance kit runs: hosts and plugins. Side by side, for the same reason.
.PHONY: conformance-parts
conformance-parts:
	$(SETUP) base conformance
	@$(MAKE) --no-print-directory -j 2 example filters guests nginx envoy

.PHONY: conformance
conformance: conformance-parts ## the same plugins and cases on every host, or HOST=NAME; writes docs/conformance.md
	@echo "conformance: tests/e2e"
	@tests/e2e/run.sh $(if $(HOST),$(HOST),--document)

.PHONY: test-conformance
test-conformance: conformance-parts ## the same, as a test: writes no document
	@echo "test-conformance: tests/e2e"
	@tests/e2e/run.sh

.PHONY: lint
lint: ## formatting, clippy, documentation, shell scripts, paths of this machine
	$(SETUP) base rust lint conformance
	@$(ENV) .ci/lint

.PHONY: filters
filters: ## the example filters, into build/filters
	@echo "filters: examples/filters"
	@$(MAKE) --no-print-directory -C examples/filters

.PHONY: guests
guests: ## the guests of the conformance kit, into build/guests
	@echo "guests: tests/guests"
	@$(MAKE) --no-print-directory -C tests/guests

.PHONY: example
example: stage ## the example proxy, build/cpp-example/proxywasm-example
	@echo "example: cpp-example"
	$(SETUP) base example test
	@mkdir -p build/cpp-example
	@cmake -S cpp-example -B build/cpp-example -DCMAKE_BUILD_TYPE=RelWithDebInfo \
	    -DCMAKE_PREFIX_PATH="$(abspath $(STAGE))" >build/cpp-example.log 2>&1 || { cat build/cpp-example.log; exit 1; }
	@cmake --build build/cpp-example -j 2 -- --no-print-directory -s

.PHONY: nginx
nginx: build ## the NGINX module for the distribution's NGINX, build/nginx
	@echo "nginx: bindings/nginx"
	$(SETUP) base nginx
	@bindings/nginx/build.sh

.PHONY: envoy
envoy: build ## the dynamic module for stock Envoy, build/envoy/libproxywasm_envoy.so
	@echo "envoy: bindings/envoy"
	$(SETUP) base envoy conformance
	@ENVOY_PROGRAM=$$(echo build/tools/venv/lib/python3*/site-packages/envoy/_bin/envoy) bindings/envoy/build.sh

.PHONY: test-nginx
test-nginx: nginx guests filters ## what only the NGINX module has
	@echo "test-nginx: tests/nginx"
	$(SETUP) conformance
	@build/tools/venv/bin/python -m pytest -n 4 -q tests/nginx

.PHONY: test-nginx-versions
test-nginx-versions: build guests filters ## NGINX 1.22 and 1.26 from their sources, with the modules built in; or SUITE=NAME of Debian
	@echo "test-nginx-versions: tests/nginx/versions.sh"
	$(SETUP) base nginx-build conformance
	@tests/nginx/versions.sh $(SUITE)

.PHONY: sanitize-nginx
sanitize-nginx: guests filters ## the kit's NGINX cases and NGINX's own tests under ASan and UBSan
	@echo "sanitize-nginx: tests/nginx/sanitize.sh"
	$(SETUP) base rust nginx nginx-build test conformance
	@tests/nginx/sanitize.sh

.PHONY: test-install-nginx
test-install-nginx: nginx filters ## a plugin with nothing but an installed library and installed NGINX modules
	@echo "test-install-nginx: tests/nginx/install.sh"
	@tests/nginx/install.sh

.PHONY: soak-nginx
soak-nginx: nginx guests filters ## NGINX under load while it is reloaded and workers are killed, and bodies of 1 GiB
	@echo "soak-nginx: tests/nginx/soak.py"
	$(SETUP) conformance soak
	@PYTHONPATH=tests/e2e build/tools/venv/bin/python tests/nginx/soak.py

.PHONY: test-envoy
test-envoy: envoy guests filters ## the Envoy module's parts, with sanitizers, and what only it has
	@echo "test-envoy: ctest, tests/envoy"
	$(SETUP) base test envoy conformance
	@cmake -S bindings/envoy/test -B $(ENVOY_TESTS) >$(ENVOY_TESTS).log 2>&1 || { cat $(ENVOY_TESTS).log; exit 1; }
	@cmake --build $(ENVOY_TESTS) -j 2 -- --no-print-directory -s
	@ctest --test-dir $(ENVOY_TESTS) --output-on-failure
	@build/tools/venv/bin/python -m pytest -q tests/envoy

.PHONY: soak-envoy
soak-envoy: envoy guests filters ## Envoy under load with plugins that fail, and while its configuration is updated
	@echo "soak-envoy: tests/envoy/soak.py"
	$(SETUP) conformance
	@PYTHONPATH=tests/e2e build/tools/venv/bin/python tests/envoy/soak.py

.PHONY: test-envoy-versions
test-envoy-versions: envoy guests filters ## the kit with the module in the last Envoys of 1.38 and 1.39, or VERSION=NUMBER
	@echo "test-envoy-versions: tests/envoy/versions.sh"
	$(SETUP) conformance
	@tests/envoy/versions.sh $(VERSION)

.PHONY: memcheck-envoy
memcheck-envoy: envoy guests filters ## cases of the kit with stock Envoy and the module under valgrind
	@echo "memcheck-envoy: tests/envoy/memcheck.sh"
	$(SETUP) conformance test
	@tests/envoy/memcheck.sh

.PHONY: soak
soak: filters example ## 100,000 requests through the example proxy: its memory must stay as it is
	@echo "soak: cpp-example/soak.py"
	@python3 cpp-example/soak.py build/cpp-example/proxywasm-example build/filters

.PHONY: demo
demo: filters example ## the example proxy with filters, shown at work
	@python3 examples/demo/demo.py example

.PHONY: demo-nginx
demo-nginx: filters nginx ## the same with the distribution's NGINX and our module
	@echo "demo-nginx: examples/demo"
	@python3 examples/demo/demo.py nginx

.PHONY: demo-envoy
demo-envoy: filters envoy ## the same with stock Envoy and our module
	@echo "demo-envoy: examples/demo"
	$(SETUP) conformance
	@python3 examples/demo/demo.py envoy

.PHONY: bench
bench: ## measurements
	@echo "bench: benches/run.sh"
	$(SETUP) base rust
	@bash benches/run.sh

.PHONY: bench-nginx
bench-nginx: nginx ## what a plugin costs in NGINX, in CPU time per request
	@echo "bench-nginx: benches/nginx.py"
	$(SETUP) base rust rust-wasm bench
	@guest=$$(benches/guest.sh) && benches/nginx.py build/nginx/ngx_http_proxywasm_module.so "$$guest" build/bench-nginx.json

# The module in C is there to be compared with.
.PHONY: bench-envoy
bench-envoy: envoy ## what a plugin costs in Envoy's own Wasm filter and in our module, per request and once
	@echo "bench-envoy: benches/envoy.py"
	$(SETUP) base rust rust-wasm bench conformance
	@mkdir -p build
	@gcc -O2 -shared -fPIC -std=c11 -Wall -Wextra -Wpedantic -Werror -o build/libenvoy_one_header.so benches/envoy_one_header.c
	@gcc -O2 -shared -fPIC -std=c11 -Wall -Wextra -Wpedantic -Werror -DAS_A_HOST -o build/libenvoy_one_header_host.so benches/envoy_one_header.c
	@guest=$$(benches/guest.sh) && PYTHONPATH=tests/e2e build/tools/venv/bin/python benches/envoy.py \
	    build/libenvoy_one_header.so build/libenvoy_one_header_host.so "$$guest" build/bench-envoy.json --module $(ENVOY_MODULE) $(BENCH_ARGUMENTS)

.PHONY: header
header: ## writes include/proxywasm.h and include/proxywasm.sym anew from src/ffi
	@echo "header: include/proxywasm.h, include/proxywasm.sym"
	$(SETUP) base rust
	@$(ENV) UPDATE_HEADER=1 cargo test --quiet --locked --features fault-injection --test header

.PHONY: install
install: build ## the library under PREFIX=/usr/local, LIBDIR=PREFIX/lib, below DESTDIR
	@packaging/install.sh "$(DESTDIR)" "$(PREFIX)" "$(LIBDIR)"

.PHONY: install-nginx
install-nginx: nginx ## NGINX's modules, which find the library in LIBDIR; NGINX_MODULES_DIR=/usr/lib/nginx/modules
	@packaging/install-nginx.sh "$(DESTDIR)" "$(LIBDIR)" "$(NGINX_MODULES_DIR)" "$(NGINX_AVAILABLE_DIR)"

# An installed copy inside build/, which the example is built against.
.PHONY: stage
stage: build
	@packaging/install.sh "" "$(abspath $(STAGE))" "$(abspath $(STAGE))/lib"

.PHONY: clean
clean: ## removes what the targets above made; keeps build/tools
	rm -rf target build/stage build/tests-c build/tests-c.log build/install-test build/cpp-example build/cpp-example.log
	rm -rf $(ENVOY_TESTS) $(ENVOY_TESTS).log build/libenvoy_one_header.so build/libenvoy_one_header_host.so build/bench-envoy.json
	rm -rf build/envoy build/envoy-memcheck build/envoy-versions
	rm -rf build/nginx build/nginx-asan build/nginx-install build/nginx-source build/nginx-versions build/install-nginx-test
	@$(MAKE) --no-print-directory -C examples/filters clean
	@$(MAKE) --no-print-directory -C tests/guests clean
