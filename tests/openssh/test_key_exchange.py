"""Servers that allow only the post-quantum key exchange that OpenSSH has had since 8.5."""

from tests.lab.openssh import OpensshPod
from tests.openssh.session import said

ONLY = "sntrup761x25519-sha512@openssh.com"


def test_an_sshd_with_a_post_quantum_key_exchange_only_lets_pi_in(openssh_pod: OpensshPod) -> None:
    """Finding 18. `RekeyLimit` has both ends exchange keys again and again."""
    openssh_pod.sshd_config(KexAlgorithms=ONLY, RekeyLimit="64K")
    openssh_pod.restart_sshd()
    assert said(openssh_pod.ssh) == "root"
    counted = said(openssh_pod.ssh, "head -c 400000 /dev/zero | tr '\\0' x")
    assert len(counted) == 400000
    assert said(f"{openssh_pod.ssh} -o KexAlgorithms={ONLY}") == "root"
