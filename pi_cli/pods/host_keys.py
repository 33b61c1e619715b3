"""pi's own `known_hosts`: one key per pod, under the pod's name, so a recycled address is no false alarm."""

from pi_cli.errors import StateUnreadable
from pi_cli.store import files, paths


def read(pod: str) -> str | None:
    """Return the key learned for a pod as an OpenSSH public key line (`ssh-ed25519 AAAA…`)."""
    return _read_all().get(pod)


def remember(pod: str, key: str) -> None:
    with files.locked(paths.known_hosts_file()):
        _write_all(_read_all() | {pod: key})


def forget(pod: str) -> None:
    with files.locked(paths.known_hosts_file()):
        keys = _read_all()
        if keys.pop(pod, None):
            _write_all(keys)


def _read_all() -> dict[str, str]:
    try:
        lines = paths.known_hosts_file().read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeError) as error:
        raise StateUnreadable(f"cannot read `{paths.known_hosts_file()}`: {error}") from error
    pairs = (line.partition(" ") for line in lines if line.strip() and not line.startswith("#"))
    return {pod: key.strip() for pod, _, key in pairs}


def _write_all(keys: dict[str, str]) -> None:
    files.replace(paths.known_hosts_file(), "".join(f"{pod} {key}\n" for pod, key in keys.items()))
