# SPDX-License-Identifier: Apache-2.0
import subprocess

import pytest
from site_of_tests import Site


@pytest.fixture
def start():
    """start(wasm=…, http=…, location=…) → a server."""
    sites = []

    def start(**options):
        sites.append(Site(**options))
        return sites[-1]

    yield start
    for site in sites:
        site.close()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """A directory with ca.pem, and by it named.pem for callout.test and addressed.pem for 127.0.0.1."""
    directory = tmp_path_factory.mktemp("certificates")

    def run(*command):
        subprocess.run(["openssl", *command], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    run("req", "-x509", *key, "-subj", "/CN=test CA", "-keyout", "ca.key", "-out", "ca.pem")
    for name, alternative in (("named", "DNS:callout.test"), ("addressed", "IP:127.0.0.1")):
        options = (
            "-subj",
            f"/CN={name}",
            "-addext",
            f"subjectAltName={alternative}",
            "-addext",
            "basicConstraints=CA:FALSE",
        )
        run(
            "req",
            "-x509",
            *key,
            *options,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.pem",
        )
    directory.chmod(0o755)
    return directory
