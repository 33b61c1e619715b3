"""What users paste in place of an ssh command: docs/pasted.md shows each, and is held by `tests/docs`."""

import json
import shlex
from pathlib import Path

import pytest

from pi_cli.errors import BadUsage
from pi_cli.ssh import other_programs
from pi_cli.ssh.passwords import hide
from pi_cli.ssh.ssh_command import lasting, parse
from tests.every import every
from tests.ssh.pasted_strings import PASTED

TEXTS = [text for texts in PASTED.values() for text in texts]
WITH_PASSWORDS = [text for text in TEXTS if "hunter2" in text]


def outcome(text: str) -> str:
    """Return all that pi says of a pasted text and remembers of it."""
    try:
        command = parse(text)
    except BadUsage as error:
        return f"{error.message}\n{error.excerpt}\n{error.hint}"
    return f"{command}\n{lasting(text)}"


@every(TEXTS)
def test_each_text_is_read_or_refused_with_what_to_do(text: str) -> None:
    try:
        command = parse(text)
    except BadUsage as error:
        refusal = error
    else:
        assert parse(lasting(text)).arguments() == command.arguments()
        return
    assert refusal.hint
    assert refusal.excerpt


@every([*WITH_PASSWORDS, *(json.dumps({"ssh_command": text, "password": "hunter2"}) for text in WITH_PASSWORDS)])
def test_a_password_is_never_repeated_or_remembered(text: str) -> None:
    assert "hunter2" in text
    assert "hunter2" not in outcome(text)


@every(
    [
        "-p hunter2", "-phunter2", "-p 'hunter2'", '-p "hunter2 hunter2"', "-v -p hunter2", "-P word -p hunter2",
        "-p hun\\ hunter2", "'-p' hunter2", "-p 'hunter2",
    ],
)  # fmt: skip
def test_the_password_of_sshpass_is_hidden_however_it_is_given(option: str) -> None:
    assert "hunter2" not in outcome(f"sshpass {option} ssh root@h -p 22")


@every(
    [
        "ssh root:p@hunter2@h", "ssh ubuntu:hunter2@h", "ssh me:hunter2@h", "root:hunter2@h -p 22",
        "ssh://root:p%40hunter2@h", "ssh://me:hunter2@[::1]:22", "scp -P 22 root:hunter2@h:/x .",
        "Password: hunter2\nssh root@h", "ssh root@h\nPassword is hunter2",
        "**Password:** hunter2\n**SSH:** ssh root@h",
        "SSH_PASSWORD='hunter2' ssh root@h", "ssh root@h <<< hunter2", "printf 'hunter2' | ssh root@h",
        "psftp -pw hunter2 root@h", "ssh root@h -o Foo=1 # pw: hunter2", '{"passwd":"hunter2","host":"h"}',
        "Host: h\nPort: x\nPassword: hunter2", "HF_TOKEN=hunter2 ssh root@h",
    ],
)  # fmt: skip
def test_other_passwords_are_hidden(text: str) -> None:
    assert "hunter2" not in outcome(text)


@every(
    [
        "ssh -o PreferredAuthentications=publickey,password -p 22 root@h", "ssh -o NumberOfPasswordPrompts=3 h",
        "ssh -o PasswordAuthentication=no h", "ssh user:target@domain@gateway", "ssh -L 8080:localhost:80 a@h",
        "ssh -J a@b:22,c@d:22 root@h", "ssh root@[2001:db8::1]:2222", "ssh -i ~/.ssh/password root@h",
    ],
)  # fmt: skip
def test_what_is_not_a_password_is_left_alone(text: str) -> None:
    assert hide(text) == text


def test_a_user_name_with_a_colon_is_given_with_l() -> None:
    assert parse("ssh -l me:target gateway").user == "me:target"


def test_a_proxy_keeps_the_password_that_it_needs() -> None:
    text = """ssh -o "ProxyCommand=sshpass -p 'hunter2 x' ssh -W %h:%p me@jump" root@h"""
    assert parse(text).options == ("ProxyCommand sshpass -p 'hunter2 x' ssh -W %h:%p me@jump",)
    assert parse(lasting(text)).options == parse(text).options
    with pytest.raises(BadUsage) as raised:
        parse(f"{text} reboot")
    assert "hunter2" not in f"{raised.value.message}{raised.value.excerpt}{raised.value.hint}"


@every(
    [
        ("ssh -P 22119 root@h", "ssh -p 22119 root@h"),
        ("ssh -P22119 root@h", "ssh -p 22119 root@h"),
        ("root@h 22119", "root@h -p 22119"),
        ("ssh h 22119", "ssh h -p 22119"),
        ("ssh root@h port: 22119", "ssh root@h -p 22119"),
        ("ssh root@h --port=22119", "ssh root@h -p 22119"),
        ("ssh jump -t ssh root@10.0.0.2", "ssh -J jump root@10.0.0.2"),
        ("ssh -A -p 2200 me@jump ssh -i k root@10.0.0.2", "ssh -J me@jump:2200 -i k root@10.0.0.2"),
        ("tailscale ssh root@gpu", "ssh root@gpu"),
        ("sshpass -p x ssh -p 22119 root@h", "ssh -p 22119 root@h"),
        ("scp -P 22119 -i ~/k root@h:/x .", "ssh -p 22119 -i '~/k' root@h"),
        ("rsync -a -e 'ssh -p 22119' x root@h:y", "ssh -p 22119 root@h"),
        ("ssh-copy-id -i ~/.ssh/id.pub -p 22119 root@h", "ssh -p 22119 -i '~/.ssh/id.pub' root@h"),
        ("plink -P 22119 -l root h", "ssh -p 22119 root@h"),
        ("code --remote ssh-remote+root@h:22119 /w", "ssh -p 22119 root@h"),
        (f"vscode-remote://ssh-remote+{json.dumps({'hostName': 'h', 'user': 'root'}).encode().hex()}/w", "ssh root@h"),
        ("sftp://root@h:22119/x", "ssh -p 22119 root@h"),
        ('{"ssh_host": "h", "ssh_port": 22119}', "ssh -p 22119 root@h"),
        ("TERM=xterm ssh root@h", "ssh root@h"),
    ],
)
def test_the_hint_has_the_command_that_was_meant(text: str, meant: str) -> None:
    with pytest.raises(BadUsage) as raised:
        parse(text)
    assert f"`pi pods setup NAME {shlex.quote(meant)}`" in (raised.value.hint or "")


@every(
    [
        ("gcloud compute ssh gpu --zone z", "`gcloud compute ssh gpu --zone z --dry-run` prints"),
        (
            "aws ec2-instance-connect ssh --instance-id i-0123456789abcdef0",
            "open-tunnel --instance-id i-0123456789abcdef0",
        ),
        ("aws --profile p ssm start-session --target i-0123456789abcdef0", "AWS-StartSSHSession"),
        ("az ssh vm -n gpu -g group", "`az ssh config --file ~/.ssh/azure -n gpu -g group`"),
        ("brev shell gpu", "`ssh gpu`"),
        ("vastai ssh-url 7", "paste the `ssh://…` that it prints"),
        ("runpodctl ssh connect x", "exposed TCP"),
        ("kubectl exec -it gpu -- bash", "needs an SSH server"),
        ("docker exec -it gpu bash", "needs an SSH server"),
        ("modal shell", "has no SSH server"),
        ("ssh -i C:\\Users\\me\\.ssh\\id root@h", "`~/.ssh/id`"),
    ],
)
def test_the_hint_names_the_way_that_works(text: str, way: str) -> None:
    with pytest.raises(BadUsage) as raised:
        parse(text)
    assert way in (raised.value.hint or "")


@every(["prime", "modal -p 22", "code -i ~/.ssh/key", "sky", "et", "echo", "mosh -o Port=22"])
def test_an_alias_may_be_named_like_a_program(text: str) -> None:
    assert parse(text).host == text.split(maxsplit=1)[0]


def test_a_host_block_is_the_command_that_it_stands_for(environment: Path) -> None:
    block = """
    # from the dashboard
    Host gpu
        HostName 1.2.3.4
        User root
        Port 22119
        IdentityFile "~/.ssh/my key"
        ProxyCommand nc -X 5 -x proxy:1080 %h %p
        ForwardAgent yes
    """
    command = parse(block)
    assert (command.user, command.host, command.port) == ("root", "1.2.3.4", 22119)
    assert command.options == (
        f'IdentityFile "{environment}/.ssh/my key"',
        "ProxyCommand nc -X 5 -x proxy:1080 %h %p",
    )
    assert "-o ForwardAgent yes" in command.ignored


def test_every_pattern_of_a_program_is_valid_and_has_a_hint() -> None:
    assert all(other_programs.hint(f"{word} x y") for word in ("gcloud", "az ssh", "mosh", "docker", "putty", "cd"))
