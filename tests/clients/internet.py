"""A stand-in for the internet: every name leads to this machine, where a server records what it is sent, over TLS too.

For a network namespace and a mount namespace of its own, since it binds the ports 53, 80 and 443, and replaces the
addresses of name servers and the certificates that this machine trusts.
"""

import asyncio
import datetime
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LOOPBACK = "127.0.0.1"
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
ANSWER = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
A, IN = 1, 1  # of DNS: the type of an IPv4 address, the class of the internet
MAX_REQUEST = 1 << 20  # bytes that are recorded of a connection
QUIET = 0.5  # seconds without data, after which a request is complete


@dataclass
class Internet:
    """What was sent to each name, and the variables that make programs trust its certificates."""

    bundle: Path
    sent: dict[str, bytes] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str]:
        names = ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
        return dict.fromkeys(names, str(self.bundle))

    def record(self, name: str, data: bytes) -> None:
        self.sent[name] = (self.sent.get(name, b"") + data)[:MAX_REQUEST]


@contextmanager
def pretended(folder: Path) -> Iterator[Internet]:
    """Pretend while the block runs."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    authority = _Authority()
    internet = Internet(folder / "certificates.pem")
    internet.bundle.write_bytes(authority.certificate)
    resolver = folder / "resolv.conf"
    resolver.write_text(f"nameserver {LOOPBACK}\n")
    for new, old in ((resolver, Path("/etc/resolv.conf")), (internet.bundle, BUNDLE)):
        subprocess.run(["mount", "--bind", new, old.resolve()], check=True)
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(_serve(internet, authority, folder, ready, stop)))
    thread.start()
    try:
        assert ready.wait(30), "the stand-in for the internet begins"
        yield internet
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def _serve(
    internet: Internet, authority: "_Authority", folder: Path, ready: threading.Event, stop: asyncio.Event
) -> None:
    loop = asyncio.get_running_loop()
    names, _ = await loop.create_datagram_endpoint(_Names, local_addr=(LOOPBACK, 53))

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = writer.get_extra_info("ssl_object")
        data = b""
        try:
            while chunk := await asyncio.wait_for(reader.read(65536), QUIET if data else 30):
                data += chunk
        except (TimeoutError, OSError):
            pass
        name = getattr(tls, "asked_for", None) or _host(data)
        internet.record(name, data)
        writer.write(ANSWER)
        writer.close()

    plain = await asyncio.start_server(take, LOOPBACK, 80)
    secure = await asyncio.start_server(take, LOOPBACK, 443, ssl=authority.context(folder))
    async with plain, secure:
        ready.set()
        await stop.wait()
    names.close()
    await asyncio.sleep(0)


def _host(data: bytes) -> str:
    lines = data.split(b"\r\n")
    return next((line[5:].strip().decode() for line in lines if line.lower().startswith(b"host:")), "unknown")


class _Names(asyncio.DatagramProtocol):
    """Answers each question for an IPv4 address with the loopback, and others with nothing."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        end = data.index(b"\0", 12) + 5  # the name ends with an empty label; type and class follow
        question = data[12:end]
        kind, _ = struct.unpack("!HH", question[-4:])
        found = kind == A
        head = data[:2] + struct.pack("!HHHHH", 0x8180, 1, int(found), 0, 0)
        record = b"\xc0\x0c" + struct.pack("!HHIH", A, IN, 60, 4) + bytes([127, 0, 0, 1])
        self._transport.sendto(head + question + (record if found else b""), addr)


class _Authority:
    """A certificate authority, with certificates for every name that is asked for."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pi's tests")])
        self._contexts: dict[str, ssl.SSLContext] = {}
        unsigned = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, None), critical=True)
        self._certificate = unsigned.sign(self._key, hashes.SHA256())
        self.certificate = self._certificate.public_bytes(serialization.Encoding.PEM)

    def context(self, folder: Path) -> ssl.SSLContext:
        def choose(tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            name = name or "unknown"
            if name not in self._contexts:
                self._contexts[name] = self._context_for(name, folder)
            tls.context = self._contexts[name]
            tls.asked_for = name  # type: ignore[attr-defined]

        context = self._context_for("unknown", folder)
        context.sni_callback = choose
        return context

    def _context_for(self, name: str, folder: Path) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        signed = self._builder(subject, key).add_extension(names, critical=False).sign(self._key, hashes.SHA256())
        file = folder / f"{name}.pem"
        private = serialization.PrivateFormat.PKCS8
        file.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption())
            + signed.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        day = datetime.timedelta(days=1)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        return builder.serial_number(x509.random_serial_number()).not_valid_before(now - day).not_valid_after(now + day)
