"""What to do when a machine lets a user in only to refuse every command: another user, or a new password."""

import dataclasses
import re

from pi_cli import hints
from pi_cli.hints import fill
from pi_cli.ssh import server_words, ssh_command

# cloud-init's words for root, and what images of other makers make of them.
OTHER_USER = re.compile(
    r"(?:log ?in|connect|ssh|sign in) (?:in )?(?:as|with|using) (?:the )?(?:user(?:name)? )?"
    r"[\"'`‘“]?([a-z_][a-z0-9_-]{0,31})[\"'`’”]?(?! user is)",
    re.IGNORECASE,
)
NEW_PASSWORD = re.compile(r"password (?:change required|has expired|is expired|must be changed)", re.IGNORECASE)
NOT_A_USER = {"a", "an", "another", "different", "none", "root", "the", "this", "user", "your"}


def hint(output: str, pod: str, ssh: str) -> str | None:
    """Return what to type next, to judge by the output of a command that did not run; None if that says nothing."""
    match = OTHER_USER.search(output)
    if match and (user := match[1].lower()) not in NOT_A_USER:
        return fill("log in as `{user}`: `pi pods setup {pod} {ssh}`", user=user, pod=pod, ssh=with_user(ssh, user))
    if NEW_PASSWORD.search(output):
        command = ssh if re.match(r"(?:\S*/)?ssh(?:\.exe)?\s", ssh) else f"ssh {ssh}"
        return fill("set a new password: `{ssh}` in a terminal asks for it; then repeat the command", ssh=command)
    if server_words.NOT_YET.search(output):  # an sshd without PAM says it in a session
        return "when the machine has booted, repeat the command; until then only root can log in"
    return None


def with_user(ssh: str, user: str) -> str:
    """Return an ssh command for another user.

    >>> with_user("ssh -p 40022 root@1.2.3.4", "ubuntu")
    'ssh -p 40022 ubuntu@1.2.3.4'
    >>> with_user("gpu", "ubuntu")
    'ssh -l ubuntu gpu'
    """
    command = ssh_command.parse(ssh)
    if command.user and ssh.count(f"{command.user}@") == 1:
        changed = ssh.replace(f"{command.user}@", f"{user}@")
        if ssh_command.parse(changed).user == user:
            return changed
    return hints.command("ssh", *dataclasses.replace(command, user=user).lasting_arguments())
