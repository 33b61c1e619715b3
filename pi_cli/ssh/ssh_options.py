"""The options of ssh(1) and ssh_config(5), OpenSSH 10: those that pi honours, ignores and refuses.

An option is honoured if the login obeys it: `ssh_config`, `transport`, `keys`, `trust` and `login` in this folder. A
test checks that.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

KEYS_ONLY = "pi logs in with keys only"
VERIFIED = "pi verifies the host key anyway"
NOT_FORWARDED = "pi forwards no agent, display or ticket to a pod"
OWN_FORWARDS = "pi forwards ports itself, as needed"
TERMINAL = "pi needs no terminal; `pi ssh` has one"
ENVIRONMENT = "pi sends no variables to a pod"
OWN_CONNECTIONS = "pi opens its own connections"
OWN_RETRIES = "pi retries and keeps connections alive itself"
OWN_ERRORS = "pi reports errors itself"
NO_EFFECT = "it has no effect on pi"
OBSOLETE = "today's ssh ignores it too"
SIGNATURES = "pi signs with each key as its type demands"
NO = ("no", "false")
AUTHORITY_SIGNATURES = (
    "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,sk-ssh-ed25519@openssh.com,"
    "sk-ecdsa-sha2-nistp256@openssh.com,rsa-sha2-512,rsa-sha2-256"
)

# Letters of ssh(1).
WITH_ARGUMENT = set("BbcDEeFIiJLlmOoPpQRSWw")
IGNORED_FLAGS = {
    letter: why
    for letters, why in {
        "AaXxYyKk": NOT_FORWARDED,
        "gLRDw": OWN_FORWARDS,
        "fNnTte": TERMINAL,
        "MS": OWN_CONNECTIONS,
        "C": NO_EFFECT,
        "qvyE": OWN_ERRORS,
    }.items()
    for letter in letters
}
FLAGS_FOR_KEYWORDS = {
    "J": "ProxyJump", "P": "Tag", "b": "BindAddress", "c": "Ciphers", "i": "IdentityFile",
    "l": "User", "m": "MACs", "p": "Port",
}  # fmt: skip
REFUSED_FLAGS = {
    "B": ("it binds to a network interface", "give the interface's address with `-b`"),
    "G": ("it shows settings instead of logging in", "leave it out"),
    "I": ("it uses a key on a hardware token", "load that key into your agent with `ssh-add -s`"),
    "O": ("it controls another connection", "leave it out"),
    "Q": ("it lists algorithms instead of logging in", "leave it out"),
    "V": ("it shows a version instead of logging in", "leave it out"),
    "W": ("it forwards to another host", "give the jump host with `-J`, and the other host as the pod"),
    "s": ("it requests a subsystem instead of a shell", "leave it out"),
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
        "RemoteForward StreamLocalBindMask StreamLocalBindUnlink Tunnel TunnelDevice": OWN_FORWARDS,
        "EnableEscapeCommandline EscapeChar ForkAfterAuthentication ObscureKeystrokeTiming RequestTTY SessionType "
        "StdinNull": TERMINAL,
        "SendEnv SetEnv": ENVIRONMENT,
        "ControlMaster ControlPath ControlPersist": OWN_CONNECTIONS,
        "ConnectionAttempts ServerAliveCountMax ServerAliveInterval TCPKeepAlive": OWN_RETRIES,
        "LogLevel LogVerbose SyslogFacility WarnWeakCrypto": OWN_ERRORS,
        "AddKeysToAgent ChannelTimeout Compression IgnoreUnknown IPQoS RekeyLimit UseKeychain VersionAddendum": (
            NO_EFFECT
        ),
        "AFSTokenPassing Cipher CompressionLevel FallBackToRsh GlobalKnownHostsFile2 KerberosAuthentication "
        "KerberosTGTPassing Protocol RhostsAuthentication RhostsRSAAuthentication RSAAuthentication "
        "SKeyAuthentication TISAuthentication UseBlacklistedKeys UsePrivilegedPort UserKnownHostsFile2 UseRoaming "
        "UseRsh": OBSOLETE,
        "DSAAuthentication GSSAPIClientIdentity GSSAPIKexAlgorithms GSSAPIRenewalForcesRekey GSSAPIServerIdentity "
        "GSSAPITrustDns HostbasedKeyTypes": KEYS_ONLY,
        "KeepAlive": OWN_RETRIES,
        "PubkeyAcceptedAlgorithms PubkeyAcceptedKeyTypes": SIGNATURES,
    }.items()
    for keyword in keywords.split()
}

# Keywords that pi refuses, with the values that mean what pi does anyway: programs that print ssh commands write
# defaults out. Those in `IGNORED_KEYWORDS` need no entry.
DEFAULT_VALUES = {
    keyword.lower(): values
    for keyword, values in {
        "BindInterface": ("none",),
        "CanonicalizeMaxDots": ("1",),
        "CanonicalizePermittedCNAMEs": ("none",),
        "CASignatureAlgorithms": (AUTHORITY_SIGNATURES,),
        "ConnectTimeout": ("none", "0", "0s"),  # `coder` writes 0
        "KnownHostsCommand": ("none",),
        "LocalCommand": ("none",),
        "PermitLocalCommand": NO,
        "PKCS11Provider": ("none",),
        "ProxyUseFdpass": NO,
        "RefuseConnection": ("none",),
        "RequiredRSASize": ("1024",),
        "RevokedHostKeys": ("none",),
        "SecurityKeyProvider": ("internal", "$ssh_sk_provider"),
        "Tag": ("none",),
    }.items()
}

REFUSED_KEYWORDS = {
    keyword.lower(): reason
    for keywords, reason in {
        "KnownHostsCommand LocalCommand PermitLocalCommand": ("it runs commands on this machine", "leave it out"),
        "PKCS11Provider": REFUSED_FLAGS["I"],
        "PreferredAuthentications": (KEYS_ONLY, "leave it out, and log in with a key"),
        "RemoteCommand": ("it would run a command on the pod", "leave it out; to run commands use `pi ssh`"),
        "SecurityKeyProvider": ("it uses a key on a hardware token", "load that key into your agent with `ssh-add`"),
        "Host Include Match": ("it belongs in a configuration file", "put it into ~/.ssh/config"),
    }.items()
    for keyword in keywords.split()
}


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value.lower() not in choices:
            raise ValueError(f"`{value}` is not one of {', '.join(choices)}")
        return value.lower()

    return read


def _word(value: str) -> str:
    if re.search(r"[\s\"'\\#]", value):
        raise ValueError(f"`{value}` is not one word")
    return value


def _words(value: str) -> str:
    return " ".join(_word(word) for word in value.split())


def _jumps(value: str) -> str:
    """Check one or more `[USER@]HOST[:PORT]`, separated by commas."""
    if value.lower() == "none":
        return "none"
    for hop in value.split(","):
        if not re.fullmatch(
            r"(?:ssh://)?(?:[^\s@,'\"$\\;&<>|(){}-][^\s,'\"$\\;&<>|(){}]*@)?[\w.:%\[\]][\w.:%\[\]-]*", hop
        ):
            raise ValueError(f"`{hop}` is not of the form USER@HOST:PORT")
    return value


def path(value: str) -> str:
    """Return a file's absolute path, which holds wherever pi is called later.

    `~`, `~user` and variables are expanded now; `%d` and other tokens are left to ssh.
    """

    def variable(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in os.environ:
            raise ValueError(f"`${name}` is not set")
        return os.environ[name]

    if re.match(r"[A-Za-z]:", value):
        raise ValueError(f"`{value}` is a Windows path")
    value = os.path.expanduser(re.sub(r"\$(?:\{(\w+)\}|(\w+))", variable, value))  # noqa: PTH111 - leaves an unknown ~user
    if value.startswith("~"):
        raise ValueError(f"there is no user `{value[1:].partition('/')[0]}` on this machine")
    return value if value.startswith(("/", "%")) else f"{str(Path.cwd()).replace('%', '%%')}/{value}"


def _file(value: str) -> str:
    if value.lower() == "none":
        return "none"
    absolute = path(value)
    return '"' + re.sub(r'(["\\])', r"\\\1", absolute) + '"' if re.search(r"[\s\"'\\#]", absolute) else absolute


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
    "ProxyCommand": str,  # a shell runs it, as with ssh: the user who typed it can type any command
    "ProxyJump": _jumps,
    "PubkeyAuthentication": _one_of("yes", "true", "unbound", "host-bound"),
    "Tag": _word,
}
FILE_OPTIONS = {"CertificateFile", "IdentityAgent", "IdentityFile"}
CANONICAL_NAMES = {name.lower(): name for name in HONOURED}


def is_default(keyword: str, value: str) -> bool:
    """Return whether a value is the default of an option that pi refuses otherwise, and so no reason to refuse."""
    return value.lower() in DEFAULT_VALUES.get(keyword.lower(), ())


def unquoted(value: str) -> str:
    """Return the path that `_file` made a value of."""
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def is_missing(value: str) -> bool:
    """Return whether a file is not there, nor its public half, which is enough for a key that the agent holds.

    False where only ssh can say: with tokens in the path.
    """
    file = unquoted(value).replace("%%", "%")
    if value == "none" or unquoted(value).replace("%%", "").count("%"):
        return False
    return not any(os.path.exists(name) for name in (file, f"{file}.pub"))  # noqa: PTH110 - a pipe is fine too


def ignored(keyword: str, value: str) -> str | None:
    """Return why pi ignores an option, or None if it does not."""
    if keyword.lower() == "preferredauthentications" and "publickey" not in value.lower().split(","):
        return None
    if keyword.lower() == "remotecommand" and value.lower() == "none":
        return NO_EFFECT
    return IGNORED_KEYWORDS.get(keyword.lower())


def seconds(value: str) -> float:
    """Parse a time in the format of ssh_config(5).

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
