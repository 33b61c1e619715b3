"""Hide the passwords in a pasted text: pi logs in with keys only, and never repeats or stores a password.

They are hidden before the command is parsed, so that no error, hint or note can contain them. Only a ProxyCommand is
read from the text itself: a proxy may need a password.
"""

import re
from functools import cache

from pi_cli.ssh.command_words import MASK

# Accounts of machines, not of gateways: what follows `root:` and stands before `@` is a password, even if it has a `@`.
ACCOUNTS = "root|ubuntu|debian|centos|fedora|rocky|ec2-user|azureuser|opc|jovyan|runpod|workspace"


@cache  # compiled when first needed
def _password() -> re.Pattern[str]:
    word = r"""(?:'[^'\n]*'?|"[^"\n]*"?|\\.|[^\s'"\\])+"""  # of a shell; a quote that is not closed ends with its line
    return re.compile(
        rf"""
          (?:\bsshpass\b (?:\s+-[vVhe] | \s+-[fdP]\s*\S+)* \s+['"]?-p['"]?\s* ) (?P<sshpass>{word})
        | (?:\b(?:plink|putty|pscp|psftp|kitty|klink)\b [^\n]*? \s-pw\s+ ) (?P<plink>{word})
        | (?:\becho|\bprintf|<<<) \s+ (?:-\w+\s+)? (?P<piped>{word}) (?=\s*\|)
        | <<<\s* (?P<fed>{word})
        | (?<![\w-])(?:[A-Z0-9_]*(?:PASS(?:WORD|WD|PHRASE)?|SECRET|TOKEN|API_?KEY)[A-Z0-9_]*
          |(?i:password|passwd|pass|pwd|token)) = (?P<variable>{word})
        | (?<!\S)--?(?i:password|passwd|pass|token)(?:=|\s+)(?P<option>{word})
        | ["'](?i:\w*(?:pass(?:word|wd|phrase)?|secret|token|api_?key))["']\s*[:=]\s*
          (?P<field>"[^"\n]*"?|'[^'\n]*'?|[\w.-]+)
        | (?i:\b(?:(?:root|user|ssh|login)[ _-]?)?(?:password|passwort|passwd|passcode|passphrase|pass|pwd|pw|contraseña
          |mot\ de\ passe|пароль|密码))\b
          \s*(?:\)|\*\*)?\s* (?: [:：=]|\bis\b ) \s* (?P<said>[^\n]*[^\n)\]}}`*\s])
        | (?<![^\s(])(?i:password|passwd)\s+(?!-|is\b)(?P<named>{word})
        | (?<=://) [^\s:/@'"]* : (?P<url>[^\s'"/]+) (?=@)
        | (?<![^\s'"`(]) (?:{ACCOUNTS}) : (?P<account>[^\s'"]+) (?=@)
        | (?<![^\s'"`(]) [^\s:/@'"\[]+ : (?P<user>[^\s:/@'"]+) (?=@[^\s@]*(?:[\s'"]|$))
        | \b(?P<token>hf_[A-Za-z0-9]{{20,}}|sk-[A-Za-z0-9_-]{{20,}}|tskey-[\w-]+|gh[pousr]_\w{{20,}})
        """,
        re.VERBOSE,
    )


def hide(text: str) -> str:
    """Replace what is, or looks like, a password or a token with `***`.

    >>> hide("sshpass -p hunter2 ssh root@h")
    'sshpass -p *** ssh root@h'
    >>> hide("ssh root:hunter2@h")
    'ssh root:***@h'
    """
    return _password().sub(_replaced, text)


def _replaced(match: re.Match[str]) -> str:
    group = match.lastgroup or ""
    password = match[group]
    start, end = (at - match.start() for at in match.span(group))
    quote = password[0] if len(password) > 1 and password[0] == password[-1] in "'\"" else ""  # JSON needs them
    return f"{match[0][:start]}{quote}{MASK}{quote}{match[0][end:]}"
