"""The SQL server's configuration: TiDB's public keys, as far as they mean something here; others are listed as known."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import ClassVar

from core_py.errors import ConfigError
from core_py.runtime.log import LogConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusConfig:
    """[status]."""

    status_host: str = "0.0.0.0"
    status_port: int = 10080
    report_status: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityConfig:
    """[security]."""

    ssl_cert: str = ""
    ssl_key: str = ""
    ssl_ca: str = ""
    auto_tls: bool = True  # make a certificate of our own when none is given
    cluster_ssl_ca: str = ""
    cluster_ssl_cert: str = ""
    cluster_ssl_key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceConfig:
    """[performance]."""

    max_procs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TidbConfig:
    """The whole file."""

    IGNORED_KEYS: ClassVar[frozenset[str]] = frozenset(
        {
            "prepared-plan-cache",
            "tikv-client",
            "binlog",
            "plugin",
            "pessimistic-txn",
            "experimental",
            "instance",
            "proxy-protocol",
        }
    )

    host: str = "0.0.0.0"
    port: int = 4000
    advertise_address: str = ""
    store: str = "tikv"
    path: str = "127.0.0.1:2379"
    lease: str = "45s"
    token_limit: int = 1000
    max_server_connections: int = 0
    max_allowed_packet: int = 64 << 20
    socket: str = ""
    log: LogConfig = field(default_factory=LogConfig)
    status: StatusConfig = field(default_factory=StatusConfig)
    security: SecurityConfig = field(default_factory=SecurityConfig)
    performance: PerformanceConfig = field(default_factory=PerformanceConfig)

    def validate(self) -> None:
        """Refuse what cannot work."""
        if self.store not in ("tikv", "memory", "unistore"):
            raise ConfigError(f"store: '{self.store}' is neither tikv nor memory")
        if not 0 <= self.port < 65536:
            raise ConfigError(f"port: {self.port} is no port")
        if self.token_limit < 1:
            raise ConfigError("token-limit: must be at least 1")
        if bool(self.security.ssl_cert) != bool(self.security.ssl_key):
            raise ConfigError("security.ssl-cert and security.ssl-key belong together")


def load_ssl(cert: str, key: str) -> ssl.SSLContext:
    """A server context from files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"security.ssl-cert {cert}: {error}") from error
    return context
