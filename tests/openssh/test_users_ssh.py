"""pi does what the user's own ssh does: configuration, agents, certificates, encrypted keys."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pi_cli.errors import PiError, PodUnreachable
from tests.lab.openssh import OpensshPod
from tests.openssh.session import needs_ssh, said, ssh_says
from tests.until import until

CONFIGS = {
    "an alias with address, port, user and key": """
        Host gpu
          HostName {address}
          User root
          Port 2222
          IdentityFile {key}
    """,
    "a Match that runs a command": """
        Match host gpu exec "test %n = gpu"
          HostName {address}
        Match user nobody exec "true"
          Port 1
        Host *
          User root
          Port 2222
          IdentityFile {key}
    """,
    "a Match for the final name": """
        Host gpu
          HostName {address}
        Match final host {address}
          User root
          Port 2222
          IdentityFile {key}
    """,
    "another file, and options that only ssh knows": """
        IgnoreUnknown NoSuchOption,UseKeychain
        Host *
          NoSuchOption yes
          UseKeychain yes
          IPQoS lowdelay
          Include {folder}/*.conf
    """,
    "tokens and variables in the name of a key": """
        Host gpu
          HostName {address}
          User root
          Port 2222
          IdentityFile ${{KEYS}}/%r@%n-%p
    """,
    "a proxy command": """
        Host gpu
          HostName {address}
          User root
          Port 2222
          IdentityFile {key}
          ProxyCommand bash -c 'exec 3<>/dev/tcp/%h/%p; echo talk >&2; cat <&3 & cat >&3'
    """,
    "algorithms that pi does not all support": """
        Host gpu
          HostName {address}
          User root
          Port 2222
          IdentityFile {key}
          KexAlgorithms sntrup761x25519-sha512,curve25519-sha256
          Ciphers aes256-gcm@openssh.com
          HostKeyAlgorithms rsa-sha2-512
    """,
}  # fmt: skip


@pytest.fixture
def machine(openssh_pod: OpensshPod) -> OpensshPod:
    openssh_pod.sshd_config(Port=2222)
    openssh_pod.restart_sshd()
    return openssh_pod


@pytest.fixture
def agent(environment: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An agent for this test alone."""
    socket = environment / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL) as running:
        try:
            until(socket.exists)
            monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
            yield socket
        finally:
            running.terminate()


def configure(environment: Path, text: str) -> Path:
    config = environment / ".ssh/config"
    config.parent.mkdir(exist_ok=True)
    config.write_text(text)
    return config


def generate(path: Path, *, passphrase: str = "", comment: str = "") -> Path:
    path.parent.mkdir(exist_ok=True)
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", comment, "-f", str(path)]
    subprocess.run(words, check=True)
    return path


def authorize(pod: OpensshPod, key: Path) -> None:
    (pod.home / ".ssh/authorized_keys").write_text(Path(f"{key}.pub").read_text())


def add(key: Path) -> None:
    subprocess.run(["ssh-add", "-q", key], check=True)


def fingerprint(key: Path) -> str:
    return subprocess.run(["ssh-keygen", "-lf", key], capture_output=True, text=True, check=True).stdout.split()[1]


@pytest.mark.parametrize("text", CONFIGS.values(), ids=CONFIGS.keys())
def test_the_users_configuration_means_the_same_to_pi_and_ssh(
    machine: OpensshPod, environment: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Fault 12."""
    keys = environment / "keys"
    keys.mkdir()
    (keys / "root@gpu-2222").write_bytes(machine.key.read_bytes())
    (keys / "root@gpu-2222").chmod(0o600)
    (keys / "gpu.conf").write_text(f"Host gpu\n HostName {machine.address}\n User root\n Port 2222\n")
    (keys / "key.conf").write_text(f"IdentityFile {machine.key}\n")
    monkeypatch.setenv("KEYS", str(keys))
    config = configure(environment, text.format(address=machine.address, key=machine.key, folder=keys))
    assert ssh_says(config, "gpu") == "root"
    assert said("ssh gpu") == "root"


@needs_ssh
def test_an_error_in_the_configuration_is_reported_in_the_words_of_ssh(environment: Path) -> None:
    config = configure(environment, "Host *\n  Bogus yes\n")
    with pytest.raises(PiError, match=r"cannot be used: .*line 2: Bad configuration option: bogus") as raised:
        said("ssh gpu")
    assert str(config) in str(raised.value)


@needs_ssh
@pytest.mark.parametrize("option", ["RevokedHostKeys /etc/revoked", "ProxyUseFdpass yes"])
def test_an_unsupported_option_of_the_configuration_is_named(environment: Path, option: str) -> None:
    configure(environment, f"Host *\n  {option}\n")
    with pytest.raises(PiError, match=f"pi does not support `{option.split(maxsplit=1)[0]}`"):
        said("ssh gpu")


def test_the_agent_of_the_configuration_is_used(
    machine: OpensshPod, environment: Path, agent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(machine.key)
    monkeypatch.delenv("SSH_AUTH_SOCK")
    ssh = f"ssh -p 2222 root@{machine.address}"
    with pytest.raises(PodUnreachable, match="no SSH key found"):
        said(ssh)
    configure(environment, f"Host *\n  IdentityAgent {agent}\n")
    assert said(ssh) == "root"


@pytest.mark.usefixtures("agent")
def test_a_public_half_is_enough_if_the_agent_holds_the_key(machine: OpensshPod, environment: Path) -> None:
    add(machine.key)
    generate(environment / ".ssh/other")
    add(environment / ".ssh/other")
    public = environment / ".ssh/only.pub"
    public.write_text(machine.key.with_suffix(".pub").read_text())
    machine.sshd_config(Port=2222, MaxAuthTries=1)
    machine.restart_sshd()
    for name in ("only", "only.pub"):
        ssh = f"ssh -p 2222 -i {environment}/.ssh/{name} -o IdentitiesOnly=yes root@{machine.address}"
        assert said(ssh) == "root"


@pytest.mark.usefixtures("agent")
def test_a_named_key_is_tried_before_the_other_keys_of_the_agent(machine: OpensshPod, environment: Path) -> None:
    """Fault 11: sshd closes the connection after six keys."""
    for number in range(8):
        add(generate(environment / f".ssh/key{number}", comment=f"key {number}"))
    assert said(machine.ssh) == "root"
    with pytest.raises(PodUnreachable) as raised:
        said(f"ssh -p 2222 root@{machine.address}")
    refused = "refused the login of `root` after too many keys: it accepted none of the keys: `key 0` from the agent"
    assert f"{refused} (SHA256:" in str(raised.value)
    assert "-o IdentitiesOnly=yes" in str(raised.value.hint)


@pytest.mark.usefixtures("agent")
def test_a_refusal_names_the_keys_that_were_tried_and_those_that_were_not(
    machine: OpensshPod, environment: Path
) -> None:
    """Fault 11, security check 16."""
    held, named = generate(environment / ".ssh/held", comment="laptop"), generate(environment / ".ssh/named")
    add(held)
    readable = generate(environment / ".ssh/readable")
    readable.chmod(0o644)
    files = " ".join(f"-i {environment}/.ssh/{name}" for name in ("named", "readable", "missing"))
    with pytest.raises(PodUnreachable) as raised:
        said(f"ssh -p 2222 {files} root@{machine.address}")
    message = str(raised.value)
    tried = f"`{named}` ({fingerprint(named)}), `laptop` from the agent ({fingerprint(held)})"
    assert f"it accepted none of the keys: {tried}" in message
    assert f"not tried: `{readable}`: other users can read it (`chmod 600 {readable}`)" in message
    assert f"`{environment}/.ssh/missing`: there is no such file" in message


def test_a_certificate_logs_in(machine: OpensshPod, environment: Path) -> None:
    authority, key = generate(environment / "authority"), generate(environment / "key")
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "me", "-n", "root"]
    subprocess.run([*sign, f"{key}.pub"], check=True)
    (machine.root / "etc/ssh/authority.pub").write_text(Path(f"{authority}.pub").read_text())
    (machine.home / ".ssh/authorized_keys").unlink()
    machine.sshd_config(Port=2222, TrustedUserCAKeys="/etc/ssh/authority.pub")
    machine.restart_sshd()
    assert said(f"ssh -p 2222 -i {key} root@{machine.address}") == "root"

    elsewhere = Path(f"{key}-cert.pub").rename(environment / "certificate")
    with pytest.raises(PodUnreachable, match="refused the login"):
        said(f"ssh -p 2222 -i {key} root@{machine.address}")
    assert said(f"ssh -p 2222 -i {key} -o CertificateFile={elsewhere} root@{machine.address}") == "root"


@pytest.mark.parametrize("form", [(), ("-m", "PEM"), ("-m", "PKCS8")], ids=["OpenSSH", "PEM", "PKCS8"])
@pytest.mark.parametrize("public", ["with", "without"])
def test_the_passphrase_of_an_encrypted_key_is_asked(
    machine: OpensshPod, environment: Path, form: tuple[str, ...], public: str
) -> None:
    """Fault 11."""
    key = environment / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "öpen", *form, "-f", key], check=True)
    authorize(machine, key)
    if public == "without":
        Path(f"{key}.pub").unlink()
    ssh = f"ssh -p 2222 -i {key} root@{machine.address}"
    assert said(ssh, answers=["wrong", "öpen"]) == "root"
    for answers in (None, ["a", "b", "c"], [""]):
        with pytest.raises(PodUnreachable, match=f"`{key}` needs its passphrase") as raised:
            said(ssh, answers=answers)
        assert not answers
        assert f"ssh-add {key}" in str(raised.value.hint)


def test_an_encrypted_key_that_is_not_needed_stays_locked(machine: OpensshPod, environment: Path) -> None:
    generate(environment / ".ssh/id_ed25519", passphrase="secret")
    assert said(machine.ssh, answers=[]) == "root"
    (environment / ".ssh/id_rsa").write_bytes(machine.key.read_bytes())
    (environment / ".ssh/id_rsa").chmod(0o600)
    assert said(f"ssh -p 2222 root@{machine.address}", answers=[]) == "root"


def test_an_encrypted_key_that_the_pod_does_not_accept_stays_locked(machine: OpensshPod, environment: Path) -> None:
    key = generate(environment / "key", passphrase="secret")
    with pytest.raises(PodUnreachable, match="it accepted none of the keys"):
        said(f"ssh -p 2222 -i {key} root@{machine.address}", answers=[])


@pytest.mark.usefixtures("agent")
def test_an_encrypted_key_that_the_agent_holds_stays_locked(machine: OpensshPod) -> None:
    add(machine.key)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", machine.key], check=True)
    assert said(machine.ssh, answers=[]) == "root"


def test_a_server_that_does_not_accept_public_keys_is_reported(machine: OpensshPod) -> None:
    machine.sshd_config(Port=2222, PubkeyAuthentication="no", PasswordAuthentication="yes")
    machine.restart_sshd()
    with pytest.raises(PodUnreachable, match="it does not accept public keys, and pi has no other method"):
        said(machine.ssh)


def test_a_passphrase_may_take_longer_than_the_server_waits(machine: OpensshPod) -> None:
    """sshd ends a login that takes too long; pi logs in again without asking for the passphrase again."""
    machine.sshd_config(Port=2222, LoginGraceTime=1)
    machine.restart_sshd()
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", machine.key], check=True)
    prompts = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        until(lambda: not any("[priv]" in title for process in machine.processes() for title in process.args))
        return "secret"

    assert said(machine.ssh, ask=ask) == "root"
    assert prompts == [f"Passphrase for {machine.key}: "]
