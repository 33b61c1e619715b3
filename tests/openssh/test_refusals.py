"""Machines that answer and do not let the user in, or let in only to refuse: pi waits, or says what to type."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from pi_cli.errors import PodUnreachable
from tests.conftest import Pi
from tests.lab.openssh import OpensshPod
from tests.openssh.at_work import begin, ended
from tests.openssh.conftest import register
from tests.openssh.session import BELIEVING, said
from tests.until import until

BOOTING = (
    '"System is booting up. Unprivileged users are not permitted to log in yet. Please come back later. For technical '
    'details, see pam_nologin(8)."'
)
# What cloud-init writes before the keys of root.
ROOT_IS_REFUSED = (
    'no-port-forwarding,no-agent-forwarding,no-X11-forwarding,command="echo \'Please login as the user \\"ubuntu\\" '
    'rather than the user \\"root\\".\';echo;sleep 1;exit 142" '
)


def add_user(pod: OpensshPod, name: str = "ubuntu") -> str:
    """Add a user with root's key, and return the ssh command for it."""
    pod.check(f"useradd --create-home --shell /bin/bash {name} && cp -r ~/.ssh ~{name} && chown -R {name} ~{name}/.ssh")
    return pod.ssh.replace("root@", f"{name}@")


def test_a_machine_that_boots_is_waited_for(openssh_pod: OpensshPod) -> None:
    """Finding 8."""
    register(openssh_pod)
    pods = Path(os.environ["PI_CONFIG_DIR"]) / "pods.json"
    pods.write_text(pods.read_text().replace(openssh_pod.ssh, add_user(openssh_pod)))
    nologin = openssh_pod.root / "run/nologin"
    nologin.write_text(BOOTING + "\n")
    listing = begin("list")
    log = openssh_pod.root / "var/log/sshd.log"
    until(lambda: "by PAM account configuration" in log.read_text(errors="replace"), "sshd refuses the login")
    nologin.unlink()
    result = ended(listing, timeout=60)
    assert f"note: dc1 says: {BOOTING}\n" in result.err
    assert "note: dc1: waiting for up to 120 s until it lets users log in (Ctrl+C stops pi)\n" in result.err
    assert "cannot reach pod" not in result.err


def test_a_missing_key_of_i_is_treated_as_by_ssh(openssh_pod: OpensshPod, environment: Path) -> None:
    """Finding 9: the key lies where ssh looks for it anyway, and the command names another file."""
    (environment / ".ssh").mkdir()
    shutil.copy(openssh_pod.key, environment / ".ssh/id_rsa")
    (environment / ".ssh/config").write_text(f"Host *\n  IdentityFile {environment}/.ssh/id_rsa\n")
    plain = subprocess.run(
        [
            "ssh",
            *BELIEVING,
            "-F",
            str(environment / ".ssh/config"),
            "-i",
            "/missing",
            f"root@{openssh_pod.address}",
            "id",
        ],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert plain.returncode == 0, plain.stderr
    assert "Identity file /missing not accessible" in plain.stderr
    (environment / ".ssh/config").unlink()
    for options in ("-i /missing", "-i /missing -o IdentitiesOnly=yes"):
        assert said(f"ssh {options} root@{openssh_pod.address}") == "root", options
    (environment / ".ssh/id_rsa").unlink()
    with pytest.raises(PodUnreachable, match="no SSH key found; not tried: `/missing`: there is no such file"):
        said(f"ssh -i /missing root@{openssh_pod.address}")
    shutil.copy(openssh_pod.key, environment / ".ssh/id_rsa")
    with pytest.raises(PodUnreachable, match="`/missing`: there is no such file"):
        said(f"ssh -o IdentityFile=/missing -o IdentitiesOnly=yes root@{openssh_pod.address}")


def test_pi_ssh_warns_of_a_missing_key_and_logs_in(pi: Pi, openssh_pod: OpensshPod, environment: Path) -> None:
    register(openssh_pod)
    pods = Path(os.environ["PI_CONFIG_DIR"]) / "pods.json"
    pods.write_text(pods.read_text().replace(str(openssh_pod.key), f"{environment}/missing"))
    (environment / ".ssh").mkdir()
    (environment / ".ssh/config").write_text(f"Host *\n  IdentityFile {openssh_pod.key}\n")
    result = pi("ssh", "dc1", "id -un")
    assert (result.code, result.out) == (0, "root\n"), result.err
    assert f"Warning: Identity file {environment}/missing not accessible" in result.err


def test_cloud_inits_refusal_of_root_names_the_command_for_the_right_user(pi: Pi, openssh_pod: OpensshPod) -> None:
    keys = openssh_pod.home / ".ssh/authorized_keys"
    keys.write_text(ROOT_IS_REFUSED + keys.read_text())
    result = pi("pods", "setup", "dc1", openssh_pod.ssh)
    assert result.code == 1
    assert 'Please login as the user "ubuntu" rather than the user "root".' in result.err
    right = openssh_pod.ssh.replace("root@", "ubuntu@")
    assert f"hint: log in as `ubuntu`: `pi pods setup dc1 '{right}'`\n" in result.err
    register(openssh_pod)
    listed = pi("list")
    assert f"hint: log in as `ubuntu`: `pi pods setup dc1 '{right}'`\n" in listed.err


def test_an_expired_password_is_named_with_what_to_type(pi: Pi, openssh_pod: OpensshPod) -> None:
    openssh_pod.check("chage -d 0 root")
    result = pi("pods", "setup", "dc1", openssh_pod.ssh)
    assert result.code == 1, result.err
    assert "Password change required but no TTY available." in result.err
    assert f"hint: set a new password: `{openssh_pod.ssh}` in a terminal asks for it" in result.err


def test_a_second_factor_is_asked_for_on_the_terminal_and_named_elsewhere(openssh_pod: OpensshPod) -> None:
    openssh_pod.check("echo root:secret | chpasswd")
    openssh_pod.sshd_config(
        AuthenticationMethods="publickey,keyboard-interactive",
        KbdInteractiveAuthentication="yes",
        PermitRootLogin="yes",
    )
    openssh_pod.restart_sshd()
    asked: list[str] = []

    def answer(question: str) -> str:
        asked.append(question)
        return "secret"

    assert said(openssh_pod.ssh, ask=answer) == "root"
    assert asked == ["dc1 asks: Password: "]
    started = time.monotonic()
    with pytest.raises(PodUnreachable, match=r"accepted the key of `root` and asks for more: `Password:"):
        said(openssh_pod.ssh)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"AllowTcpForwarding": "no"}, "`AllowTcpForwarding no` in /etc/ssh/sshd_config.d/10-test.conf, line 1"),
        ({"DisableForwarding": "yes"}, "`DisableForwarding yes` in /etc/ssh/sshd_config.d/10-test.conf, line 1"),
        ({"PermitOpen": "h:80"}, "`PermitOpen h:80` in /etc/ssh/sshd_config.d/10-test.conf, line 1"),
        (
            {"Match": "User root\n  AllowTcpForwarding no"},
            "`AllowTcpForwarding no` in /etc/ssh/sshd_config.d/10-test.conf, line 2",
        ),
    ],
    ids=["AllowTcpForwarding", "DisableForwarding", "PermitOpen", "Match"],
)
def test_setup_refuses_an_sshd_that_forbids_forwarding_and_names_the_directive(
    pi: Pi, openssh_pod: OpensshPod, options: dict[str, str], cause: str
) -> None:
    openssh_pod.sshd_config(**options)
    openssh_pod.restart_sshd()
    result = pi("pods", "setup", "dc1", openssh_pod.ssh)
    assert result.code == 3
    assert f"its sshd forbids port forwarding, which pi needs to reach models: {cause}\n" in result.err
    assert f"/etc/ssh/sshd_config.d/10-test.conf, line {cause[-1]} and restart its sshd" in result.err
    assert not (openssh_pod.home / ".pi").exists()


@pytest.mark.parametrize(
    "option", ["no-port-forwarding", "restrict", 'permitopen="h:80"'], ids=["no", "restrict", "open"]
)
def test_setup_names_the_option_of_the_key_that_forbids_forwarding(
    pi: Pi, openssh_pod: OpensshPod, option: str
) -> None:
    keys = openssh_pod.home / ".ssh/authorized_keys"
    keys.write_text(f"{option} {keys.read_text()}")
    result = pi("pods", "setup", "dc1", openssh_pod.ssh)
    assert result.code == 3
    assert f"to reach models: `{option}` at a key in /root/.ssh/authorized_keys, line 1\n" in result.err
    assert "in the pod's /root/.ssh/authorized_keys, line 1" in result.err.partition("hint: ")[2]


def test_an_sshd_that_forwards_to_the_ports_of_models_alone_passes(openssh_pod: OpensshPod) -> None:
    openssh_pod.sshd_config(PermitOpen="127.0.0.1:8001 127.0.0.1:8002")
    openssh_pod.restart_sshd()
    assert said(openssh_pod.ssh, forwarding=True) == "root"
