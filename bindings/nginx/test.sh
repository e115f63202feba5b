#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What the module has beyond the conformance kit: `make test-nginx`. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/test"

exec ../../../build/tools/venv/bin/python -m pytest -n 4 -q -p no:cacheprovider "$@"
