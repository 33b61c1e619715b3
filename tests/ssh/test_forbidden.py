"""What forbids port forwarding, according to what a pod says about its sshd."""

from pi_cli.ssh import forbidden
from tests.every import every

YES = "sshd allowtcpforwarding yes\nsshd disableforwarding no\nsshd permitopen any\n"
KEYS = "key /root/.ssh/authorized_keys:2:"
AT_THE_KEY = "in the pod's /root/.ssh/authorized_keys, line 2, if that is your key; it counts from the next login on"
RESTART = "and restart its sshd: `sudo systemctl restart ssh`"


@every(
    [
        (
            "sshd allowtcpforwarding no\nfile /etc/ssh/sshd_config:33:AllowTcpForwarding no\n",
            "`AllowTcpForwarding no` in /etc/ssh/sshd_config, line 33",
            f"set `AllowTcpForwarding yes` in the pod's /etc/ssh/sshd_config, line 33 {RESTART}",
        ),
        (
            "sshd allowtcpforwarding remote\nfile /etc/ssh/sshd_config.d/50-x.conf:2:  allowtcpforwarding=remote\n",
            "`AllowTcpForwarding remote` in /etc/ssh/sshd_config.d/50-x.conf, line 2",
            f"set `AllowTcpForwarding yes` in the pod's /etc/ssh/sshd_config.d/50-x.conf, line 2 {RESTART}",
        ),
        (
            f"{YES.replace('forwarding no', 'forwarding yes')}file /etc/ssh/sshd_config:9:DisableForwarding yes\n",
            "`DisableForwarding yes` in /etc/ssh/sshd_config, line 9",
            f"set `DisableForwarding no` in the pod's /etc/ssh/sshd_config, line 9 {RESTART}",
        ),
        (
            YES.replace("any", "none"),
            "`PermitOpen none`",
            f"set `PermitOpen 127.0.0.1:*` in the pod's /etc/ssh/sshd_config {RESTART}",
        ),
        (  # sshd does not tell a user who is not root
            "file /etc/ssh/sshd_config:9:DisableForwarding no\nfile /etc/ssh/sshd_config:12:PermitOpen h:80\n",
            "`PermitOpen h:80` in /etc/ssh/sshd_config, line 12",
            f"set `PermitOpen 127.0.0.1:*` in the pod's /etc/ssh/sshd_config, line 12 {RESTART}",
        ),
        (
            f"{YES}file /etc/ssh/sshd_config:12:AllowTcpForwarding no\n{KEYS}no-port-forwarding\n",  # in another Match
            "`no-port-forwarding` at a key in /root/.ssh/authorized_keys, line 2",
            f"remove `no-port-forwarding` {AT_THE_KEY}",
        ),
        (
            f"{YES}{KEYS}restrict,\n",
            "`restrict` at a key in /root/.ssh/authorized_keys, line 2",
            f"write `restrict,port-forwarding` instead of `restrict` {AT_THE_KEY}",
        ),
        (
            f'{YES}{KEYS}restrict,\n{KEYS},port-forwarding\n{KEYS}permitopen="h:80"\n',
            '`permitopen="h:80"` at a key in /root/.ssh/authorized_keys, line 2',
            f'add `permitopen="127.0.0.1:*"` {AT_THE_KEY}',
        ),
        (YES, "", forbidden.CANDIDATES),
        ("", "", forbidden.CANDIDATES),
        ("nonsense \x1b[2J\nsshd \nfile x\nkey :::\n", "", forbidden.CANDIDATES),
    ]
)
def test_the_cause_and_the_change_are_named(answer: str, name: str, hint: str) -> None:
    assert forbidden.cause(f"Welcome\n{forbidden.MARK}\n{answer}".encode()) == forbidden.Cause(name, hint)
    assert forbidden.answers(f"Welcome\n{forbidden.MARK}\n".encode())
    assert not forbidden.answers(b"Please login as the user\n")
