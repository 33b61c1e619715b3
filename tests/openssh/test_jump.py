"""Jump hosts and proxy commands: real sshd on every hop."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pi_cli.errors import HostKeyChanged, PiError, PodUnreachable
from pi_cli.ssh import host_keys
from tests.lab.openssh import OpensshLab, OpensshPod
from tests.openssh.session import BELIEVING, learn, said, ssh_says

pytestmark = [pytest.mark.openssh, pytest.mark.timeout(300)]  # the first test makes the lab


@pytest.fixture
def hosts(openssh_lab: OpensshLab) -> Iterator[tuple[OpensshPod, OpensshPod, OpensshPod]]:
    """The pod, and two hosts on the way to it; each lets in another key. The pod answers the inner one only."""
    with openssh_lab.pod("dc1") as pod, openssh_lab.pod("inner") as inner, openssh_lab.pod("outer") as outer:
        yield pod, inner, outer


def configure(environment: Path, hosts: tuple[OpensshPod, OpensshPod, OpensshPod], pods_way: str, inners: str) -> Path:
    """Write a configuration with the three hosts, and the ways to the pod and to the inner host."""
    pod, inner, outer = hosts
    config = environment / ".ssh/config"
    config.parent.mkdir(exist_ok=True)
    lines = []
    for host, way in ((pod, pods_way), (inner, inners), (outer, "")):
        lines += [f"Host {host.name}", f"  HostName {host.address}", "  User root", f"  IdentityFile {host.key}"]
        lines += [f"  {way}"] if way else []
    config.write_text("".join(f"{line}\n" for line in lines))
    return config


WAYS = {
    "one hop": ("ProxyJump inner", ""),
    "several hops on one line": ("ProxyJump outer,inner", ""),
    "a hop that has a hop of its own": ("ProxyJump inner", "ProxyJump outer"),
    "a proxy command behind a hop": ("ProxyJump inner", "ProxyCommand ssh -F {config} {believing} -W %h:%p outer"),
    "a proxy command": ("ProxyCommand ssh -F {config} {believing} -W %h:%p %r@inner", "ProxyJump none"),
}


@pytest.mark.parametrize(("pods_way", "inners"), WAYS.values(), ids=WAYS.keys())
def test_every_way_that_ssh_finds_pi_finds(
    environment: Path, hosts: tuple[OpensshPod, OpensshPod, OpensshPod], pods_way: str, inners: str
) -> None:
    """Fault 12."""
    names = {"config": environment / ".ssh/config", "believing": " ".join(BELIEVING)}
    config = configure(environment, hosts, pods_way.format(**names), inners.format(**names))
    come_from = 'echo "$(hostname) from ${SSH_CLIENT%% *}"'
    # ssh trusts nobody on the way by itself: that is for `-o`, which a jump host does not inherit.
    config.write_text(f"StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\n{config.read_text()}")
    assert said("ssh dc1", come_from) == ssh_says(config, "dc1", come_from)


def test_hops_on_the_command_line(environment: Path, hosts: tuple[OpensshPod, OpensshPod, OpensshPod]) -> None:
    """Fault 12."""
    pod, inner, outer = hosts
    configure(environment, hosts, "", "")
    where = f"ssh -i {pod.key} -J root@outer:22,inner root@{pod.address}"
    assert said(where, "hostname") == "dc1"
    assert {name: host_keys.read(name) is not None for name in ("dc1", f"dc1/{inner.address}", f"dc1/{outer.address}")}


def test_the_keys_of_jump_hosts_are_learned_at_setup_shown_and_verified_ever_after(
    environment: Path, hosts: tuple[OpensshPod, OpensshPod, OpensshPod]
) -> None:
    """Faults 8 and 9, security check 12."""
    pod, inner, outer = hosts
    configure(environment, hosts, "ProxyJump outer,inner", "")
    with pytest.raises(PodUnreachable, match=r"the host key of jump host `outer` .* is not known here"):
        said("ssh dc1", learn=False)

    session = learn(pod, "ssh dc1")
    assert session.learned == pod.fingerprint()
    assert list(session.learned_on_the_way.values()) == [outer.fingerprint(), inner.fingerprint()]
    assert said("ssh dc1", learn=False) == "root"
    assert learn(pod, "ssh dc1").learned_on_the_way == {}
    subprocess.run(["ssh-keygen", "-F", "dc1", "-f", environment / ".pi/known_hosts"], check=True, capture_output=True)

    before = inner.fingerprint()
    inner.new_host_key()
    for setting_up in (False, True):
        with pytest.raises(HostKeyChanged) as raised:
            said("ssh dc1", learn=setting_up)
        assert f"the host key of jump host `inner` ({inner.address}) changed (known {before}, now" in str(raised.value)
        assert "`pi pods setup dc1 'ssh dc1' --accept-new-host-key`" in str(raised.value.hint)
    assert learn(pod, "ssh dc1", accept_new=True).learned is None
    assert said("ssh dc1", learn=False) == "root"


def test_forgetting_a_pod_forgets_the_jump_hosts_on_its_way_and_no_others(
    environment: Path, hosts: tuple[OpensshPod, OpensshPod, OpensshPod]
) -> None:
    pod, inner, _ = hosts
    configure(environment, hosts, "ProxyJump inner", "")
    learn(pod, "ssh dc1")
    host_keys.remember("dc10", str(host_keys.read("dc1")))
    host_keys.forget("dc1")
    assert (environment / ".pi/known_hosts").read_text() == f"dc10 {host_keys.read('dc10')}\n"
    assert host_keys.read(f"dc1/{inner.address}") is None


def test_a_jump_host_in_the_users_known_hosts_needs_no_learning(
    environment: Path, hosts: tuple[OpensshPod, OpensshPod, OpensshPod]
) -> None:
    pod, inner, _ = hosts
    configure(environment, hosts, "ProxyJump inner", "")
    known = "".join(
        f"{host.address} {(host.root / 'etc/ssh/ssh_host_ecdsa_key.pub').read_text()}" for host in (pod, inner)
    )
    (environment / ".ssh/known_hosts").write_text(known)
    assert said("ssh dc1", learn=False) == "root"


def test_the_step_that_fails_is_said_with_the_host(
    environment: Path, hosts: tuple[OpensshPod, OpensshPod, OpensshPod]
) -> None:
    """Fault 1."""
    pod, inner, _ = hosts
    configure(environment, hosts, "ProxyJump inner", "")
    learn(pod, "ssh dc1")
    for host, key in ((pod, "what"), (inner, "jump host what")):
        authorized = host.home / ".ssh/authorized_keys"
        kept = authorized.read_text()
        authorized.write_text("")
        what = key.replace("what", f"`{host.name}`")
        with pytest.raises(PodUnreachable, match=f"pod `dc1`: {what} .* refused the login of `root`: it takes none"):
            said("ssh dc1")
        authorized.write_text(kept)
    pod.stop_sshd()
    with pytest.raises(PodUnreachable, match=r"`dc1` .* cannot be reached from the jump host: .*[Rr]efused"):
        said("ssh dc1")
    inner.stop_sshd()
    with pytest.raises(PodUnreachable, match=r"jump host: `inner` .* refused the connection"):
        said("ssh dc1")


def test_a_pod_that_says_nothing_behind_a_jump_host_is_given_up_in_time(
    environment: Path, hosts: tuple[OpensshPod, OpensshPod, OpensshPod]
) -> None:
    """Fault 3."""
    pod, _, _ = hosts
    configure(environment, hosts, "ProxyJump inner", "")
    learn(pod, "ssh dc1")
    pod.check("kill -STOP $(cat /run/sshd.pid)")
    with pytest.raises(PodUnreachable, match=r"`dc1` .* did not answer the jump host within 1 s"):
        said("ssh dc1", connect_timeout=1)


def test_what_a_proxy_command_says_last_is_passed_on(environment: Path) -> None:
    (environment / ".ssh").mkdir()
    (environment / ".ssh/config").write_text("Host gpu\n  ProxyCommand sh -c 'echo first; echo no way; exit 1' >&2\n")
    with pytest.raises(PodUnreachable, match="the ProxyCommand of `gpu` ended: no way"):
        said("ssh gpu")
    (environment / ".ssh/config").write_text("Host gpu\n  ProxyCommand sleep 60\n")
    with pytest.raises(PodUnreachable, match="the ProxyCommand of `gpu` said nothing within 1 s"):
        said("ssh gpu", connect_timeout=1)


def test_a_way_that_leads_through_itself_is_said_so(environment: Path) -> None:
    (environment / ".ssh").mkdir()
    (environment / ".ssh/config").write_text("Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
    with pytest.raises(PiError, match="`a` is reached through itself"):
        said("ssh a")
