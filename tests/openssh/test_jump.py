"""Jump hosts and proxy commands, with a real sshd on every hop."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pi_cli.errors import HostKeyChanged, PiError, PodUnreachable
from pi_cli.ssh import host_keys
from tests.lab.openssh import OpensshLab, OpensshPod
from tests.openssh.session import BELIEVING, learn, needs_ssh, said, ssh_says


@pytest.fixture
def hosts(openssh_lab: OpensshLab) -> Iterator[tuple[OpensshPod, OpensshPod, OpensshPod]]:
    """The pod and two jump hosts; each accepts another key. The pod answers the inner one only."""
    with openssh_lab.pod("dc1") as pod, openssh_lab.pod("inner") as inner, openssh_lab.pod("outer") as outer:
        yield pod, inner, outer


def configure(environment: Path, hosts: tuple[OpensshPod, OpensshPod, OpensshPod], pods: str, inners: str) -> Path:
    """Write a configuration with the three hosts, and the proxy options of the pod and of the inner host."""
    pod, inner, outer = hosts
    config = environment / ".ssh/config"
    config.parent.mkdir(exist_ok=True)
    lines = []
    for host, proxy in ((pod, pods), (inner, inners), (outer, "")):
        lines += [f"Host {host.name}", f"  HostName {host.address}", "  User root", f"  IdentityFile {host.key}"]
        lines += [f"  {proxy}"] if proxy else []
    config.write_text("".join(f"{line}\n" for line in lines))
    return config


ROUTES = {
    "one hop": ("ProxyJump inner", ""),
    "several hops on one line": ("ProxyJump outer,inner", ""),
    "a hop that has a hop of its own": ("ProxyJump inner", "ProxyJump outer"),
    "a proxy command behind a hop": ("ProxyJump inner", "ProxyCommand ssh -F {config} {believing} -W %h:%p outer"),
    "a proxy command": ("ProxyCommand ssh -F {config} {believing} -W %h:%p %r@inner", "ProxyJump none"),
}


@pytest.mark.parametrize(("pods", "inners"), ROUTES.values(), ids=ROUTES.keys())
def test_pi_takes_the_route_that_ssh_takes(
    environment: Path, hosts: tuple[OpensshPod, OpensshPod, OpensshPod], pods: str, inners: str
) -> None:
    """Fault 12."""
    names = {"config": environment / ".ssh/config", "believing": " ".join(BELIEVING)}
    config = configure(environment, hosts, pods.format(**names), inners.format(**names))
    client = 'echo "$(hostname) from ${SSH_CLIENT%% *}"'
    # ssh has to trust the jump hosts too, and they do not inherit `-o`: the file sets that.
    config.write_text(f"StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\n{config.read_text()}")
    assert said("ssh dc1", client) == ssh_says(config, "dc1", client)


def test_jump_hosts_can_be_given_in_the_ssh_command(
    environment: Path, hosts: tuple[OpensshPod, OpensshPod, OpensshPod]
) -> None:
    """Fault 12."""
    pod, inner, outer = hosts
    configure(environment, hosts, "", "")
    ssh = f"ssh -i {pod.key} -J root@outer:22,inner root@{pod.address}"
    assert said(ssh, "hostname") == "dc1"
    assert {name: host_keys.read(name) is not None for name in ("dc1", f"dc1/{inner.address}", f"dc1/{outer.address}")}


def test_the_keys_of_jump_hosts_are_pinned_and_shown_at_setup_and_verified_from_then_on(
    environment: Path, hosts: tuple[OpensshPod, OpensshPod, OpensshPod]
) -> None:
    """Faults 8 and 9, security check 12."""
    pod, inner, outer = hosts
    configure(environment, hosts, "ProxyJump outer,inner", "")
    with pytest.raises(PodUnreachable, match=r"the host key of jump host `outer` .* is not known to pi"):
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


def test_forgetting_a_pod_forgets_its_jump_hosts_and_no_others(
    environment: Path, hosts: tuple[OpensshPod, OpensshPod, OpensshPod]
) -> None:
    pod, inner, _ = hosts
    configure(environment, hosts, "ProxyJump inner", "")
    learn(pod, "ssh dc1")
    host_keys.remember("dc10", str(host_keys.read("dc1")))
    host_keys.forget("dc1")
    assert (environment / ".pi/known_hosts").read_text() == f"dc10 {host_keys.read('dc10')}\n"
    assert host_keys.read(f"dc1/{inner.address}") is None


def test_a_jump_host_in_the_users_known_hosts_need_not_be_pinned(
    environment: Path, hosts: tuple[OpensshPod, OpensshPod, OpensshPod]
) -> None:
    pod, inner, _ = hosts
    configure(environment, hosts, "ProxyJump inner", "")
    known = "".join(
        f"{host.address} {(host.root / 'etc/ssh/ssh_host_ecdsa_key.pub').read_text()}" for host in (pod, inner)
    )
    (environment / ".ssh/known_hosts").write_text(known)
    assert said("ssh dc1", learn=False) == "root"


def test_the_step_that_fails_is_reported_with_the_host(
    environment: Path, hosts: tuple[OpensshPod, OpensshPod, OpensshPod]
) -> None:
    """Fault 1."""
    pod, inner, _ = hosts
    configure(environment, hosts, "ProxyJump inner", "")
    learn(pod, "ssh dc1")
    for host, prefix in ((pod, ""), (inner, "jump host ")):
        authorized = host.home / ".ssh/authorized_keys"
        kept = authorized.read_text()
        authorized.write_text("")
        machine = f"{prefix}`{host.name}`"
        with pytest.raises(
            PodUnreachable, match=f"pod `dc1`: {machine} .* refused the login of `root`: it accepted none"
        ):
            said("ssh dc1")
        authorized.write_text(kept)
    pod.stop_sshd()
    with pytest.raises(PodUnreachable, match=r"`dc1` .* cannot be reached from the jump host: .*[Rr]efused"):
        said("ssh dc1")
    inner.stop_sshd()
    with pytest.raises(PodUnreachable, match=r"jump host: `inner` .* refused the connection"):
        said("ssh dc1")


def test_a_silent_pod_behind_a_jump_host_is_given_up_in_time(
    environment: Path, hosts: tuple[OpensshPod, OpensshPod, OpensshPod]
) -> None:
    """Fault 3."""
    pod, _, _ = hosts
    configure(environment, hosts, "ProxyJump inner", "")
    learn(pod, "ssh dc1")
    pod.check("kill -STOP $(cat /run/sshd.pid)")
    with pytest.raises(PodUnreachable, match=r"`dc1` .* did not answer the jump host within 1 s"):
        said("ssh dc1", connect_timeout=1)


@needs_ssh
def test_the_last_line_of_a_proxy_command_is_shown(environment: Path) -> None:
    (environment / ".ssh").mkdir()
    (environment / ".ssh/config").write_text("Host gpu\n  ProxyCommand sh -c 'echo first; echo no way; exit 1' >&2\n")
    with pytest.raises(PodUnreachable, match="the ProxyCommand of `gpu` exited: no way"):
        said("ssh gpu")
    (environment / ".ssh/config").write_text("Host gpu\n  ProxyCommand sleep 60\n")
    with pytest.raises(PodUnreachable, match="the ProxyCommand of `gpu` sent no SSH banner within 1 s"):
        said("ssh gpu", connect_timeout=1)


@needs_ssh
def test_a_route_that_leads_through_itself_is_reported(environment: Path) -> None:
    (environment / ".ssh").mkdir()
    (environment / ".ssh/config").write_text("Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
    with pytest.raises(PiError, match="`a` is reached through itself"):
        said("ssh a")
