"""The options of ssh(1) and ssh_config(5), OpenSSH 10: which pi honours, which mean nothing to it, which it refuses.

Honoured is what the way in obeys: `ssh_config`, `ways`, `keys`, `trust` and `login` of this room. A test sees to that.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

KEYS_ONLY = "pi logs in with keys only"
VERIFIED = "pi verifies the host key all the same"
NOT_FORWARDED = "nothing of yours is forwarded to a pod: no agent, display or ticket"
FORWARDINGS = "pi forwards ports by itself, when it needs one"
TERMINAL = "pi needs no terminal, and `pi ssh` has one"
ENVIRONMENT = "no variables are sent to a pod"
CONNECTIONS = "pi makes connections of its own"
PATIENCE = "pi tries again, and keeps a connection alive, by itself"
TALK = "pi says by itself what went wrong"
NO_MATTER = "it makes no difference to pi"

# Letters of ssh(1).
WITH_ARGUMENT = set("BbcDEeFIiJLlmOoPpQRSWw")
IGNORED_FLAGS = {
    letter: why
    for letters, why in {
        "AaXxYyKk": NOT_FORWARDED,
        "gLRDw": FORWARDINGS,
        "fNnTte": TERMINAL,
        "MS": CONNECTIONS,
        "C": NO_MATTER,
        "qvyE": TALK,
    }.items()
    for letter in letters
}
FLAGS_FOR_KEYWORDS = {
    "J": "ProxyJump", "P": "Tag", "b": "BindAddress", "c": "Ciphers", "i": "IdentityFile",
    "l": "User", "m": "MACs", "p": "Port",
}  # fmt: skip
REFUSED_FLAGS = {
    "B": ("it binds to a network interface", "give its address, with `-b`"),
    "G": ("it shows settings instead of logging in", "leave it out"),
    "I": ("it uses a key on a token", "load that key into your agent with `ssh-add -s`"),
    "O": ("it controls another connection", "leave it out"),
    "Q": ("it lists algorithms instead of logging in", "leave it out"),
    "V": ("it shows a version instead of logging in", "leave it out"),
    "W": ("it leads on to another host", "give the host in between with `-J`, and that other host as the pod"),
    "s": ("it asks for a subsystem instead of a shell", "leave it out"),
}

# Keywords of ssh_config(5), in small letters.
IGNORED_KEYWORDS = {
    keyword.lower(): why
    for keywords, why in {
        "BatchMode ChallengeResponseAuthentication EnableSSHKeysign GSSAPIAuthentication GSSAPIKeyExchange "
        "HostbasedAcceptedAlgorithms HostbasedAuthentication KbdInteractiveAuthentication KbdInteractiveDevices "
        "NumberOfPasswordPrompts PasswordAuthentication PreferredAuthentications": KEYS_ONLY,
        "CheckHostIP FingerprintHash GlobalKnownHostsFile HashKnownHosts NoHostAuthenticationForLocalhost "
        "StrictHostKeyChecking UpdateHostKeys UserKnownHostsFile VerifyHostKeyDNS VisualHostKey": VERIFIED,
        "ForwardAgent ForwardX11 ForwardX11Timeout ForwardX11Trusted GSSAPIDelegateCredentials XAuthLocation": (
            NOT_FORWARDED
        ),
        "ClearAllForwardings DynamicForward ExitOnForwardFailure GatewayPorts LocalForward PermitRemoteOpen "
        "RemoteForward StreamLocalBindMask StreamLocalBindUnlink Tunnel TunnelDevice": FORWARDINGS,
        "EnableEscapeCommandline EscapeChar ForkAfterAuthentication ObscureKeystrokeTiming RequestTTY SessionType "
        "StdinNull": TERMINAL,
        "SendEnv SetEnv": ENVIRONMENT,
        "ControlMaster ControlPath ControlPersist": CONNECTIONS,
        "ConnectionAttempts ServerAliveCountMax ServerAliveInterval TCPKeepAlive": PATIENCE,
        "LogLevel LogVerbose SyslogFacility WarnWeakCrypto": TALK,
        "AddKeysToAgent ChannelTimeout Compression IgnoreUnknown IPQoS RekeyLimit UseKeychain VersionAddendum": (
            NO_MATTER
        ),
    }.items()
    for keyword in keywords.split()
}

REFUSED_KEYWORDS = {
    keyword.lower(): reason
    for keywords, reason in {
        "KnownHostsCommand LocalCommand PermitLocalCommand": ("it is about running commands here", "leave it out"),
        "PKCS11Provider": REFUSED_FLAGS["I"],
        "PreferredAuthentications": (KEYS_ONLY, "log in with a key, or leave it out if that is possible"),
        "RemoteCommand": ("it would run a command on the pod", "leave it out; for commands use `pi ssh`"),
        "SecurityKeyProvider": ("it uses a key on a token", "load that key into your agent with `ssh-add`"),
        "Host Include Match": ("it is for files", "put it into ~/.ssh/config"),
    }.items()
    for keyword in keywords.split()
}


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value.lower() not in choices:
            raise ValueError(f"`{value}` is none of {', '.join(choices)}")
        return value.lower()

    return read


def _word(value: str) -> str:
    if re.search(r"[\s\"'\\#]", value):
        raise ValueError(f"`{value}` is not one word")
    return value


def _words(value: str) -> str:
    return " ".join(_word(each) for each in value.split())


def _jumps(value: str) -> str:
    """Check `[USER@]HOST[:PORT]`, several of them with commas in between."""
    if value.lower() == "none":
        return "none"
    for hop in value.split(","):
        if not re.fullmatch(
            r"(?:ssh://)?(?:[^\s@,'\"$\\;&<>|(){}-][^\s,'\"$\\;&<>|(){}]*@)?[\w.:%\[\]][\w.:%\[\]-]*", hop
        ):
            raise ValueError(f"`{hop}` is not of the form USER@HOST:PORT")
    return value


def path(value: str) -> str:
    """Return a file's absolute path, as it is from now on, wherever pi is called.

    `~`, `~user` and variables stand for what they are here; `%d` and its like are left to ssh.
    """

    def variable(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in os.environ:
            raise ValueError(f"`${name}` is not set here")
        return os.environ[name]

    if re.match(r"[A-Za-z]:", value):
        raise ValueError(f"`{value}` is a path of Windows")
    value = os.path.expanduser(re.sub(r"\$(?:\{(\w+)\}|(\w+))", variable, value))  # noqa: PTH111 - leaves ~nobody
    if value.startswith("~"):
        raise ValueError(f"there is no user `{value[1:].partition('/')[0]}` here")
    return value if value.startswith(("/", "%")) else f"{str(Path.cwd()).replace('%', '%%')}/{value}"


def _file(value: str) -> str:
    if value.lower() == "none":
        return "none"
    found = path(value)
    return '"' + re.sub(r'(["\\])', r"\\\1", found) + '"' if re.search(r"[\s\"'\\#]", found) else found


def _agent(value: str) -> str:
    return value if value == "SSH_AUTH_SOCK" else _file(value)


YES_OR_NO = _one_of("yes", "no", "true", "false")
HONOURED: dict[str, Callable[[str], str]] = {
    "AddressFamily": _one_of("any", "inet", "inet6"),
    "BindAddress": _word,
    "CanonicalDomains": _words,
    "CanonicalizeFallbackLocal": YES_OR_NO,
    "CanonicalizeHostname": _one_of("yes", "no", "true", "false", "always"),
    "CertificateFile": _file,
    "Ciphers": _word,
    "HostKeyAlgorithms": _word,
    "HostKeyAlias": _word,
    "Hostname": _word,
    "IdentitiesOnly": YES_OR_NO,
    "IdentityAgent": _agent,
    "IdentityFile": _file,
    "KexAlgorithms": _word,
    "MACs": _word,
    "ProxyCommand": str,  # a shell runs it, as ssh has it: who typed it can type any command
    "ProxyJump": _jumps,
    "PubkeyAuthentication": _one_of("yes", "true", "unbound", "host-bound"),
    "Tag": _word,
}
FILES = {"CertificateFile", "IdentityAgent", "IdentityFile"}
NAMES = {name.lower(): name for name in HONOURED}


def ignored(keyword: str, value: str) -> str | None:
    """Return why an option means nothing to pi, if that is so."""
    if keyword.lower() == "preferredauthentications" and "publickey" not in value.lower().split(","):
        return None
    if keyword.lower() == "remotecommand" and value.lower() == "none":
        return NO_MATTER
    return IGNORED_KEYWORDS.get(keyword.lower())


def seconds(value: str) -> float:
    """Read a time as ssh_config(5) has it.

    >>> seconds("1m30")
    90.0
    """
    units = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    if not re.fullmatch(r"(?:[0-9]+[smhdw]?)+", value.lower()):
        raise ValueError(f"`{value}` is not a number of seconds")
    total = float(sum(int(count) * units[unit] for count, unit in re.findall(r"([0-9]+)([smhdw]?)", value.lower())))
    if not total:
        raise ValueError(f"`{value}` is not a number of seconds")
    return total


def port(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", value) or not 0 < int(value) < 65536:
        raise ValueError(f"`{value}` is not a port: a number from 1 to 65535")
    return int(value)
