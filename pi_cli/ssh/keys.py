"""The private keys that pi logs in with: ssh's own, in an order that asks for no passphrase without need."""

import asyncio
import copy
import functools
import os
import stat
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from pi_cli.hints import fill
from pi_cli.ssh.passphrases import keyring
from pi_cli.ssh.quick_asyncssh import asyncssh
from pi_cli.ssh.ssh_config import Destination

OPENSSH_KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----"
MAGIC = b"openssh-key-v1\0"
Waiting = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Offer:
    """A key to log in with. A key without `pair` does not even say what it is before it is unlocked."""

    name: str
    pair: asyncssh.SSHKeyPair | None
    file: Path | None = None

    def __str__(self) -> str:
        fingerprint = f" ({_fingerprint(self.pair)})" if self.pair else ""
        return f"{self.name}{fingerprint}"


@dataclass(slots=True)
class Keys:
    """What there is to log in with, in order, and why the rest is of no use."""

    offers: list[Offer] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    locked: list[Path] = field(default_factory=list)
    """Keys that the pod would take and that nobody could unlock."""


@dataclass(frozen=True, slots=True)
class _KeyFile:
    """A private key's file. `public` is None where it is encrypted and does not say, `private` where it is no use."""

    path: Path
    is_named: bool
    public: asyncssh.SSHKey | None
    private: asyncssh.SSHKey | None = None
    is_locked: bool = False
    without_agent: str = "only its public half is there, and the agent does not have it"


class _LockedKey(asyncssh.SSHKeyPair):
    """A key whose passphrase is asked for when a pod has said that it would take it."""

    def __init__(self, file: Path, public: asyncssh.SSHKey, keys: Keys, waiting: Waiting) -> None:
        algorithms = list(public.sig_algorithms)
        super().__init__(public.algorithm, public.algorithm, algorithms, algorithms, public.public_data, None)
        self._file, self._keys, self._waiting = file, keys, waiting

    async def sign_async(self, data: bytes) -> bytes:
        """Sign, once unlocked. Raises `ValueError` if nobody can: asyncssh goes on with the next key then."""
        with self._waiting():
            key = await unlock(self._file)
        if key is None:
            self._keys.locked.append(self._file)
            raise ValueError("locked")
        signature: bytes = key.sign(data, self.sig_algorithm)
        return signature


async def unlock(file: Path) -> asyncssh.SSHKey | None:
    """Return a key once somebody has told its passphrase; None if nobody does."""
    data = file.read_bytes()  # noqa: ASYNC240 - a few hundred bytes
    key: asyncssh.SSHKey | None = await keyring.get().unlock(file, lambda said: asyncssh.import_private_key(data, said))
    return key


@asynccontextmanager
async def found(destination: Destination, waiting: Waiting) -> AsyncIterator[Keys]:
    """Find the keys for a machine; those in the agent can be used while the block runs.

    `waiting` is entered while somebody is asked for a passphrase.
    """
    agent = await _open_agent(destination.agent)
    if agent is None:
        yield _sort(destination, [], waiting)
        return
    async with agent:
        try:
            held = list(await agent.get_keys())
        except ValueError:  # an agent that talks nonsense, or has hung up
            held = []
        yield _sort(destination, held, waiting)


async def _open_agent(path: str | None) -> asyncssh.SSHAgentClient | None:
    if path is None:
        return None
    try:
        async with asyncio.timeout(2):
            return await asyncssh.connect_agent(path)
    except OSError:
        return None


def _sort(destination: Destination, held: list[asyncssh.SSHKeyPair], waiting: Waiting) -> Keys:
    """Put the keys in order: certificates, named keys in the agent, named files, the agent's others, default files.

    ssh tries the agent's others before the files that were named, and is turned away for too many failures when there
    are six of them. What needs a passphrase comes last.
    """
    keys = Keys()
    files = [file for path, is_named in destination.identity_files if (file := _read(path, is_named, keys))]
    named = {file.public.public_data for file in files if file.public}
    in_agent = [Offer(f"`{pair.get_comment(errors='replace') or 'a key'}` of the agent", pair) for pair in held]
    ours = [offer for offer in in_agent if offer.pair and offer.pair.key_public_data in named]
    others = [] if destination.one("identitiesonly") == "yes" else [each for each in in_agent if each not in ours]
    here = {offer.pair.key_public_data for offer in in_agent if offer.pair}
    rest = [file for file in files if file.public is None or file.public.public_data not in here]
    open_ones = [(file, _local(file)) for file in rest if file.private]
    locked = [_locked(file, keys, waiting) for file in rest if file.is_locked]
    plain = [
        *ours, *(offer for file, offer in open_ones if file.is_named), *others,
        *(offer for file, offer in open_ones if not file.is_named), *locked,
    ]  # fmt: skip
    keys.offers = [*_certified(destination, files, plain), *plain]
    known = {offer.pair.key_public_data for offer in keys.offers if offer.pair}
    keys.skipped += [
        f"`{file.path}`: {file.without_agent}" for file in rest if file.public and file.public.public_data not in known
    ]
    if provider := destination.one("pkcs11provider"):
        reason = "PKCS11Provider: pi reaches such keys through the agent only (`ssh-add -s {provider}`)"
        keys.skipped.append(fill(reason, provider=provider))
    return keys


def _local(file: _KeyFile) -> Offer:
    assert file.private
    [pair] = asyncssh.load_keypairs(file.private)
    return Offer(f"`{file.path}`", pair, file.path)


def _locked(file: _KeyFile, keys: Keys, waiting: Waiting) -> Offer:
    pair = _LockedKey(file.path, file.public, keys, waiting) if file.public else None
    return Offer(f"`{file.path}`", pair, file.path)


def _certified(destination: Destination, files: Iterable[_KeyFile], plain: list[Offer]) -> list[Offer]:
    """Return an offer for every certificate that one of the keys can use: `KEY-cert.pub`, and any `CertificateFile`."""
    beside = [Path(f"{file.path}-cert.pub") for file in files]
    offers = []
    for path in dict.fromkeys([*destination.certificate_files, *beside]):
        try:
            certificate = asyncssh.read_certificate(path)
        except (OSError, ValueError):
            continue
        for offer in plain:
            if offer.pair and not offer.pair.has_cert and offer.pair.key_public_data == certificate.key.public_data:
                pair = copy.copy(offer.pair)
                pair.set_certificate(certificate)
                offers.append(Offer(f"`{path}`", pair, offer.file))
    return offers


def _read(path: Path, is_named: bool, keys: Keys) -> _KeyFile | None:
    """Read a private key's file; what is no use goes to `keys.skipped` with the reason, unless nobody asked for it."""
    try:
        data = path.read_bytes()
        mode = path.stat()
    except FileNotFoundError:
        public = _public_beside(path)
        if public is None and is_named:
            keys.skipped.append(f"`{path}`: there is no such file")
        return _KeyFile(path, is_named, public) if public else None
    except OSError as error:
        keys.skipped.append(f"`{path}`: {error.strerror}")
        return None
    if b"PRIVATE KEY" in data and mode.st_uid == os.getuid() and stat.S_IMODE(mode.st_mode) & 0o077:
        keys.skipped.append(fill("`{path}`: others may read it (`chmod 600 {path}`)", path=str(path)))
        return None
    try:
        return _import(path, is_named, data)
    except ValueError as error:
        keys.skipped.append(f"`{path}`: {error}")
        return None


@functools.lru_cache(maxsize=64)
def _import(path: Path, is_named: bool, data: bytes) -> _KeyFile:
    """Make sense of a key file, once for all pods. Raises `ValueError`, saying why it is no use."""
    if b"PRIVATE KEY" not in data:
        return _KeyFile(path, is_named, asyncssh.import_public_key(data))
    public, is_locked = _public_beside(path), b"ENCRYPTED" in data
    if OPENSSH_KEY in data:
        cipher, blob = _read_envelope(data)
        public, is_locked = _decode(blob), cipher != b"none"
        if public.get_algorithm().startswith("sk-"):
            reason = fill("pi uses FIDO2 keys through the agent only (`ssh-add {path}`)", path=str(path))
            return _KeyFile(path, is_named, public, without_agent=reason)
    if is_locked:
        return _KeyFile(path, is_named, public, is_locked=True)
    private = asyncssh.import_private_key(data)
    return _KeyFile(path, is_named, private.convert_to_public(), private)


def _read_envelope(data: bytes) -> tuple[bytes, bytes]:
    """Return the cipher and the public half of a key in OpenSSH's format, neither of which is encrypted."""
    body = b64decode(data.partition(OPENSSH_KEY)[2].partition(b"-----END")[0])
    if not body.startswith(MAGIC):
        raise ValueError("it is no private key")
    cipher, rest = _take(body[len(MAGIC) :])
    _, rest = _take(rest)  # how the passphrase becomes a key
    _, rest = _take(rest)
    return cipher, _take(rest[4:])[0]


def _take(data: bytes) -> tuple[bytes, bytes]:
    """Take a string off the front: four bytes of length, then itself."""
    end = 4 + int.from_bytes(data[:4], "big")
    return data[4:end], data[end:]


def _decode(blob: bytes) -> asyncssh.SSHKey:
    return asyncssh.import_public_key(_take(blob)[0] + b" " + b64encode(blob))


def _public_beside(path: Path) -> asyncssh.SSHKey | None:
    with suppress(OSError, ValueError):
        return asyncssh.read_public_key(f"{path}.pub")
    return None


def _fingerprint(pair: asyncssh.SSHKeyPair) -> str:
    digest = sha256(pair.key_public_data).digest()
    return f"SHA256:{b64encode(digest).decode().rstrip('=')}"
