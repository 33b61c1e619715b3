"""What to type when a machine lets a user in only to refuse: by the output of a command that did not run."""

from pi_cli.ssh import refusals
from tests.every import every

SSH = "ssh -i ~/.ssh/key root@1.2.3.4"
AS_UBUNTU = "log in as `ubuntu`: `pi pods setup dc1 'ssh -i ~/.ssh/key ubuntu@1.2.3.4'`"


@every(
    [
        ('Please login as the user "ubuntu" rather than the user "root".', AS_UBUNTU),
        ("Please login as the ubuntu user rather than root user.", AS_UBUNTU),
        ("Please log in as 'ubuntu' instead.", AS_UBUNTU),
        ("ERROR: connect using the user ubuntu", AS_UBUNTU),
        ('Please login as the user "NONE" rather than the user "root".', None),
        ("You must login as a different user", None),
        ("bash: python3: command not found", None),
        (
            "WARNING: Your password has expired.\nPassword change required but no TTY available.",
            "set a new password: `ssh -i ~/.ssh/key root@1.2.3.4` in a terminal asks for it; then repeat the command",
        ),
        (
            "System is booting up. See pam_nologin(8)",
            "when the machine has booted, repeat the command; until then only root can log in",
        ),
    ]
)
def test_the_next_step_is_in_the_words(output: str, hint: str | None) -> None:
    assert refusals.hint(output, "dc1", SSH) == hint


@every(
    [
        ("root@1.2.3.4 -p 22", "ubuntu@1.2.3.4 -p 22"),
        ("ssh -l root 1.2.3.4", "ssh -l ubuntu 1.2.3.4"),
        ("ssh -p 7 -o IdentitiesOnly=yes gpu", "ssh -p 7 -l ubuntu -o 'IdentitiesOnly yes' gpu"),
        ("ssh ssh://root@h:22", "ssh ssh://ubuntu@h:22"),
        ("ssh -J root@a root@b", "ssh -l ubuntu -o 'ProxyJump root@a' b"),
    ]
)
def test_only_the_user_of_the_command_changes(ssh: str, changed: str) -> None:
    assert refusals.with_user(ssh, "ubuntu") == changed
