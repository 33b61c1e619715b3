"""The algorithms that the user's ssh allows and asyncssh supports."""

from pi_cli.errors import PiError
from pi_cli.ssh import sntrup
from pi_cli.ssh.quick_asyncssh import asyncssh
from pi_cli.ssh.ssh_config import Destination

# The default cipher of ssh is slower in asyncssh than AES-GCM: 2.3 s of processor time per GB instead of 1.4.
SSH_DEFAULT_CIPHER, QUICK_CIPHERS = "chacha20-poly1305@openssh.com", "-gcm"
# In the default of every ssh since 2016, and hardly in a list that a user made. `ML_KEM` is newer than many an ssh.
SSH_DEFAULT_KEY_EXCHANGES = {"curve25519-sha256@libssh.org", "diffie-hellman-group16-sha512"}
ML_KEM = "mlkem768x25519-sha256"
ALGORITHMS = {  # by keyword of ssh_config(5): the option of asyncssh, and what asyncssh supports
    "kexalgorithms": ("kex_algs", asyncssh.kex.get_kex_algs),
    "ciphers": ("encryption_algs", asyncssh.encryption.get_encryption_algs),
    "macs": ("mac_algs", asyncssh.mac.get_mac_algs),
}

sntrup.register()


def allowed(destination: Destination) -> dict[str, list[str]]:
    """Return the algorithms that the user's ssh allows and asyncssh supports."""
    options: dict[str, list[str]] = {}
    for keyword, (option, supported) in ALGORITHMS.items():
        configured = destination.algorithms(keyword)
        if configured[:1] == [SSH_DEFAULT_CIPHER]:
            configured = sorted(configured, key=lambda name: QUICK_CIPHERS not in name)
        if SSH_DEFAULT_KEY_EXCHANGES.issubset(configured):
            configured = list(dict.fromkeys([*configured, ML_KEM, *sntrup.NAMES]))
        configured.sort(key=lambda name: name in sntrup.NAMES)  # last, since it is slow
        options[option] = [name for name in configured if name.encode() in supported()]
        if configured and not options[option]:
            raise PiError(f"your ssh configuration cannot be used: pi supports none of its {keyword}")
    return {option: names for option, names in options.items() if names}
