# SPDX-License-Identifier: Apache-2.0
from kit.cases import AGREES, case

AREA = "Request headers"


@case("a header that is added reaches the upstream beside one of the same name", envoy=AGREES)
def test_add(proxy):
    reply = proxy.get(headers=[("x-a", "1")], probe={"request_headers": [["add", "request_headers", "x-a", "2"]]})
    assert reply.status == 200
    assert reply.seen.get_all("x-a") == ["1", "2"]


@case("the value of a header is its first one", envoy=AGREES)
def test_get_first(proxy):
    reply = proxy.get(
        headers=[("x-a", "1"), ("x-a", "2")], probe={"request_headers": [["get", "request_headers", "x-a"]]}
    )
    assert reply.reports.result("request_headers", "get") == "1"
