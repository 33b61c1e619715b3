"""Why a login failed: errors that name the step (name, network, host key, authentication) and what to do next."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pi_cli.errors import PodUnreachable
from pi_cli.hints import fill
from pi_cli.safe import safe_line
from pi_cli.ssh.quick_asyncssh import asyncssh
from pi_cli.ssh.transport import NoBanner

if TYPE_CHECKING:
    from pi_cli.ssh.one_login import Login

LOGIN_TIMEOUT = 30.0  # seconds after that; they do not run while a passphrase is asked for
CONFIRMATION_TIMEOUT = 300.0  # seconds instead of both, once the server has shown an address at which to confirm
DISCONNECTED = (asyncssh.ConnectionLost, ConnectionResetError, BrokenPipeError)
SSH_BANNER = re.compile(r"^SSH-", re.MULTILINE)
GREETING_SHOWN = 200  # characters
MAX_KEYS_NAMED = 6  # in an error
LOGINS_LIMITED = ("Not allowed at this time", "Exceeded MaxStartups")  # messages of sshd, before and since OpenSSH 10


@contextmanager
def raised(login: "Login") -> Iterator[None]:
    """Raise an error that names the step that failed: name, network, host key or authentication."""
    try:
        yield
    except NoBanner as error:
        raise _no_banner(login, error) from error
    except asyncssh.HostKeyNotVerifiable as error:
        raise login.trust.error(error.reason) from error
    except asyncssh.PermissionDenied as error:
        raise _refused(login) from error
    except asyncssh.ChannelOpenError as error:
        raise _unreachable(login, f"{login.machine} cannot be reached from the jump host: {error.reason}") from error
    except DISCONNECTED as error:
        raise _disconnected(login) from error
    except asyncssh.DisconnectError as error:
        if "too many authentication failures" in error.reason.lower():
            raise _refused(login, too_many_keys=True) from error
        raise _unreachable(login, f"{login.machine}: {error.reason}") from error
    except TimeoutError as error:
        raise _timed_out(login) from error
    except (OSError, asyncssh.Error) as error:
        raise _unreachable(login, f"{login.machine}: {error}") from error


def _no_banner(login: "Login", reason: object) -> PodUnreachable:
    return _unreachable(login, f"{'' if login.is_pod else 'jump host: '}{reason}")


def _unreachable(login: "Login", reason: str) -> PodUnreachable:
    return PodUnreachable(login.pod, reason, hint=login.hint)


def _timed_out(login: "Login") -> PodUnreachable:
    if login.words.is_waiting_for:
        return PodUnreachable(
            login.pod,
            f"the login to {login.machine} was not confirmed within {CONFIRMATION_TIMEOUT / 60:.0f} min",
            hint=f"repeat the command, and open the address that it shows: {login.words.url}",
        )
    if login.transport and not login.greeting:
        return _no_banner(login, login.transport.silence)
    if login.via and (login.connection is None or login.connection.get_extra_info("server_version") is None):
        return _unreachable(login, f"{login.machine} did not answer the jump host within {login.connect_timeout:g} s")
    return _unreachable(login, f"{login.machine} answers, but the login was not complete within {LOGIN_TIMEOUT:.0f} s")


def _disconnected(login: "Login") -> PodUnreachable:
    banner = SSH_BANNER.search(login.greeting)
    line = "" if banner else safe_line(login.greeting.strip().partition("\n")[0])[:GREETING_SHOWN]
    if any(message in line for message in LOGINS_LIMITED):
        return PodUnreachable(
            login.pod,
            f"{login.machine} accepts no more logins for now (it sent `{line}`)",
            hint="after many or failed logins sshd blocks an address for a while: try again in a minute or two",
        )
    if line:
        return _unreachable(login, f"{login.machine} is not an SSH server: it sent `{line}`")
    if reason := login.words.reason if login.words.is_not_yet else login.words.last_word and login.words.reason:
        too_early = "when the machine has booted, repeat the command; until then only root can log in"
        return PodUnreachable(
            login.pod,
            f"{login.machine} refused the login of `{login.destination.user}`: it says `{reason}`",
            hint=too_early if login.words.is_not_yet else fill("try to log in with `{ssh}`", ssh=login.ssh),
        )
    return _unreachable(login, f"{login.machine} closed the connection before the login was complete")


def _refused(login: "Login", *, too_many_keys: bool = False) -> PodUnreachable:
    """Name the keys that were tried, and those that were not."""
    after = " after too many keys" if too_many_keys else ""
    if login.keys.locked:
        file = str(login.keys.locked[0])
        hint = "load it into your ssh agent with `ssh-add {file}`, or run pi in a terminal and enter the passphrase"
        return PodUnreachable(
            login.pod,
            f"{login.machine} refused the login of `{login.destination.user}`{after}: `{file}` needs its passphrase",
            hint=fill(hint, file=file),
        )
    if login.also_asked:
        return PodUnreachable(
            login.pod,
            f"{login.machine} accepted the key of `{login.destination.user}` and asks for more: "
            f"`{safe_line(login.also_asked[0])[:GREETING_SHOWN]}`",
            hint="run pi in a terminal and answer there; or have your own ssh log in, with `ProxyCommand` and "
            "`ControlMaster` (`pi help ssh`)",
        )
    tried = [str(offer) for offer in login.tried]
    reason = f"it accepted none of the keys: {_listed(tried)}" if tried else "no SSH key found"
    if not tried and login.keys.offers:
        reason = "it does not accept public keys, and pi has no other method"
    skipped = f"; not tried: {_listed(login.keys.skipped)}" if login.keys.skipped else ""
    hint = fill("check that `{ssh}` logs in without a password", ssh=login.ssh)
    if too_many_keys:
        hint = "name the right key: add `-i KEY -o IdentitiesOnly=yes` to the ssh command"
    return PodUnreachable(
        login.pod,
        f"{login.machine} refused the login of `{login.destination.user}`{after}: {reason}{skipped}",
        hint=hint,
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_KEYS_NAMED} more" if len(names) > MAX_KEYS_NAMED else ""
    return ", ".join(names[:MAX_KEYS_NAMED]) + more
