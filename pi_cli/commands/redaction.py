"""Hide in a report what identifies machines and people: host names, addresses, users, the home folder."""

import getpass
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pi_cli import interrupts
from pi_cli.errors import PiError
from pi_cli.store.records import Pod

IPV4 = r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)"
IPV6 = r"(?<![\w:])(?:[0-9a-f]{1,4}::[0-9a-f:]*|(?:[0-9a-f]{1,4}:){3,7}[0-9a-f:]+)(?![\w:])"
ADDRESS = re.compile(f"{IPV4}|{IPV6}", re.IGNORECASE)
USER_AT_HOST = re.compile(r"[\w.+-]+@[\w.-]+")
DOMAIN = re.compile(r"\b(?:[a-z0-9-]+\.)+(?!json|log|lock|md|pub|py|sh|toml|txt)[a-z]{2,}\b", re.IGNORECASE)
EVERYWHERE = {"root", "localhost", "ubuntu", "user"}  # hide nothing, and are parts of other words


class Redaction:
    """Replaces what identifies; equal names stay equal, so that a report can still be read."""

    def __init__(self, pods: Mapping[str, Pod]) -> None:
        hosts, users = _places(pods)
        named = [host for host in dict.fromkeys(hosts) if host and not ADDRESS.fullmatch(host)]
        names = {socket.gethostname(): "HOST", **dict.fromkeys([*_own_user(), *users], "USER")}
        names |= {host: f"HOST{number}" for number, host in enumerate(named, 1)}
        self._words = {word: name for word, name in names.items() if word.lower() not in {"", *EVERYWHERE}}
        home = str(Path.home())
        self._home = home if home not in ("/", "/root") else ""

    def hide_home(self, text: str) -> str:
        return text.replace(self._home, "~") if self._home else text

    def hide(self, text: str) -> str:
        """Return a text without what identifies.

        >>> hidden = Redaction({"dc1": Pod("ssh carol@gpu7.example.com")})
        >>> hidden.hide("carol at gpu7.example.com, 10.1.2.3, fe80::1, gpu8.example.com; vLLM 0.32.0 at 12:30:00")
        'USER at HOST1, ADDRESS, ADDRESS, HOST; vLLM 0.32.0 at 12:30:00'
        """
        text = self.hide_home(text)
        for word in sorted(self._words, key=len, reverse=True):
            text = re.sub(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", self._words[word], text)
        text = USER_AT_HOST.sub("USER@HOST", ADDRESS.sub("ADDRESS", text))
        return DOMAIN.sub("HOST", text)


def _own_user() -> list[str]:
    with suppress(OSError, KeyError):  # a user id that is not in the password database
        return [getpass.getuser()]
    return []


def _places(pods: Mapping[str, Pod]) -> tuple[list[str], list[str]]:
    """Return the hosts and the users of ssh commands, as typed and as the user's configuration has them."""

    from pi_cli.ssh import ssh_command, ssh_config

    hosts: list[str] = []
    users: list[str] = []
    for pod in pods.values():
        with suppress(PiError):
            command = ssh_command.parse(pod.ssh)
            hosts.append(command.host)
            for destination in interrupts.run(ssh_config.route(command)):
                hosts += [destination.given, destination.host]
                users.append(destination.user)
        users += re.findall(r"([\w.+-]+)@", pod.ssh)
    return hosts, users
