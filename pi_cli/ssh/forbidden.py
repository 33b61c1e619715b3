"""Why an sshd forbids port forwarding: the directive or the key's option at fault, read on the pod where possible."""

import re

from pi_cli.hints import fill
from pi_cli.lazy_dataclasses import dataclass
from pi_cli.safe import safe_line

MARK = "pi:forwarding"
MAX_ANSWER = 1 << 16  # bytes of the answer that are read
MAX_LINE = 200  # characters of a line of configuration that are shown
# The settings in force for this user are for root only, the files often are not.
QUESTION = r"""
PATH=$PATH:/usr/sbin:/sbin
words='allowtcpforwarding|disableforwarding|permitopen'
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
echo pi:forwarding
who="user=$(id -un),host=$(uname -n),addr=${SSH_CONNECTION%% *}"
as_root sshd -T -C "$who" 2>/dev/null | grep -iE "^($words) " | sed 's/^/sshd /'
for file in /etc/ssh/sshd_config /etc/ssh/sshd_config.d/*.conf; do
  grep -inE "^[[:space:]]*($words)([[:space:]]|=)" "$file" /dev/null 2>/dev/null | sed 's/^/file /'
done
for keys in ~/.ssh/authorized_keys ~/.ssh/authorized_keys2; do
  grep -inoE 'no-port-forwarding|(^|,)restrict(,|[[:space:]])|permitopen="[^"]*"|(^|,)port-forwarding' "$keys" \
    /dev/null 2>/dev/null | sed 's/^/key /'
done
exit 0
"""
COMMAND = "exec bash --norc -s"
FOUND = re.compile(r"(file|key) (/[^:]*):(\d+):(.*)")
DIRECTIVES = {"allowtcpforwarding": "AllowTcpForwarding", "disableforwarding": "DisableForwarding"}
CANDIDATES = (
    "as root on the pod, look for `AllowTcpForwarding`, `DisableForwarding` and `PermitOpen` in /etc/ssh/sshd_config "
    "(also in `Match` blocks) and for `no-port-forwarding`, `restrict` and `permitopen=` in ~/.ssh/authorized_keys"
)


@dataclass(frozen=True, slots=True)
class Cause:
    """What forbids forwarding, for an error: `name` is empty if it was not found."""

    name: str
    hint: str


def answers(output: bytes) -> bool:
    """Return whether the pod has run the question at all; some let a user in and run no commands."""
    return MARK in output[:MAX_ANSWER].decode("utf-8", "replace").splitlines()


def cause(output: bytes) -> Cause:
    """Return the cause according to the answer to `QUESTION`."""
    lines = [safe_line(line)[:MAX_LINE] for line in output[:MAX_ANSWER].decode("utf-8", "replace").splitlines()]
    in_force = dict(line[len("sshd ") :].lower().split(" ", 1) for line in lines if re.match(r"sshd \S+ \S", line))
    found = [match.groups() for line in lines if (match := FOUND.fullmatch(line))]
    settings = [(path, number, text.strip()) for kind, path, number, text in found if kind == "file"]
    options = [(path, number, text.strip(", \t")) for kind, path, number, text in found if kind == "key"]
    return _directive(in_force, settings) or _option(options) or Cause("", CANDIDATES)


def _directive(in_force: dict[str, str], settings: list[tuple[str, str, str]]) -> Cause | None:
    for word, name in DIRECTIVES.items():
        needed = "yes" if word == "allowtcpforwarding" else "no"
        allowed = ("yes", "all", "local") if word == "allowtcpforwarding" else ("no",)
        lines = [line for line in settings if _value(line[2], word) not in ("", *allowed)]
        if in_force.get(word, allowed[0]) in allowed and (in_force or not lines):
            continue
        value = in_force.get(word) or _value(lines[0][2], word)
        return _setting(f"{name} {value}", f"{name} {needed}", lines)
    opened = in_force.get("permitopen", "any")
    lines = [line for line in settings if _value(line[2], "permitopen") not in ("", "any")]
    if opened != "any" or (lines and not in_force):
        shown = opened if opened != "any" else _value(lines[0][2], "permitopen")
        return _setting(f"PermitOpen {shown}", "PermitOpen 127.0.0.1:*", lines)
    return None


def _setting(wrong: str, right: str, lines: list[tuple[str, str, str]]) -> Cause:
    if not lines:
        return Cause(f"`{wrong}`", _hint(right, "the pod's /etc/ssh/sshd_config"))
    path, number, _ = lines[0]
    return Cause(f"`{wrong}` in {path}, line {number}", _hint(right, f"the pod's {path}, line {number}"))


def _hint(right: str, place: str) -> str:
    return fill("set `{right}` in {place} and restart its sshd: `sudo systemctl restart ssh`", right=right, place=place)


def _option(options: list[tuple[str, str, str]]) -> Cause | None:
    """Name the option of a key; `port-forwarding` after `restrict` allows it again."""
    allowed = {(path, number) for path, number, text in options if text.lower() == "port-forwarding"}
    for path, number, text in options:
        word = text.lower()
        if word == "port-forwarding" or (word == "restrict" and (path, number) in allowed):
            continue
        change = {
            "no-port-forwarding": "remove `no-port-forwarding`",
            "restrict": "write `restrict,port-forwarding` instead of `restrict`",
        }.get(word, 'add `permitopen="127.0.0.1:*"`')
        return Cause(
            f"`{text}` at a key in {path}, line {number}",
            f"{change} in the pod's {path}, line {number}, if that is your key; it counts from the next login on",
        )
    return None


def _value(line: str, word: str) -> str:
    """Return the value of a directive in a line of configuration, "" for another directive."""
    name, _, value = re.sub(r"\s*=\s*|\s+", " ", line.strip(), count=1).partition(" ")
    return value.strip().strip('"').lower() if name.lower() == word else ""
