"""HTTP to a model, without TLS: through a unix socket that leads to its port, or to its public URL."""

import ssl
from pathlib import Path

import httpx2


def over(socket: Path) -> httpx2.AsyncHTTPTransport:
    """Return the way through a socket."""
    return httpx2.AsyncHTTPTransport(uds=str(socket), verify=no_authorities())


def no_authorities() -> ssl.SSLContext:
    """Return what trusts no certificate at all. To load those that others trust takes 21 ms, for `http://` too."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
