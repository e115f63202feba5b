# SPDX-License-Identifier: Apache-2.0
import time

import pytest
from kit.cases import AGREES, Differs, case
from kit.setup import bare, probe

AREA = "WASI"


def calls(serve, text, **options):
    reply = serve(bare(**options), shared=True).get(bare=f"request_headers: {text}")
    assert reply.status == 200
    return [one for one in reply.reports.of("request_headers") if one.op]


@case("clock 0 is the time since 1970, clock 1 never goes back", envoy=AGREES)
def test_clocks(serve):
    before = time.time_ns()
    realtime, first, second = calls(serve, "clock_time_get 0 1 @8; clock_time_get 1 1 @8; clock_time_get 1 1 @8")
    assert [realtime.result, first.result, second.result] == [0, 0, 0]
    assert before - 1e9 < realtime.out[0] < time.time_ns() + 1e9
    assert 0 < first.out[0] <= second.out[0]


@case("other clocks: ENOTSUP", envoy=AGREES)
def test_other_clock(serve):
    assert [one.result for one in calls(serve, "clock_time_get 2 1 @8; clock_time_get 77 1 @8")] == [58, 58]


@case("proxy_get_current_time_nanoseconds and clock 0 agree", envoy=AGREES)
def test_current_time(serve):
    first, second = calls(serve, "proxy_get_current_time_nanoseconds @8; clock_time_get 0 1 @8")
    assert abs(second.out[0] - first.out[0]) < 1e9


@case("random_get gives bytes that differ each time", envoy=AGREES)
def test_random(proxy):
    reply = proxy.get(probe={"request_headers": [["random", 32], ["random", 32]]})
    first, second = reply.reports.results("request_headers", "random")
    assert len(first) == len(second) == 32
    assert first != second


@case("random_get of nothing is OK, of more than 64 KiB EINVAL", envoy=AGREES)
def test_random_sizes(serve):
    assert [one.result for one in calls(serve, "random_get @ 0; random_get @ 65537")] == [0, 28]


@case("there are no arguments", envoy=AGREES)
def test_arguments(serve):
    (sizes, get) = calls(serve, "args_sizes_get @ @; args_get @ @")
    assert (sizes.result, sizes.out) == (0, [0, 0])
    assert get.result == 0


@case("environ_sizes_get counts the variables, and their bytes with a NUL each", envoy=AGREES)
def test_environment(serve):
    (sizes,) = calls(serve, "environ_sizes_get @ @", environment=(("CASE_A", "1"), ("B", "")))
    assert (sizes.result, sizes.out) == (0, [2, len("CASE_A=1") + 1 + len("B=") + 1])


@case("fd_write takes all of its pieces and says how many bytes that were", envoy=AGREES)
def test_write(serve):
    (write,) = calls(serve, "fd_write 1 ['WASI ' 'in ' '' 'pieces%0a'] 4 @")
    assert (write.result, write.out) == (0, [len("WASI in pieces\n")])


@case("fd_write of nothing is OK", envoy=AGREES)
def test_write_nothing(serve):
    assert [(one.result, one.out) for one in calls(serve, "fd_write 1 [] 0 @; fd_write 2 [''] 1 @")] == [(0, [0])] * 2


@pytest.mark.parametrize("fd", [0, 3, 77, -1])
@case("fd_write to what is neither output nor error: EBADF", envoy=AGREES)
def test_write_elsewhere(serve, fd):
    (write,) = calls(serve, f"fd_write {fd} ['x'] 1 @")
    assert write.result == 8


@case("fd_fdstat_get knows output and error alone", envoy=AGREES)
def test_fdstat(serve):
    text = "; ".join(f"fd_fdstat_get {fd} @24" for fd in (1, 2, 0, 3))
    assert [one.result for one in calls(serve, text)] == [0, 0, 8, 8]


@case("fd_read: ENOSYS", envoy=AGREES)
def test_read(serve):
    assert calls(serve, "fd_read 0 [0 0] 1 @")[0].result == 52


@case("fd_close and fd_seek are OK and do nothing", envoy=AGREES)
def test_close(serve):
    close, seek, write = calls(serve, "fd_close 1; fd_seek 1 0 0 @8; fd_write 1 ['closed?%0a'] 1 @")
    assert (close.result, seek.result, write.result) == (0, 0, 0)


UNION = Differs(
    does="The module does not start.",
    because="Runtimes import WASI functions that they call rarely or never.",
    fails_with="StartFailed",
)


@case("there are no files: path_open is ENOENT, fd_prestat_get EBADF", envoy=UNION)
def test_no_files(serve):
    text = "path_open 3 0 'file' 0 0 0 0 @; fd_prestat_get 3 @8"
    assert [one.result for one in calls(serve, text, version="0.2.1-union")] == [44, 8]


@case("poll_oneoff is OK and has no events, which is how Go's runtime sleeps; sched_yield is OK", envoy=UNION)
def test_poll(serve):
    poll, sched = calls(serve, "poll_oneoff @48 @32 1 @; sched_yield", version="0.2.1-union")
    assert (poll.result, poll.out[-1], sched.result) == (0, 0, 0)


@case("wasi_unstable has the same functions", envoy=UNION)
def test_unstable(serve):
    clock, random = calls(
        serve, "wasi_unstable.clock_time_get 0 1 @8; wasi_unstable.random_get @8 8", version="0.2.1-union"
    )
    assert (clock.result, random.result) == (0, 0)


@case(
    "proc_exit ends the VM: the request fails, later ones work",
    envoy=Differs(
        does="It returns; what the guest does then is what nobody thought of, here a trap, and the plugin is gone for good.",
        because="It is declared not to return.",
        fails_with="assert 503 == 200",
    ),
)
def test_exit(serve):
    proxy = serve(probe())
    assert proxy.get(probe={"request_headers": [["exit", 0]]}).status == 503
    assert proxy.get().status == 200
