"""TLS contexts for HTTP out of PEM files, by the rule of the gRPC ports: both sides show a certificate of the same root."""

from __future__ import annotations

import ssl

from core_py.errors import ConfigError


def server_context(ca_path: str, cert_path: str, key_path: str) -> ssl.SSLContext:
    """For a listener that wants a certificate of its clients. Raises ConfigError."""
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca_path)
        context.load_cert_chain(cert_path, key_path)
    except OSError as error:
        raise ConfigError(f"the TLS files cannot be used: {error}") from error
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["http/1.1"])
    return context


def client_context(ca_path: str = "", cert_path: str = "", key_path: str = "") -> ssl.SSLContext:
    """For connections; without a root those of the system count, without a certificate none is shown. Raises ConfigError."""
    try:
        context = ssl.create_default_context(cafile=ca_path or None)
        if cert_path:
            context.load_cert_chain(cert_path, key_path or None)
    except OSError as error:
        raise ConfigError(f"the TLS files cannot be used: {error}") from error
    return context
