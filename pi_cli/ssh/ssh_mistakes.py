"""What is wrong with an ssh command, and the command that was probably meant."""

import re

from pi_cli import hints
from pi_cli.errors import BadUsage
from pi_cli.hints import fill
from pi_cli.ssh import ssh_options
from pi_cli.ssh.command_words import MASK, Word, refused

PASTE_THIS = "paste the ssh command alone: `pi pods setup NAME {ssh}`"
CORRECTED = "did you mean `{words}`? `pi pods setup NAME {ssh}`"
LONG_OPTIONS = {"port": "-p", "p": "-p", "user": "-l", "u": "-l", "login": "-l", "key": "-i", "identity": "-i"}
LONG_OPTION = re.compile(
    r"--?(port|user|login|key|identity)(?:[-_]file)?(?:[=:](.*))?|-(p)[=:](\d+)|-(u)", re.IGNORECASE
)


def corrected(text: str, first: Word, last: Word, words: str) -> str:
    """Return a hint with the command that was probably meant: `words` in place of a part of it."""
    return fill(CORRECTED, words=words.split(), ssh=text[: first.start] + words + text[last.end :])


def words_before_ssh(text: str, words: list[Word], at: int) -> BadUsage:
    others = " ".join(word.text for word in words[:at])
    hint = fill(PASTE_THIS, ssh=text[words[at].start :]) if words[at + 1 :] else "paste the ssh command alone"
    return refused(text, words[0].start, words[at - 1].end, f"`{others}` comes before `ssh`", hint)


def unexpected_word(text: str, word: Word, words: list[Word], host: Word, jump: str) -> BadUsage:
    """Return the error for a word behind the host; `words` follow it, and `jump` is the host with its user and port."""
    why, end = f"`{word.text}` would run a command on the pod", len(text)
    port = words[0] if words and word.text.lower().strip(":") in ("port", "p", "") else word
    if word.text in ("ssh", "/usr/bin/ssh") and words:
        behind = [each.text for each in words if each.text not in ("-t", "-tt", "-A")]
        ssh = hints.command("ssh", "-J", jump, *behind)
        hint = fill("reach it through the jump host: `pi pods setup NAME {ssh}`", ssh=ssh)
    elif port.text.isdigit():
        end, hint = port.end, corrected(text, word, port, f"-p {port.text}")
    elif "@" in word.text and "@" not in jump:
        hint = fill(PASTE_THIS, ssh=f"ssh{text[host.end :]}")
        return refused(text, host.start, host.end, f"`{host.text}` comes before `{word.text}`, and is not ssh", hint)
    else:
        hint = "leave the command out; to run commands use `pi ssh`"
    return refused(text, word.start, end, why, hint)


def long_option(text: str, word: Word, words: list[Word]) -> BadUsage:
    """Return the error for an option as other programs have it: `--port 22`, `-p=22`, `-u root`."""
    long = LONG_OPTION.fullmatch(word.text)
    name, given = (long[1] or long[3] or long[5], long[2] or long[4]) if long else ("", None)
    value = given or (words[0].text if words else "")
    last = word if given or not words else words[0]
    why = f"ssh has no option `{word.text}`" if word.text.startswith("--") else f"`{word.text}` is not an option of ssh"
    right = f"{LONG_OPTIONS[name.lower()]} {value}".strip()
    return refused(text, word.start, word.end, why, corrected(text, word, last, right))


def with_password(text: str, word: Word, user: str) -> BadUsage:
    """Return the error for `USER:PASSWORD@HOST`."""
    without = word.text.replace(user, user.removesuffix(f":{MASK}"), 1)
    hint = "leave it out: `pi pods setup NAME {ssh}`; a user name with a colon is given with `-l`"
    why = f"`{word.text}` has a password, and {ssh_options.KEYS_ONLY}"
    return refused(text, word.start, word.end, why, fill(hint, ssh=text.replace(word.text, without, 1)))
