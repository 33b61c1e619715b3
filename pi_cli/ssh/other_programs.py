"""Programs that open a shell as ssh does, or take its arguments: what to paste instead of their commands.

Each entry is a pattern of the beginning of a command, and a hint; `ALONE` where nothing better is known. In a hint,
`{ssh}` is the ssh command that the pasted one stands for, `{rest}` what followed the program, and `{text}` all of it.
Only read when a command is refused.
"""

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress

from pi_cli import hints
from pi_cli.hints import fill
from pi_cli.ssh import command_words

SETUP = "`pi pods setup NAME {ssh}`"
ALONE = "paste the ssh command alone: " + SETUP
KEYS_ONLY = "pi logs in with keys only: " + SETUP
NO_SERVER = "pi needs an SSH server on the machine: start one there, and give the ssh command that reaches it"
PLAIN = "plain ssh reaches it too: " + SETUP

HINTS: dict[str, str] = {
    # clouds
    r"gcloud\s+(?:\w+\s+)*compute\s+ssh|gcloud\s+compute\s+tpus": "`{text} --dry-run` prints the ssh command to paste",
    r"gcloud\b": "`gcloud compute ssh VM --dry-run` prints the ssh command to paste",
    r"aws\s+(?:\S+\s+)*?ec2-instance-connect": (
        "paste an ssh command with its tunnel: `ssh -i KEY -o 'ProxyCommand=aws ec2-instance-connect open-tunnel "
        "--instance-id {instance}' ubuntu@{instance}`"
    ),
    r"aws\s+(?:\S+\s+)*?ssm": (
        "paste an ssh command with its tunnel: `ssh -i KEY -o 'ProxyCommand=aws ssm start-session --target %h "
        "--document-name AWS-StartSSHSession --parameters portNumber=%p' ubuntu@{instance}`"
    ),
    r"az\s+ssh": (
        "write a configuration with `az ssh config --file ~/.ssh/azure {rest}`, "
        "then give `ssh -F ~/.ssh/azure` and the host in that file"
    ),
    r"az\s+network\s+bastion": (
        "open a port with `az network bastion tunnel … --resource-port 22 --port 50022`, then give "
        "`ssh -p 50022 USER@127.0.0.1`"
    ),
    r"(?:oci|doctl|hcloud|linode-cli|scw|civo|exo|ibmcloud|openstack|nova)\b": (
        "give the machine's own address, as its console shows it: `ssh root@ADDRESS`"
    ),
    # providers of GPUs
    r"brev\s+(?:shell|open|ssh)": "`brev refresh` writes it into ~/.ssh/config, then give `ssh {rest}`",
    r"vastai\s+(?:ssh-url|scp-url|attach|execute)": "run `vastai ssh-url ID`, and paste the `ssh://…` that it prints",
    r"vastai\b": "run `vastai ssh-url ID`, and paste the `ssh://…` that it prints",
    r"runpodctl\b": "run `runpodctl ssh info POD`, and paste its line for exposed TCP, with the address and `-p`",
    r"lightning\b": "paste the line of the studio's SSH button: `ssh s_ID@ssh.lightning.ai`",
    r"prime\b": "run `prime pods status ID`, and paste its SSH line",
    r"tnr\s+connect": "it writes an alias into ~/.ssh/config: give `ssh tnr-{rest}`",
    r"dstack\b": "while `dstack attach RUN` runs, give `ssh RUN`",
    r"sky\b": "SkyPilot writes an alias into ~/.ssh/config: give `ssh CLUSTER`",
    r"modal\b": "a container of Modal has no SSH server: use a machine or a pod with SSH",
    r"(?:fly|flyctl|railway|heroku|render|beam|cerebrium|koyeb)\b": NO_SERVER,
    r"coder\s+ssh": "`coder config-ssh` writes it into ~/.ssh/config, then give `ssh coder.{rest}`",
    r"gh\s+(?:codespace|cs)": "`gh codespace ssh --config` prints a configuration for ~/.ssh/config; give its alias",
    r"devpod\s+ssh": "it is in ~/.ssh/config already: give `ssh {rest}.devpod`",
    r"tsh\s+ssh": "`tsh config` prints a configuration for ~/.ssh/config; give its host",
    r"vagrant\b": "write `vagrant ssh-config > FILE`, then give `ssh -F FILE default`",
    r"lima(?:ctl)?\b": "give `ssh -F ~/.lima/INSTANCE/ssh.config lima-INSTANCE`",
    # networks
    r"tailscale\s+ssh": PLAIN,
    r"cloudflared\s+access": "paste `ssh -o 'ProxyCommand=cloudflared access ssh --hostname %h' USER@HOST`",
    # containers
    r"(?:kubectl|oc|k9s)\b": (f"{NO_SERVER}, e.g. `kubectl port-forward POD 2222:22` and `ssh -p 2222 root@127.0.0.1`"),
    r"(?:docker|podman|nerdctl|lxc|incus|enroot|singularity|apptainer|multipass|machinectl)\b": NO_SERVER,
    r"(?:srun|salloc|sbatch|bsub|qsub)\b": "log in to the node that you were given: `ssh -J LOGIN-NODE NODE`",
    # programs that use ssh, or its arguments
    r"(?:mosh|autossh|et|eternalterminal|sshfs|scp|rsync|sftp|ssh-copy-id|sshuttle|lftp)(?:\.exe)?\b": ALONE,
    r"(?:putty|plink|pscp|psftp|kitty|klink|winscp)(?:\.exe)?\b": (
        f"paste it as an ssh command: {SETUP}; a key in the form of PuTTY is converted with "
        "`puttygen KEY.ppk -O private-openssh -o KEY`"
    ),
    r"(?:code|cursor|windsurf|codium|zed)\b|vscode(?:-remote)?:|Remote-SSH|ssh-remote\+|cursor:|jetbrains": (
        f"give the ssh command of that host: {SETUP}"
    ),
    r"(?:sftp|scp|fish|sshfs)://": f"give it as an ssh address: {SETUP}",
    r"(?:https?|wss?|rdp|vnc|telnet)://": "that is not an SSH address: paste the ssh command from the provider's page",
    r"(?:ssh-keygen|ssh-add|ssh-agent|ssh-keyscan|chmod|cd|mkdir|export|eval|apt|sudo\s+apt|pip|curl|wget)\b": (
        f"run that yourself; for pi, {ALONE}"
    ),
    r"sshpass\b": KEYS_ONLY,
    r"(?:echo|printf|cat|expect|yes)\b": KEYS_ONLY,
    r"pi\s+pods\s+setup\b": "give only what follows the name of the pod",
}
PUTTY = ("putty", "plink", "pscp", "psftp", "kitty", "klink")
COPYING = ("scp", "rsync", "pscp", "sshfs", "sftp", "psftp", "lftp")
OTHER_PORT = ("mosh", "et", "eternalterminal")  # their port is not that of ssh
LARGE_P = ("scp", "sftp", *PUTTY)  # the port is `-P`; with scp and sftp, `-p` has no value
# A bare word is a host for these.
WITHOUT_USER = {"mosh", "et", "autossh", "ssh-copy-id", "sftp", "putty", "plink", "kitty", "klink"}
WITH_VALUE = "bBcDEeFIiJLlMmOopQRSWw"  # letters of options, as with ssh
REMOTE = re.compile(r"((?:[\w.+-]+@)?(?:\[[0-9a-fA-F:]+\]|[\w.-]+\.[\w.-]+|[\w-]+)):(?!//)")
BEFORE = re.compile(r"\A(?:sudo\s+(?:-\w+\s+)*|\w+=\S*\s+|(?:npx|uvx|pipx run|exec|time|nohup|wsl(?:\.exe)?)\s+)+")
ADDRESS = re.compile(
    r"(?:sftp|scp|fish|sshfs)://(?:([^@/:]*)(?::[^@/]*)?@)?([\w.-]+|\[[^\]]+\])(?::(\d+))?", re.IGNORECASE
)
INSTANCE = re.compile(r"\b(?:i|mi)-[0-9a-f]{8,17}\b")


def refuse(text: str) -> None:
    """Raise `BadUsage` if a text is the command of a program that pi knows. It has no passwords (`passwords.hide`)."""
    if (better := hint(text)) is None:
        return
    first, *others = text.split()
    inner = re.search(r"\s(?=(?:\S*[/\\])?ssh(?:\.exe)?\s)", text)
    at = next((word for word in others if "@" in word and not word.startswith("-")), None)
    end = inner.start() if inner else len(first)
    rest = "comes before `ssh`" if inner else f"comes before `{at}`" if at and "://" not in first else "is not ssh"
    raise command_words.refused(text, 0, end, f"`{text[:end].strip()}` {rest}", better)


def hint(text: str) -> str | None:
    """Return what to paste instead of the command of another program; None if pi does not know the program."""
    command = BEFORE.sub("", text)
    for pattern, template in HINTS.items():
        if match := re.match(rf"(?:\S*[/\\])?(?:{pattern})", command, re.IGNORECASE):
            return _filled(template, command, command[match.end() :].strip())
    return None


def _filled(template: str, command: str, rest: str) -> str:
    ssh = meant(command)
    if "{ssh}" in template and ssh is None:
        template = template.replace(f": {SETUP}", "").replace(SETUP, "paste the ssh command alone")
    words = [word for word in rest.split() if not word.startswith("-")]
    if "{rest}" in template and template.startswith("write"):
        words = rest.replace("vm ", "", 1).split()
    values = {"instance": (INSTANCE.findall(command) or ["INSTANCE"])[0], "text": command.split(), "ssh": ssh or ""}
    return fill(template, rest=words[-1:] if not template.startswith("write") else words or ["…"], **values)


def meant(command: str) -> str | None:
    """Return the ssh command with the host, the port and the key of another program's command; None without a host.

    >>> meant("scp -P 22119 model.bin root@1.2.3.4:/data")
    'ssh -p 22119 root@1.2.3.4'
    """
    if addressed := _of_address(command):
        return addressed
    inner = re.search(r"\s(ssh(?:\.exe)?\s[^;&|\n]*)", command)
    if inner and not re.match(r"(?:tailscale|mosh|rsync)\b", command):
        return inner[1].strip() if "@" in inner[1] else None
    with suppress(ValueError):
        words = shlex.split(command.replace("\\", "\\\\"))
        return _of_words(words)
    return None


def _of_words(words: list[str]) -> str | None:
    program = re.split(r"[/\\]", words[0])[-1].lower().removesuffix(".exe")
    given: dict[str, str] = {}  # the values of options by letter
    hosts: list[str] = []
    rest = iter(words[1:])
    for word in rest:
        if word.startswith("--"):
            given.setdefault("e", word.partition("=")[2])
        elif word.startswith("-"):
            letter, value = _option(word, rest, program)
            given.setdefault(letter, value)
        elif host := _host_in(word, program):
            hosts.append(host)
    if not hosts:
        return None
    port = re.search(r"-p\s*(\d+)", given.get("e", ""))
    if program in OTHER_PORT:
        return _ssh(hosts[0].partition(":")[0], port=port[1] if port else "")
    number = given.get("P" if program in LARGE_P else "p", "")
    return _ssh(hosts[0], user=given.get("l"), port=number or (port[1] if port else ""), key=given.get("i", ""))


def _ssh(host: str, *, user: str | None = "", port: str | None = "", key: str = "") -> str:
    name, _, address = host.rpartition("@")
    ending = re.fullmatch(r"([^:]+):(\d+)", address)
    if ending:
        address, port = ending[1], port or ending[2]
    options = [
        *(["-p", port] if port and port.isdigit() else []),
        *(["-i", key] if key and not key.endswith(".ppk") else []),
    ]
    name = name or user or ""
    return hints.command("ssh", *options, f"{name}@{address}" if name else address)


def _option(word: str, rest: Iterator[str], program: str) -> tuple[str, str]:
    """Return the letter and the value of an option; take the value from the words that follow, if it is there."""
    if program in PUTTY and len(word) > 2:  # `-ssh`, `-pw ***`
        return word[1:], next(rest, "") if word in ("-pw", "-load", "-hostkey", "-pwfile") else ""
    has_value = word[1:2] in WITH_VALUE and not (word[1:2] == "p" and program in ("scp", "sftp"))
    if program == "rsync":
        has_value, word = word.endswith("e"), f"-{word[-1]}"
    if not has_value and not (word[1:2] == "P" and program in LARGE_P):
        return word[1:2], ""
    return word[1:2], word[2:] or next(rest, "")


def _host_in(word: str, program: str) -> str:
    """Return `USER@HOST` from a word, or nothing: files are named too, and only the remote one has a host."""
    if program in COPYING and (remote := REMOTE.match(word)):
        return remote[1]
    return word if "@" in word or program in WITHOUT_USER else ""


def _of_address(command: str) -> str | None:
    """Return the ssh command for an address: `sftp://root@h:22`, `vscode-remote://ssh-remote+root@h/…`."""
    remote = re.search(r"ssh-remote\+([^/\s'\"?]+)", command)
    if remote:
        return _of_remote(remote[1])
    if url := ADDRESS.match(command):
        return _ssh(url[2], user=url[1], port=url[3])
    named = re.search(r"(?:Remote-SSH|jetbrains)[^@]*?([\w.-]+@[\w.-]+(?::\d+)?)", command, re.IGNORECASE)
    return _ssh(named[1]) if named else None


def _of_remote(name: str) -> str:
    """Return the ssh command for VS Code's name of a host, which may be JSON in hexadecimal."""
    with suppress(ValueError, KeyError, TypeError):
        host = json.loads(bytes.fromhex(name))
        return _ssh(str(host["hostName"]), user=host.get("user", ""), port=str(host.get("port", "")))
    return _ssh(name.replace("%40", "@"))
