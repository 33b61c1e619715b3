"""The private keys that pi logs in with: those of ssh, ordered so that no passphrase is asked without need."""

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
OPENSSH_MAGIC = b"openssh-key-v1\0"
PauseTimeout = Callable[[], AbstractContextManager[None]]
"""Returns a context that stops the login time-out, entered while the user is asked for a passphrase."""


@dataclass(frozen=True, slots=True)
class KeyOffer:
    """A key to log in with. `pair` is None for an encrypted key whose public half is unknown."""

    name: str
    pair: asyncssh.SSHKeyPair | None
    file: Path | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint})" if self.pair else self.name

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the public key, also of a certificate's; empty if that key is unknown."""
        return _fingerprint(self.pair) if self.pair else ""

    @property
    def asks_nobody(self) -> bool:
        """Whether this key signs without a passphrase or a touch, as far as that can be known, and at once.

        asyncssh tries certificates of RSA keys under several names.
        """
        if self.pair is None or isinstance(self.pair, _LockedKey):
            return False
        name = self.pair.algorithm
        return not name.startswith((b"sk-", b"webauthn-sk-")) and not (b"rsa" in name and b"-cert-" in name)


@dataclass(slots=True)
class Keys:
    """The keys to log in with, in order, and why others cannot be used."""

    offers: list[KeyOffer] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    locked: list[Path] = field(default_factory=list)
    """Keys that the pod would accept and that could not be unlocked."""


@dataclass(frozen=True, slots=True)
class _KeyFile:
    """A private key's file.

    `public` is None if the file is encrypted and does not contain it, `private` if the key cannot be used directly.
    """

    path: Path
    is_named: bool
    public: asyncssh.SSHKey | None
    private: asyncssh.SSHKey | None = None
    is_locked: bool = False
    without_agent: str = "only its public half exists, and the agent does not hold the key"


class _LockedKey(asyncssh.SSHKeyPair):
    """A key whose passphrase is asked for once a pod has said that it would accept the key."""

    def __init__(self, file: Path, public: asyncssh.SSHKey, keys: Keys, pause_timeout: PauseTimeout) -> None:
        algorithms = list(public.sig_algorithms)
        super().__init__(public.algorithm, public.algorithm, algorithms, algorithms, public.public_data, None)
        self._file, self._keys, self._pause_timeout = file, keys, pause_timeout

    async def sign_async(self, data: bytes) -> bytes:
        """Unlock the key and sign. Raises `ValueError` if it stays locked: asyncssh then tries the next key."""
        with self._pause_timeout():
            key = await unlock(self._file)
        if key is None:
            self._keys.locked.append(self._file)
            raise ValueError("locked")
        signature: bytes = key.sign(data, self.sig_algorithm)
        return signature


async def unlock(file: Path) -> asyncssh.SSHKey | None:
    """Return a key after asking for its passphrase, or None if it stays locked."""
    data = file.read_bytes()  # noqa: ASYNC240 - a few hundred bytes

    def read(passphrase: str) -> asyncssh.SSHKey:
        return asyncssh.import_private_key(data, passphrase)

    key: asyncssh.SSHKey | None = await keyring.get().unlock(file, read)
    return key


@asynccontextmanager
async def available(destination: Destination, pause_timeout: PauseTimeout) -> AsyncIterator[Keys]:
    """Find the keys for a machine; those in the agent can be used while the block runs."""
    agent = await _open_agent(destination.agent)
    if agent is None:
        yield _order(destination, [], pause_timeout)
        return
    async with agent:
        try:
            agent_keys = list(await agent.get_keys())
        except ValueError:  # the agent sent an invalid answer, or closed the connection
            agent_keys = []
        yield _order(destination, agent_keys, pause_timeout)


async def _open_agent(path: str | None) -> asyncssh.SSHAgentClient | None:
    if path is None:
        return None
    try:
        async with asyncio.timeout(2):
            return await asyncssh.connect_agent(path)
    except OSError:
        return None


def _order(destination: Destination, agent_keys: list[asyncssh.SSHKeyPair], pause_timeout: PauseTimeout) -> Keys:
    """Put the keys in order: certificates, named keys in the agent, named files, other agent keys, default files.

    Keys that need a passphrase come last. (ssh tries the agent's other keys before the named files; with six of them
    sshd ends the login for too many failures.)
    """
    keys = Keys()
    files = [file for path, is_named in destination.identity_files if (file := _read(path, is_named, keys))]
    publics = {file.public.public_data for file in files if file.public}
    in_agent = [
        KeyOffer(f"`{pair.get_comment(errors='replace') or 'a key'}` from the agent", pair) for pair in agent_keys
    ]
    named = [offer for offer in in_agent if offer.pair and offer.pair.key_public_data in publics]
    others = [] if destination.option("identitiesonly") == "yes" else [key for key in in_agent if key not in named]
    agent_publics = {offer.pair.key_public_data for offer in in_agent if offer.pair}
    rest = [file for file in files if file.public is None or file.public.public_data not in agent_publics]
    unlocked = [(file, _offer_file(file)) for file in rest if file.private]
    locked = [_offer_locked(file, keys, pause_timeout) for file in rest if file.is_locked]
    plain = [
        *named, *(offer for file, offer in unlocked if file.is_named), *others,
        *(offer for file, offer in unlocked if not file.is_named), *locked,
    ]  # fmt: skip
    keys.offers = [*_certificates(destination, files, plain), *plain]
    offered = {offer.pair.key_public_data for offer in keys.offers if offer.pair}
    keys.skipped += [
        f"`{file.path}`: {file.without_agent}"
        for file in rest
        if file.public and file.public.public_data not in offered
    ]
    if provider := destination.option("pkcs11provider"):
        reason = "PKCS11Provider: pi uses such keys through the agent only (`ssh-add -s {provider}`)"
        keys.skipped.append(fill(reason, provider=provider))
    return keys


def _offer_file(file: _KeyFile) -> KeyOffer:
    assert file.private
    [pair] = asyncssh.load_keypairs(file.private)
    return KeyOffer(f"`{file.path}`", pair, file.path)


def _offer_locked(file: _KeyFile, keys: Keys, pause_timeout: PauseTimeout) -> KeyOffer:
    pair = _LockedKey(file.path, file.public, keys, pause_timeout) if file.public else None
    return KeyOffer(f"`{file.path}`", pair, file.path)


def _certificates(destination: Destination, files: Iterable[_KeyFile], plain: list[KeyOffer]) -> list[KeyOffer]:
    """Return an offer for every certificate of one of the keys: `KEY-cert.pub`, and every `CertificateFile`."""
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
                offers.append(KeyOffer(f"`{path}`", pair, offer.file))
    return offers


def _read(path: Path, is_named: bool, keys: Keys) -> _KeyFile | None:
    """Read a private key's file; one that cannot be used goes to `keys.skipped` unless it is a missing default."""
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
        keys.skipped.append(fill("`{path}`: other users can read it (`chmod 600 {path}`)", path=str(path)))
        return None
    try:
        return _import(path, is_named, data)
    except ValueError as error:
        keys.skipped.append(f"`{path}`: {error}")
        return None


@functools.lru_cache(maxsize=64)
def _import(path: Path, is_named: bool, data: bytes) -> _KeyFile:
    """Parse a key file, once for all pods of a run. Raises `ValueError` with the reason if it cannot be used."""
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
    """Return the cipher and the public half of a key in OpenSSH's format; neither is encrypted."""
    body = b64decode(data.partition(OPENSSH_KEY)[2].partition(b"-----END")[0])
    if not body.startswith(OPENSSH_MAGIC):
        raise ValueError("it is not a private key")
    cipher, rest = _split_string(body[len(OPENSSH_MAGIC) :])
    _, rest = _split_string(rest)  # the key derivation function
    _, rest = _split_string(rest)  # its options
    return cipher, _split_string(rest[4:])[0]


def _split_string(data: bytes) -> tuple[bytes, bytes]:
    """Split an SSH string off the front: four bytes of length, then the bytes."""
    end = 4 + int.from_bytes(data[:4], "big")
    return data[4:end], data[end:]


def _decode(blob: bytes) -> asyncssh.SSHKey:
    return asyncssh.import_public_key(_split_string(blob)[0] + b" " + b64encode(blob))


def _public_beside(path: Path) -> asyncssh.SSHKey | None:
    with suppress(OSError, ValueError):
        return asyncssh.read_public_key(f"{path}.pub")
    return None


def _fingerprint(pair: asyncssh.SSHKeyPair) -> str:
    digest = sha256(pair.key_public_data).digest()
    return f"SHA256:{b64encode(digest).decode().rstrip('=')}"
