"""Find the ssh command in a pasted text: what stands around it in a terminal, a page, an API's answer or a file.

Each function here returns the text that it does not recognise unchanged; `ssh_command` reads or refuses that.
"""

import html
import re
from dataclasses import dataclass, field

from pi_cli.ssh import pasted_fields
from pi_cli.ssh.command_words import IS_SSH, NO_COMMAND_YET, SSH, refused
from pi_cli.ssh.passwords import hide

SPACES = dict.fromkeys(map(ord, "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"), " ")  # fmt: skip # noqa: E501
INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff"))
QUOTES = {ord(sign): '"' for sign in "“”„‟«»"} | {ord(sign): "'" for sign in "‘’‚‛"}
DASHES = re.compile(r"(?<![^\s'\"])[‐‑‒–—−](?=[A-Za-z0-9])")  # at the start of an option
ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|#\d{1,6}|#x[0-9a-fA-F]{1,5});")
TAG = re.compile(r"</?(?:code|pre|kbd|samp|span|div|p|b|strong|em|i|br|li|td|tr|a)(?:\s[^<>]*)?/?>", re.IGNORECASE)
FENCE = re.compile(r"(`{3,}|~{3,})(?:[^\S\n]*[\w-]*[^\S\n]*\n)?(.*?)\s*\1", re.DOTALL)
# `me@laptop:~$`, `[me@laptop ~]$`, `(base) ➜  ~` before the word `ssh`; `$ `, `PS C:\>` before any command.
PROMPT = re.compile(
    rf"""(?: \([\w.-]+\)\s* )?
      (?: \[? [\w.-]+@[\w.-]+ (?: :|\s ) [^\s\]]* \]? | [A-Za-z]:\\[^>\n]*(?=>) | [\w.-]+:~?[^\s]*(?=[$\#%>]) )?
      \s* [$\#%>❯➜»] \s* (?: ~\S*\s+ )? (?:git:\(\S+\)\s+)? (?={SSH})
    | (?: PS\s[A-Za-z]:[^>\n]*> | [$\#%>❯➜»] ) \s+""",
    re.VERBOSE | re.IGNORECASE,
)
EMPHASIS = re.compile(r"(\*{1,3}|_{2}|`{1,2})(?=\S)(.+?)(?<=\S)\1")
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]*)\)|<(ssh://[^<>\s]+)>")
# `SSH command: ssh …`, `ssh_command: "ssh …"`, `export SSH_COMMAND='ssh …'`, `- ssh …`, `alias gpu="ssh …"`
LABELLED = re.compile(
    rf"""(?: [-*•+]\s+ | \d{{1,2}}[.)]\s+ )?
    (?: (?:export|set|setx|let|const|var|alias|declare)\s+ | \$(?:env:)?(?=\w) )*
    (?: ["'`*]{{0,3}} (?![^:=\n]*\s-) [\w][\w .()/#-]{{0,40}}? ["'`*]{{0,3}} \s*
      (?: [:：]=? (?=[\s"'`*]) | => | = ) \s* [*_]{{0,2}} \s* )?
    (?P<value> ["'`]? (?:{SSH}) .* )""",
    re.VERBOSE | re.IGNORECASE,
)
PORT_IN_WORDS = re.compile(r"(.*@[\w.-]+)(?:,|\s+\(|\s+on)\s*port:?\s*(\d+)\)?", re.IGNORECASE)
HINTED = re.compile(
    r"""["']?[\w .-]*\b_?(?:ssh|command|connect|connection|host|login|address)\w*["']?\s*[:=]\s*"""
    r"""(?P<value>["']?[\w.-]+@[\w.\[\]:-]+(?:\s.*)?)""",
    re.IGNORECASE,
)
QUOTED = re.compile(r"""(["'`])((?:(?!\1).)*)\1[,;]?""")
LABEL = re.compile(r"[\w][\w '()/-]{0,60}[:：]|\*\*[^*]+\*\*[:：]?|#{1,6}\s.*|\|[\s|:-]+\|")
PASSWORD_LINE = re.compile(r"[^:：=\n]{0,40}[:：=]\s*\W*\*{3}\W*")
NOTHING_YET = re.compile(r"null|None|undefined|N/?A|-|pending", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pasted:
    """The command in a pasted text, and what was left out with it: each part, without passwords, with the reason."""

    command: str
    ignored: dict[str, str] = field(default_factory=dict)


def find(text: str) -> Pasted:
    r"""Return the ssh command in a pasted text. Raises `BadUsage` for several commands, and for none yet.

    >>> find("```sh\n$ ssh root@h\n```").command
    'ssh root@h'
    >>> find("ssh_command: ssh –p 22 root@h").command
    'ssh -p 22 root@h'
    """
    text = _plain(text)
    if NOTHING_YET.fullmatch(text):
        raise refused(text, 0, len(text), NO_COMMAND_YET, "wait until your provider shows one")
    command = pasted_fields.command(text)
    if command is not None:
        return Pasted(_line(_plain(command)))
    ignored: dict[str, str] = {}
    lines = _lines(text, ignored)
    return Pasted(DASHES.sub("-", _line(lines)), ignored)


def _plain(text: str) -> str:
    """Remove fences, HTML, and the quotes and blanks of a word processor."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if TAG.search(text):
        text = TAG.sub("", text)
    if ENTITY.search(text):
        text = html.unescape(text)
    text = text.translate(SPACES | INVISIBLE | QUOTES).strip()
    if fenced := FENCE.fullmatch(text):
        text = fenced[2].strip()
    return text


def _lines(text: str, ignored: dict[str, str]) -> str:
    """Return the line with the command, if the others are labels, a password, or a comment of the shell.

    A command that continues on the next line stays in one piece.
    """
    lines = [line.strip() for line in re.split(r"(?<!\\)\n", text)]
    lines = [line for line in lines if line and not LABEL.fullmatch(line)]
    if len(lines) < 2:
        return lines[0] if lines else text
    kept = []
    for line in lines:
        if PASSWORD_LINE.fullmatch(hide(line)) and line != hide(line):
            ignored[hide(line)] = "pi logs in with keys only"
        else:
            kept.append(line)
    commands = [line for line in kept if not line.startswith("#") or (PROMPT.match(line) and IS_SSH.search(line))]
    return commands[0] if len(commands) == 1 else "\n".join(kept)


def _line(text: str) -> str:
    """Remove what stands around a command on its line: a prompt, a label, quotes, Markdown."""
    for _ in range(3):  # a table's cell may have a label and quotes
        before = text
        text = _unquoted(_unlabelled(_without_markdown(_without_prompt(text))))
        if text == before:
            break
    return PORT_IN_WORDS.sub(r"\1 -p \2", text) if PORT_IN_WORDS.fullmatch(text) else text


def _without_prompt(text: str) -> str:
    return PROMPT.sub("", text, count=1) if PROMPT.match(text) else text


def _without_markdown(text: str) -> str:
    if text.startswith("|") and text.endswith("|") and "\n" not in text:
        cells = [cell.strip() for cell in text.strip("|").split("|")]
        commands = [cell for cell in cells if IS_SSH.match(cell.strip("`*\"' "))]
        text = commands[0] if len(commands) == 1 else text
    if link := LINK.fullmatch(text):
        shown, target = link[1] or "", link[2] or link[3]
        text = target if target.lower().startswith("ssh://") else shown if IS_SSH.match(shown.strip("`")) else text
    if (emphasis := EMPHASIS.fullmatch(text)) and " " in emphasis[2] + " ":
        text = emphasis[2].strip()
    return text


def _unlabelled(text: str) -> str:
    if IS_SSH.match(text) and not text.startswith("SSH"):
        return text
    labelled = LABELLED.fullmatch(text) or HINTED.fullmatch(text)
    return labelled["value"].strip() if labelled else text


def _unquoted(text: str) -> str:
    quoted = QUOTED.fullmatch(text)
    return quoted[2].strip() if quoted and re.search(r"\s|^ssh://|@", quoted[2]) else text
