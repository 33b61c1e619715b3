"""Host keys: pinned by name at setup, verified from then on, and the user's own `known_hosts`."""

import subprocess
from pathlib import Path

import pytest

from pi_cli.errors import HostKeyChanged, PodUnreachable
from pi_cli.ssh import host_keys
from tests.conftest import Pi
from tests.lab.openssh import OpensshPod
from tests.openssh.session import learn, said

KINDS = ("ed25519", "ecdsa", "rsa")


def public_key(pod: OpensshPod, kind: str = "ed25519") -> str:
    return " ".join((pod.root / f"etc/ssh/ssh_host_{kind}_key.pub").read_text().split()[:2])


def write_users_file(environment: Path, *lines: str, name: str = "known_hosts") -> Path:
    """Write a file in the user's ~/.ssh."""
    file = environment / ".ssh" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def some_key(environment: Path) -> str:
    """Return the public key of another machine."""
    key = environment / "some_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    return " ".join(Path(f"{key}.pub").read_text().split()[:2])


def test_a_key_is_pinned_once_under_the_name_of_the_pod(openssh_pod: OpensshPod) -> None:
    """Fault 9."""
    with pytest.raises(PodUnreachable, match=r"its host key SHA256:.* is not known to pi"):
        said(openssh_pod.ssh, learn=False)
    assert host_keys.read("dc1") is None
    assert learn(openssh_pod).learned == openssh_pod.fingerprint()
    assert host_keys.read("dc1") == public_key(openssh_pod)
    assert learn(openssh_pod).learned is None
    assert said(openssh_pod.ssh, learn=False) == "root"


def test_a_key_is_not_pinned_if_the_login_fails(openssh_pod: OpensshPod) -> None:
    (openssh_pod.home / ".ssh/authorized_keys").write_text("")
    with pytest.raises(PodUnreachable, match="refused the login"):
        learn(openssh_pod)
    assert host_keys.read("dc1") is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_with_keys_of_several_types_is_asked_for_the_known_one(openssh_pod: OpensshPod, kind: str) -> None:
    host_keys.remember("dc1", public_key(openssh_pod, kind))
    assert said(openssh_pod.ssh, learn=False) == "root"
    assert learn(openssh_pod).learned is None
    assert host_keys.read("dc1") == public_key(openssh_pod, kind)


def test_a_machine_without_a_key_of_the_known_type_has_changed(openssh_pod: OpensshPod) -> None:
    """Fault 8."""
    learn(openssh_pod)
    openssh_pod.sshd_config(HostKey="/etc/ssh/ssh_host_rsa_key")
    openssh_pod.restart_sshd()
    with pytest.raises(HostKeyChanged) as raised:
        said(openssh_pod.ssh)
    assert f"now {openssh_pod.fingerprint('rsa')}" in str(raised.value)


def test_a_changed_key_is_refused_until_it_is_accepted_for_that_pod(openssh_pod: OpensshPod) -> None:
    """Faults 8 and 10, security check 12."""
    learn(openssh_pod)
    host_keys.remember("dc2", public_key(openssh_pod))
    before = openssh_pod.fingerprint()
    openssh_pod.new_host_key()
    now = openssh_pod.fingerprint()
    for setting_up in (False, True):
        with pytest.raises(HostKeyChanged) as raised:
            said(openssh_pod.ssh, learn=setting_up)
        changed = (
            f"its host key changed (known {before}, now {now}): either the machine was recreated, or the connection"
        )
        assert f"{changed} is being intercepted" in str(raised.value)
        assert f"`pi pods setup dc1 '{openssh_pod.ssh}' --accept-new-host-key`" in str(raised.value.hint)
    assert learn(openssh_pod, accept_new=True).learned == now
    assert said(openssh_pod.ssh, learn=False) == "root"
    assert host_keys.read("dc2") != host_keys.read("dc1")


@pytest.mark.parametrize("switch", ["-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null", "in the config"])
def test_the_check_cannot_be_switched_off(openssh_pod: OpensshPod, environment: Path, switch: str) -> None:
    """Security checks 12 and 14."""
    if switch == "in the config":
        write_users_file(
            environment, "Host *", "  StrictHostKeyChecking no", "  UserKnownHostsFile /dev/null", name="config"
        )
        switch = ""
    ssh = f"{openssh_pod.ssh} {switch}"
    with pytest.raises(PodUnreachable, match="not known to pi"):
        said(ssh, learn=False)
    learn(openssh_pod, ssh)
    openssh_pod.new_host_key()
    with pytest.raises(HostKeyChanged):
        said(ssh, learn=False)


def test_an_address_that_another_pod_had_raises_no_false_alarm(openssh_pod: OpensshPod) -> None:
    learn(openssh_pod)
    openssh_pod.new_host_key()
    openssh_pod.name = "dc2"
    assert learn(openssh_pod).learned == openssh_pod.fingerprint()
    assert host_keys.read("dc1") != host_keys.read("dc2")


FORMS = {
    "plain": "{address} {key}",
    "among others": "gpu,{address},*.example.com {key}",
    "a pattern": "10.86.* {key}",
    "after malformed lines": "no\n|2|x|y {key}\n@what {address} {key}\n{address} ssh-dss A\n{address} {key}",
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_the_users_ssh_trusts_is_trusted(
    openssh_pod: OpensshPod, environment: Path, form: str, kind: str
) -> None:
    write_users_file(environment, form.format(address=openssh_pod.address, key=public_key(openssh_pod, kind)))
    assert said(openssh_pod.ssh, learn=False) == "root"
    assert host_keys.read("dc1") == public_key(openssh_pod, kind)


def test_a_name_with_a_port_may_be_hashed(openssh_pod: OpensshPod, environment: Path) -> None:
    openssh_pod.sshd_config(Port=40022)
    openssh_pod.restart_sshd()
    known = write_users_file(environment, f"[{openssh_pod.address}]:40022 {public_key(openssh_pod)}")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True, capture_output=True)
    assert known.read_text().startswith("|1|")
    assert said(openssh_pod.ssh, learn=False) == "root"


def test_a_host_key_alias_is_looked_up_without_a_port(openssh_pod: OpensshPod, environment: Path) -> None:
    openssh_pod.sshd_config(Port=40022)
    openssh_pod.restart_sshd()
    write_users_file(environment, "Host *", "  HostKeyAlias gpu", name="config")
    write_users_file(environment, f"gpu {public_key(openssh_pod)}", f"{openssh_pod.address} {some_key(environment)}")
    assert said(openssh_pod.ssh, learn=False) == "root"


def test_the_known_hosts_file_of_the_configuration_is_read(openssh_pod: OpensshPod, environment: Path) -> None:
    known = write_users_file(environment, f"{openssh_pod.address} {public_key(openssh_pod)}", name="my hosts")
    write_users_file(environment, "Host *", f'  UserKnownHostsFile "{known}"', name="config")
    assert said(openssh_pod.ssh, learn=False) == "root"


@pytest.mark.parametrize("owner", [None, "dc9"])
def test_setup_stops_if_the_users_ssh_knows_another_key(
    openssh_pod: OpensshPod, environment: Path, owner: str | None
) -> None:
    """Fault 9."""
    other = some_key(environment)
    write_users_file(environment, f"{openssh_pod.address} {other}")
    if owner:
        host_keys.remember(owner, other)
    with pytest.raises(PodUnreachable) as raised:
        learn(openssh_pod)
    message = str(raised.value)
    assert f"its host key {openssh_pod.fingerprint()} is not the one that your own known_hosts has" in message
    assert f"for `{openssh_pod.address}` (SHA256:" in message
    assert ("the key of pod `dc9`" in message) == bool(owner)
    assert "another machine had this address before, or the connection is being intercepted" in message
    assert host_keys.read("dc1") is None
    assert learn(openssh_pod, accept_new=True).learned == openssh_pod.fingerprint()
    assert (
        said(openssh_pod.ssh, learn=False) == "root"
    )  # the pinned name counts now, whatever the entry for the address


def test_a_key_for_another_port_of_a_shared_address_does_not_contradict(
    openssh_pod: OpensshPod, environment: Path
) -> None:
    openssh_pod.sshd_config(Port=40022)
    openssh_pod.restart_sshd()
    other = some_key(environment)
    write_users_file(environment, f"{openssh_pod.address} {other}", f"[{openssh_pod.address}]:40023 {other}")
    assert learn(openssh_pod).learned == openssh_pod.fingerprint()


def test_a_key_for_the_host_without_a_port_is_also_trusted(openssh_pod: OpensshPod, environment: Path) -> None:
    openssh_pod.sshd_config(Port=40022)
    openssh_pod.restart_sshd()
    write_users_file(environment, f"{openssh_pod.address} {public_key(openssh_pod)}")
    assert said(openssh_pod.ssh, learn=False) == "root"


@pytest.mark.parametrize("pinned", [True, False])
def test_a_revoked_key_is_always_refused(openssh_pod: OpensshPod, environment: Path, pinned: bool) -> None:
    if pinned:
        learn(openssh_pod)
    key = public_key(openssh_pod)
    write_users_file(environment, f"{openssh_pod.address} {key}", f"@revoked * {key}")
    with pytest.raises(PodUnreachable, match="its host key cannot be trusted: Host key is revoked"):
        learn(openssh_pod, accept_new=True)


def certify(pod: OpensshPod, environment: Path, principal: str) -> str:
    """Have an authority certify the machine's key; return the authority's key."""
    authority, key = environment / "authority", environment / "host.pub"
    if not authority.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", authority], check=True)
    key.write_text(public_key(pod))
    subprocess.run(["ssh-keygen", "-q", "-s", authority, "-I", "pod", "-h", "-n", principal, key], check=True)
    (pod.root / "etc/ssh/host-cert.pub").write_text((environment / "host-cert.pub").read_text())
    pod.sshd_config(HostCertificate="/etc/ssh/host-cert.pub")
    pod.restart_sshd()
    return " ".join((environment / "authority.pub").read_text().split()[:2])


def test_a_key_signed_by_an_authority_is_trusted_and_so_is_the_next(openssh_pod: OpensshPod, environment: Path) -> None:
    authority = certify(openssh_pod, environment, openssh_pod.address)
    write_users_file(environment, f"@cert-authority 10.86.* {authority}")
    assert said(openssh_pod.ssh, learn=False) == "root"
    assert host_keys.read("dc1") is None
    openssh_pod.new_host_key()
    certify(openssh_pod, environment, openssh_pod.address)
    assert said(openssh_pod.ssh, learn=False) == "root"
    certify(openssh_pod, environment, "another.example.com")
    with pytest.raises(PodUnreachable, match=r"its host key cannot be trusted: .*principal"):
        learn(openssh_pod)


def test_the_users_own_ssh_verifies_the_pinned_key(pi: Pi, openssh_pod: OpensshPod, environment: Path) -> None:
    """`pi ssh` uses pi's file and the pod's name; jump hosts in the same file do not matter."""
    learn(openssh_pod)
    host_keys.remember("dc1/[fe80::1%eth0]:2222", public_key(openssh_pod, "rsa"))
    (environment / ".pi/pods.json").write_text(
        f'{{"pods": {{"dc1": {{"ssh": "{openssh_pod.ssh}", "gpus": [], "models": {{}}}}}}, "active": "dc1"}}'
    )
    assert pi("ssh", "dc1", "id -un").out == "root\n"
    openssh_pod.new_host_key()
    changed = pi("ssh", "dc1", "id -un")
    assert (changed.code, "HOST IDENTIFICATION HAS CHANGED" in changed.err) == (255, True)
