# SPDX-License-Identifier: Apache-2.0
from kit.cases import AGREES, case
from kit.setup import bare

AREA = "Foreign functions"


def call(serve, text):
    reply = serve(bare(), shared=True).get(bare=f"request_headers: proxy_call_foreign_function {text}")
    assert reply.status == 200
    (report,) = reply.reports.of("request_headers", op="proxy_call_foreign_function")
    return report


@case("a foreign function that nobody knows: NOT_FOUND", envoy=AGREES)
def test_unknown(serve):
    assert call(serve, "'no such function' 'argument' @ @").result == 1


@case("a name that is empty: NOT_FOUND", envoy=AGREES)
def test_no_name(serve):
    assert call(serve, "'' '' @ @").result == 1


@case("a foreign function that nobody knows, called by an SDK: the plugin learns NOT_FOUND and lives", envoy=AGREES)
def test_unknown_by_sdk(proxy):
    reply = proxy.get(probe={"request_headers": [["foreign", "no such function", "argument"]]})
    assert reply.status == 200
    assert reply.reports.result("request_headers", "foreign") == {"err": 1}


@case("a foreign function that nobody knows, called without places for the result: NOT_FOUND", envoy=AGREES)
def test_unknown_without_result(serve):
    assert call(serve, "'no such function' '' 0 0").result == 1


@case("clear_route_cache is OK, and its result is empty", envoy=AGREES)
def test_clear_route_cache(serve):
    report = call(serve, "'clear_route_cache' '' @ @")
    assert (report.result, report.out) == (0, [0, 0])


@case("the result may have no place: it is dropped", envoy=AGREES)
def test_without_result(serve):
    assert call(serve, "'clear_route_cache' '' 0 0").result == 0
