# SPDX-License-Identifier: Apache-2.0
"""`make soak-envoy`, shortened, and without the built-in filter."""

import pytest
import soak_failures
import soak_updates
from report import Report
from site_of_envoy import OURS


@pytest.fixture
def report():
    found = Report()
    yield found
    assert not found.failed


def test_failures(report):
    soak_failures.check_failures(report, 1_000)


def test_endless_loop(report):
    soak_failures.endless_loop(report, OURS)


def test_updates(report):
    soak_updates.updates(report, OURS, 8)
