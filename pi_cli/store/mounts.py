"""Mount commands of users: whether one has a secret in it. Such a command is neither recorded nor shown."""

import re

HIDDEN = "COMMAND"  # stands for a mount command with a secret in hints and messages

# Conservative: a command with a harmless option of such a name is not recorded either, and has to be typed again.
_NAME = r"[\w.-]*(?:pass|pwd|secret|token|cred|auth|key)[\w.-]*(?<!file)(?<!path)(?<!dir)(?<!\bcredentials)(?<!\bcred)"
_SECRET = re.compile(
    rf"""
    {_NAME} ["']? \s* [=] (?!\s)                        # password=S, secret_key=S, AWS_SECRET_ACCESS_KEY=S
    | --{_NAME} \s+ [^\s-]                              # --password S
    | (?<![a-z0-9]) (?:sas|sig|pin) ["']? =             # a SAS token, also as the query of a URL: ?sv=…&sig=S
    | "[\w-]* (?:pass|secret|token|key) [\w-]*" \s* :   # JSON
    | authorization ["']? \s* :
    | (?<![a-z0-9]) user (?:name)? = [^\s,;]* [%:]      # user=u%S, user=u:S
    | (?<!\S) (?:-u|--user(?:name)?) [\s=]* [^\s-][^\s,;]* [%:] [^\s/]   # -U u%S, --user u:S
    | // [^\s/@]* : [^\s/@]* @                          # a URL with a user and a password
    | (?<![\w-]) sshpass \b
    | pass\w* [_-]? stdin                               # echo S | sshfs -o password_stdin
    | (?: echo | printf | <<< ) [^;&\n]* (?:pass|secret|token|cred|key)   # echo S > ~/.passwd-s3fs
    """,
    re.IGNORECASE | re.VERBOSE,
)


def has_secret(command: str) -> bool:
    """Return whether a mount command seems to have a password, a key or a token in it.

    >>> has_secret("mount -t cifs -o username=me,password=hush //nas/models /mnt/models")
    True
    >>> has_secret("mount -t cifs -o credentials=/root/nas.credentials //nas/models /mnt/models")
    False
    """
    unquoted = re.sub(r"""["'\\]""", "", command)  # pass"word"=S
    return any(_SECRET.search(text) for text in (command, unquoted))


def shown(command: str) -> str:
    """Return a mount command for hints and messages: `COMMAND` if it has a secret.

    >>> shown("mount -t nfs nas:/models /mnt/models"), shown("mount -o password=hush //nas/models /mnt")
    ('mount -t nfs nas:/models /mnt/models', 'COMMAND')
    """
    return HIDDEN if has_secret(command) else command
