"""What this machine needs to reach package registries, found out from its own configuration and handed on to pods.

Nothing here knows a mirror, a proxy or a certificate by name. A pod gets what the host uses itself: apt's sources and
transport settings, the certificates that its CA bundle has beyond Debian's, pip's index settings, and the folders
that pip looks for wheels in.
"""

import ast
import os
import re
import ssl
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
# Each of these names a CA bundle to some client. A pod has one bundle, at Debian's path.
_BUNDLE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO")
_HANDED_ON = re.compile(
    r"(https?|all|no)_proxy"
    r"|PIP_(INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST|PROXY|DEFAULT_TIMEOUT|RETRIES|DISABLE_PIP_VERSION_CHECK)"
    r"|UV_(DEFAULT_INDEX|INDEX|INDEX_URL|EXTRA_INDEX_URL|INDEX_STRATEGY|INSECURE_HOST|HTTP_TIMEOUT|HTTP_RETRIES)",
    re.IGNORECASE,
)
_LISTS = ("find-links", "extra-index-url", "trusted-host")  # pip options that hold several values, by blanks
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class Registries:
    """How this machine reaches them, as it was when asked: a test may move HOME and clear the environment."""

    environment: dict[str, str]  # for the pod's /etc/environment
    wheels: list[Path]  # folders to mount in the pod where they are here
    apt_sources: list[str]
    apt_settings: str
    certificates: list[str]
    name_servers: str

    def hand_on(self, root: Path) -> None:
        """Write it into a pod's file system."""
        (root / "etc/environment").write_text("".join(f"{name}={value}\n" for name, value in self.environment.items()))
        (root / "etc/resolv.conf").write_text(self.name_servers)
        (root / "etc/apt/apt.conf.d/90host").write_text(self.apt_settings)
        if self.apt_sources:
            (root / "etc/apt/sources.list").write_text("".join(f"{line}\n" for line in self.apt_sources))
        bundle = root / BUNDLE.lstrip("/")
        known = set(_CERTIFICATE.findall(bundle.read_text()))
        missing = [certificate for certificate in self.certificates if certificate not in known]
        with bundle.open("a") as everything:
            everything.writelines(f"{certificate}\n" for certificate in missing)
        for number, certificate in enumerate(missing):
            # As files of their own they survive the pod's `update-ca-certificates`.
            (root / f"usr/local/share/ca-certificates/host-{number}.crt").write_text(f"{certificate}\n")


def discover(suite: str) -> Registries:
    """Ask apt, pip, the environment and the file system; `suite` is the Debian of the pods."""
    pip = _pip_settings()
    places = list(dict.fromkeys(f"{pip.get('find-links', '')} {os.environ.get('PIP_FIND_LINKS', '')}".split()))
    return Registries(
        environment=_environment(pip, places),
        wheels=[Path(place) for place in places if place.startswith("/") and Path(place).is_dir()],
        apt_sources=_apt_sources(suite),
        apt_settings=_apt_settings(),
        certificates=_CERTIFICATE.findall(_bundle()),
        name_servers=_name_servers(),
    )


def apt_mirror(suite: str) -> str | None:
    """Return the mirror that the host's apt uses for `suite`; None: leave it to debootstrap."""
    return next((line.split()[1] for line in _apt_sources(suite) if line.split()[2] == suite), None)


def _environment(pip: dict[str, str], places: list[str]) -> dict[str, str]:
    known = {f"PIP_{option.upper().replace('-', '_')}": value for option, value in pip.items()} | os.environ
    handed_on = {name: value for name, value in known.items() if _HANDED_ON.fullmatch(name) and "file:" not in value}
    bundles = {name: BUNDLE for name in _BUNDLE_VARIABLES if known.get(name)}
    if places:
        handed_on |= {"PIP_FIND_LINKS": " ".join(places), "UV_FIND_LINKS": ",".join(places)}
    return {**handed_on, **bundles, "SSL_CERT_FILE": BUNDLE, "UV_SYSTEM_CERTS": "1"}


def _apt_sources(suite: str) -> list[str]:
    """Return the host's `sources.list` lines for `suite` with updates and security fixes, if it has that suite."""
    wanted = {suite, f"{suite}-updates", f"{suite}-security"}
    targets = _output(
        "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"
    )
    rows = [row for row in map(str.split, targets.splitlines()) if row[2:] == ["main"] and row[1] in wanted]
    return list(dict.fromkeys(f"deb {uri} {release} main" for uri, release, _ in rows))


def _apt_settings() -> str:
    """Return how the host's apt reaches its mirrors (proxies, certificates, checks), in the syntax of `apt.conf`."""
    wanted = ("http", "https", "Check-Valid-Until", "Check-Date", "Retries")
    return _output("apt-config", "dump", "--no-empty", *(f"Acquire::{name}" for name in wanted))


def _name_servers() -> str:
    """Return a `resolv.conf` that works from another network namespace, where no stub resolver listens."""
    behind_the_stub = Path("/run/systemd/resolve/resolv.conf")
    return (behind_the_stub if behind_the_stub.exists() else Path("/etc/resolv.conf")).read_text()


def _pip_settings() -> dict[str, str]:
    """Return pip's settings by option name, from whichever of its files or variables they come."""
    listed = _output(sys.executable, "-m", "pip", "config", "list") or _output("pip3", "config", "list")
    settings: dict[str, str] = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        option = key.rpartition(".")[2]
        earlier = f"{settings[option]} " if option in settings and option in _LISTS else ""
        settings[option] = f"{earlier}{ast.literal_eval(value)}"
    return settings


def _bundle() -> str:
    chosen = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile or BUNDLE
    return Path(chosen).read_text() if Path(chosen).exists() else ""


def _output(*command: str) -> str:
    """Return what `command` prints, or nothing if it is not there or fails: then the host has no such settings."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        return ""
