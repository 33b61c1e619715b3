"""HTTP to a model without TLS: through a unix socket that is forwarded to its port, or to its public URL."""

import ssl
from pathlib import Path

import httpx2


def over(socket: Path) -> httpx2.AsyncHTTPTransport:
    """Return a transport that connects to a unix socket."""
    return httpx2.AsyncHTTPTransport(uds=str(socket), verify=no_authorities())


def no_authorities() -> ssl.SSLContext:
    """Return an SSL context without certificates: loading the usual ones takes 21 ms, even for `http://`."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
