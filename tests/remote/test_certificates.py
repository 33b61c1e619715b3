"""`remote/setup/certificates.sh` with real uv, hf and curl: a network that inspects TLS, and wrong certificates."""

import datetime
import http.server
import ipaddress
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.remote.machine import Machine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the script is for pods, which run Linux")

TOOLS = Path(sys.executable).parent
DAY = datetime.timedelta(days=1)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


class Authority:
    """A private CA."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Inspector")])
        authority = self._certificate(
            self._name, self._key.public_key(), days=30, extension=x509.BasicConstraints(True, 0)
        )
        self.pem = authority.public_bytes(serialization.Encoding.PEM).decode()

    def _certificate(
        self, name: x509.Name, key: ec.EllipticCurvePublicKey, *, days: int, extension: x509.ExtensionType
    ) -> x509.Certificate:
        today = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self._name).public_key(key)
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(today - 60 * DAY).not_valid_after(today + days * DAY)
        return builder.add_extension(extension, critical=False).sign(self._key, hashes.SHA256())

    def context(self, *, address: str = "127.0.0.1", days: int = 30) -> ssl.SSLContext:
        """Return the context of a server with a certificate of this CA."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        signed = self._certificate(x509.Name([]), key.public_key(), days=days, extension=names)
        file = self._folder / "server.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


class _Nothing(http.server.BaseHTTPRequestHandler):
    """Has nothing, and says so: a client that hears it has accepted the certificate."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def log_message(self, *_: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        pass  # a client that does not accept the certificate


@contextmanager
def serving(context: ssl.SSLContext) -> Iterator[str]:
    with _Server(("127.0.0.1", 0), _Nothing) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def variables(machine: Machine, store: str = "") -> dict[str, str]:
    """Return what setup adds to the environment on a machine with this store of certificates."""
    if store:
        machine.write("/etc/ssl/certs/ca-certificates.crt", store)
    show = 'show() { use_the_systems_certificates; printf "%s\\n" "${SSL_CERT_FILE-}" "${REQUESTS_CA_BUNDLE-}"; }'
    values = machine.call("show", before=show).splitlines()
    return {name: value for name, value in zip(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), values, strict=True) if value}


def run(machine: Machine, program: str, url: str, environ: dict[str, str]) -> str:
    """Run a real program of a pod against a server and return all that it prints."""
    commands: dict[str, list[str | Path]] = {
        "uv": [TOOLS / "uv", "pip", "compile", "--no-cache", "--default-index", f"{url}/simple", "-"],
        "hf": [TOOLS / "hf", "download", "some/model"],
        "curl": [shutil.which("curl") or "curl", "-fsSL", f"{url}/x"],
    }
    done = subprocess.run(
        commands[program],
        input="thing\n",
        env={"PATH": "/usr/bin:/bin", "HOME": str(machine.home), "HF_ENDPOINT": url, "NO_COLOR": "1", **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout + done.stderr


NOTHING = {"uv": "was not found in the package registry", "hf": "hf repos create some/model", "curl": "404"}


@pytest.mark.parametrize("program", NOTHING)
def test_a_network_that_inspects_tls_works_once_its_ca_is_in_the_machines_store(machine: Machine, program: str) -> None:
    authority = Authority(machine.folder)
    environ = variables(machine, authority.pem * 20)
    assert set(environ.values()) == {f"{machine.root}/etc/ssl/certs/ca-certificates.crt"}
    with serving(authority.context()) as url:
        assert NOTHING[program].lower() in run(machine, program, url, environ).lower()
        refused = run(machine, program, url, {})
    why = machine.call("certificate_trouble", refused, "pypi.org")
    assert why.startswith(
        "the certificate of pypi.org is not trusted by this machine: its network seems to inspect TLS."
    )


@pytest.mark.parametrize("program", ["uv", "curl"])
def test_other_faults_of_a_certificate_have_words_of_their_own(machine: Machine, program: str) -> None:
    authority = Authority(machine.folder)
    environ = variables(machine, authority.pem * 20)
    with serving(authority.context(days=-1)) as url:
        expired = machine.call("certificate_trouble", run(machine, program, url, environ), "pypi.org")
    assert expired.startswith("the certificate of pypi.org is not valid at 20")
    assert expired.endswith(" UTC: it has expired, or the clock of this machine is wrong\n")
    with serving(authority.context(address="127.0.0.2")) as url:
        named = machine.call("certificate_trouble", run(machine, program, url, environ), "pypi.org")
    assert named == "the certificate of pypi.org is for another name: another server answers in its place\n"


def test_a_store_of_a_few_certificates_does_not_replace_the_lists_of_uv_and_python(machine: Machine) -> None:
    assert variables(machine) == {}
    assert variables(machine, Authority(machine.folder).pem) == {}


def test_what_the_machine_sets_is_not_replaced(machine: Machine) -> None:
    machine.environ["SSL_CERT_FILE"] = "/its/own.pem"
    assert variables(machine, Authority(machine.folder).pem * 20) == {"SSL_CERT_FILE": "/its/own.pem"}


def test_models_and_downloads_get_the_machines_certificates(machine: Machine) -> None:
    machine.write("/etc/ssl/certs/ca-certificates.crt", Authority(machine.folder).pem * 20)
    assert machine.setup().returncode == 0
    lines = (machine.home / ".pi/env").read_text().splitlines()
    store = f"{machine.root}/etc/ssl/certs/ca-certificates.crt"
    assert {f"export SSL_CERT_FILE='{store}'", f"export REQUESTS_CA_BUNDLE='{store}'"} <= {*lines}


def test_a_certificate_is_named_before_the_request_that_it_ends(machine: Machine) -> None:
    text = (
        "error: Failed to fetch: `https://pypi.org/simple/vllm/`\n"
        "  Caused by: error sending request for url (https://pypi.org/simple/vllm/)\n"
        "  Caused by: client error (Connect)\n  Caused by: invalid peer certificate: UnknownIssuer\n"
    )
    why = machine.call("why_not_installed", before=f"captured={text!r}".replace("'", "$'", 1))
    assert why.startswith("the certificate of pypi.org is not trusted by this machine: ")


@pytest.mark.parametrize(
    "text", ["", "error: dns error", "curl: (6) Could not resolve host", "HTTP status client error (404)"]
)
def test_other_failures_are_not_blamed_on_certificates(machine: Machine, text: str) -> None:
    shown = machine.call("show", text, before='show() { certificate_trouble "$1" h || echo other; }')
    assert shown == "other\n"
