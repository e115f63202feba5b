#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""nginx.py MODULE GUEST JSON: what a plugin costs in NGINX, in CPU time of its worker per request.

A fixed number of keep-alive requests goes to each location of one server by turns. CPU time is what the kernel's scheduler
has counted for all threads of the worker, in user and kernel mode. Time that others have taken does not count; what they
did to caches does: run it on a machine that does nothing else."""

import argparse
import datetime
import json
import pathlib
import signal
import socket
import statistics
import subprocess
import tempfile
import time

from measure import free_port, machine, one_processor, send

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Location, title, most CPU time in µs above `none` that it may cost, what ngx_wasm_module costs (NGINX 1.27.4, another
# machine of the same size).
PLACES = {
    "none": ("no plugin", None, None),
    "f0": ("empty plugin", 0.8, 6.4),
    "f1": ("one header read, one added", 1.2, 6.4),
    "f2": ("200 header reads", 20.0, 80.0),
    "stream": ("empty plugin, isolation", None, 73.0),
}
CONFIGURATION = """
load_module {module};
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{ worker_connections 256; }}
wasm {{ module bench {guest}; }}
http {{
    {temporary}
    access_log off;
    keepalive_requests 100000000;
    server {{
        listen 127.0.0.1:{port};
        location /none {{ return 200; }}
        location /f0 {{ proxy_wasm bench f0; return 200; }}
        location /f1 {{ proxy_wasm bench f1; return 200; }}
        location /f2 {{ proxy_wasm bench f2; return 200; }}
        location /stream {{ proxy_wasm bench f0; proxy_wasm_isolation stream; return 200; }}
    }}
}}
"""


class Nginx:
    """NGINX with one worker, in a directory of its own."""

    def __init__(self, program: str, module: pathlib.Path, guest: pathlib.Path, directory: pathlib.Path):
        directory.chmod(0o755)
        self.port = free_port()
        temporary = " ".join(
            f"{kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        file = directory / "nginx.conf"
        file.write_text(
            CONFIGURATION.format(module=module, guest=guest, directory=directory, port=self.port, temporary=temporary)
        )
        self.log = directory / "error.log"
        self.process = subprocess.Popen([program, "-p", directory, "-c", file, "-e", self.log])

    def __enter__(self):
        end = time.monotonic() + 20
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        while time.monotonic() < end and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                self.worker = int(children.read_text().split()[0])
                return self
            except (OSError, IndexError):
                time.sleep(0.02)
        raise SystemExit(f"nginx did not start: {self.log.read_text()}")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(20)

    def cpu_ns(self) -> int:
        tasks = pathlib.Path(f"/proc/{self.worker}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)

    def load(self, place: str, requests: int, connections: int) -> float:
        """CPU time of the worker in µs per request."""
        url = f"http://127.0.0.1:{self.port}/{place}"
        before = self.cpu_ns()
        failed = send(url, requests, connections)
        after = self.cpu_ns()
        if failed:
            raise SystemExit(f"{url}: not all requests succeeded\n{failed}\n{self.log.read_text()}")
        return (after - before) / requests / 1000


def report(samples: dict[str, list[float]], arguments, version: str) -> dict:
    date = datetime.date.today().isoformat()
    print(f"\n{version}, {date}, {machine()}")
    print(
        f"{arguments.requests} requests over {arguments.connections} connections, {arguments.starts} starts of NGINX, {arguments.rounds} rounds by turns in each\n"
    )
    print(
        f"{'CPU µs per request':<28}{'median':>9}{'min':>9}{'above none':>12}{'(of min)':>10}{'target':>8}{'ngx_wasm_module':>17}"
    )
    result = {}
    for place, (title, target, peer) in PLACES.items():
        median, least = statistics.median(samples[place]), min(samples[place])
        # Of each round apart: what the machine did meanwhile concerns all places alike.
        above = statistics.median(value - none for value, none in zip(samples[place], samples["none"]))
        above_least = least - min(samples["none"])
        cells = (
            [f"{above:.2f}", f"{above_least:.2f}", f"{target:.1f}" if target else "", f"{peer:.1f}"]
            if peer
            else [""] * 4
        )
        print(f"{title:<28}{median:>9.2f}{least:>9.2f}{cells[0]:>12}{cells[1]:>10}{cells[2]:>8}{cells[3]:>17}")
        result[place] = {"median": median, "min": least, "above": above, "above_min": above_least, "target": target}
    return {"version": version, "date": date, "machine": machine(), "us_per_request": result, "samples": samples}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", type=pathlib.Path)
    parser.add_argument("guest", type=pathlib.Path)
    parser.add_argument("json", type=pathlib.Path)
    parser.add_argument("--nginx", default="/usr/sbin/nginx")
    parser.add_argument("--requests", type=int, default=8_000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--starts", type=int, default=9)
    parser.add_argument("--rounds", type=int, default=11)
    arguments = parser.parse_args()
    version = subprocess.run([arguments.nginx, "-v"], capture_output=True, text=True, check=True).stderr.strip()
    samples: dict[str, list[float]] = {place: [] for place in PLACES}
    module, guest = arguments.module.resolve(), arguments.guest.resolve()
    # Where code and data happen to lie in memory changes figures, by more than the rounds of one NGINX do.
    for start in range(arguments.starts):
        print(f"bench-nginx: NGINX {start + 1} of {arguments.starts}", flush=True)
        with (
            one_processor(),
            tempfile.TemporaryDirectory(prefix="proxywasm-bench-") as directory,
            Nginx(arguments.nginx, module, guest, pathlib.Path(directory)) as nginx,
        ):
            for place in PLACES:
                nginx.load(place, arguments.requests // 10, arguments.connections)
            for number in range(arguments.rounds):
                places = list(PLACES)
                for place in places if number % 2 else reversed(places):
                    # A longer task takes fewer requests for the same accuracy.
                    share = 4 if place == "f2" else 1
                    samples[place].append(nginx.load(place, arguments.requests // share, arguments.connections))
    arguments.json.write_text(json.dumps(report(samples, arguments, version), indent=2) + "\n")


if __name__ == "__main__":
    main()
