"""ssh commands as dashboards show them."""

import pytest

from pi_cli.errors import BadUsage
from pi_cli.pods.ssh_command import parse


@pytest.mark.parametrize(
    ("text", "user", "host", "port"),
    [
        ("ssh root@1.2.3.4", "root", "1.2.3.4", None),
        ("ssh root@1.2.3.4 -p 40022", "root", "1.2.3.4", 40022),
        ("ssh -p40022 root@1.2.3.4", "root", "1.2.3.4", 40022),
        ("ssh -vvp 22 -l ubuntu host.example", "ubuntu", "host.example", 22),
        ("root@1.2.3.4 -p 1234", "root", "1.2.3.4", 1234),
        ("ssh ssh://root@1.2.3.4:2222", "root", "1.2.3.4", 2222),
        ("ssh ssh://root@[::1]:2222", "root", "::1", 2222),
        ("ssh -6 root@2001:db8::1", "root", "2001:db8::1", None),
        ("ssh my-alias", None, "my-alias", None),
        ("/usr/bin/ssh -o Port=2200 -o 'User ubuntu' h", "ubuntu", "h", 2200),
        ("ssh -- root@h", "root", "h", None),
        ("ssh -A -T -N root@h -L 8080:localhost:8080", "root", "h", None),
    ],
)
def test_who_and_where(text: str, user: str | None, host: str, port: int | None) -> None:
    command = parse(text)
    assert (command.user, command.host, command.port) == (user, host, port)


def test_keys_and_ways_become_ssh_config_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "/keys")
    command = parse('ssh -i "$KEYS/my key" -J a@b,c@d:22 -o ProxyCommand="nc %h %p" -F ~/cfg root@h')
    assert command.options == ('IdentityFile "/keys/my key"', "ProxyJump a@b,c@d:22", "ProxyCommand nc %h %p")
    assert command.config_file is not None
    assert command.config_file.endswith("/cfg")
    assert not command.config_file.startswith("~")


def test_what_means_nothing_to_pi_is_named() -> None:
    command = parse("ssh -A -o StrictHostKeyChecking=no -L 1:h:2 root@h")
    assert command.ignored == ("-A", "-o StrictHostKeyChecking=no", "-L 1:h:2")
    assert command.options == ()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "no host"),
        ("ssh", "no host"),
        ("ssh root@h rm -rf /", "`rm`"),
        ("ssh root@h; reboot", "for a shell"),
        ("ssh root@h && x", "for a shell"),
        ("ssh $(hostname)", "for a shell"),
        ("ssh root@`id`", "for a shell"),
        ("ssh root@h\nreboot", "for a shell"),
        ("ssh 'root@h", "quot"),
        ("ssh -p abc root@h", "not a port"),
        ("ssh -p 70000 root@h", "not a port"),
        ("ssh root@h -p", "`-p` needs a value"),
        ("ssh -W h:22 root@h", "`-W`"),
        ("ssh -o PermitLocalCommand=yes root@h", "`-o PermitLocalCommand`"),
        ("ssh -o LocalCommand root@h", "Key=value"),
        ("ssh ssh://h:x", "ssh://user@host:port"),
        ("ssh root@", "not a host name"),
        ("ssh ro'ot@h", "quot"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(BadUsage, match=named):
        parse(text)
