# SPDX-License-Identifier: Apache-2.0
"""Every host that the kit knows."""

from .base import FEATURES, Host, Server, StartFailed
from .envoy import Envoy, EnvoyTwoWorkers
from .envoy_builtin import EnvoyBuiltin
from .example import Example
from .nginx import Nginx, NginxTwoWorkers

HOSTS: dict[str, Host] = {
    host.name: host for host in (Example(), EnvoyBuiltin(), Envoy(), EnvoyTwoWorkers(), Nginx(), NginxTwoWorkers())
}

__all__ = ["FEATURES", "HOSTS", "Host", "Server", "StartFailed"]
