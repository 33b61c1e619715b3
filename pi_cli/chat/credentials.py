"""Which files hold credentials: keys, tokens, passwords, sessions of browsers, and what shells export and remember.

Python reads the tables for a path (`Credentials.has`), and `rg` gets them as globs (`Credentials.exclusions`).
"""

import itertools
import os
import re
import shlex
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

# Files and folders of these names, in any folder: the homes of other users and backups are closed as well. A row with
# slashes is that path below any folder; `?` is one character, for example a space. What lies in a folder of the table
# is closed with it. The case of letters is ignored: for some file systems `.SSH` and `.ssh` are the same folder.
TABLE = """
    .ssh .gnupg .putty id_rsa* id_dsa* id_ecdsa* id_ed25519* id_xmss* ssh_host_*key* authorized_keys known_hosts
    *.pem* *.key *.key.bak *.key~ *.p8 *.p12 *.pfx *.jks *.keystore *.ppk *.gpg *.pgp *.age *.keytab krb5cc_* *.ovpn
    .env* *.env .secret* secret.json secrets.json secrets.y*ml secrets.toml secrets.ini secrets.properties .token*
    *.token .hf_token* .api_key* .apikey* passwords.txt passwords.csv .htpasswd* etc/shadow* etc/gshadow*

    .netrc* _netrc* .authinfo* .git-credentials* .git/config .config/git/credentials .pgpass* pgpass.conf
    .pg_service.conf .my.cnf* .mylogin.cnf .smbcredentials* .passwd-s3fs .curlrc .wgetrc .msmtprc .fetchmailrc
    .offlineimaprc .mbsyncrc .muttrc .mutt .config/neomutt .config/msmtp .config/isync* .config/aerc .config/vdirsyncer
    .davfs2 .subversion/auth .config/filezilla .filezilla .config/remmina share/remmina .xauthority .iceauthority .vnc
    .gitconfig .config/git/config share/dbeaverdata .config/borg .tsh .step

    .aws .azure .config/gcloud application_default_credentials.json credentials.json client_secret*.json
    service-account*.json service_account*.json .boto .s3cfg .oci .aliyun .bluemix .config/doctl .config/hcloud
    .linode-cli .config/linode-cli .config/scw .kube kubeconfig *.kubeconfig kubeconfig.y*ml .docker/config.json
    .dockercfg .config/helm .argocd .config/argocd .talos .vault-token* .terraform.d .terraformrc *.tfstate* *.tfvars*
    .pulumi .vault_pass* .config/sops .config/rclone rclone.conf .config/gh .config/hub .config/glab-cli .config/tea
    .config/heroku .fly .config/netlify .netlify com.vercel.cli .railway .config/.wrangler .wrangler .cloudflared
    .ngrok2 .config/ngrok .supabase .config/configstore .config/stripe .databrickscfg .snowflake .snowsql .dbt .kaggle
    .config/kaggle .modal.toml .runpod .config/vastai .vast_api_key .lambda_cloud .prime/config.json .sky .brev .nebius
    .crusoe .civo.json .vultr-cli.yaml .config/exoscale .ovh.conf .upctl* .config/upctl* .config/openstack clouds.y*ml
    secure.y*ml .mc/config.json .databricks .doppler .infisical .akeyless .sentryclirc .config/turso .config/planetscale
    .config/wandb .comet.config .fireworks .together .lightning .trussrc .cerebrium .beam

    .npmrc* .yarnrc* .pypirc* .condarc pip.conf .config/pypoetry share/uv/credentials .cargo/credentials*
    .gem/credentials .bundle/config .m2/settings* .gradle/gradle.properties .nuget/nuget auth.json .cabal/config
    .lein/credentials* .sbt/*credentials* .ivy2/*credentials* .jfrog .config/hatch .config/pnpm .bunfig.toml

    huggingface/token huggingface/stored_tokens .huggingface .config/openai .openai .config/anthropic .anthropic
    .claude/.credentials.json .claude.json* .claude/history.jsonl .claude/projects .codex/history.jsonl
    .codex/sessions .gemini/oauth_creds.json .config/github-copilot .copilot io.datasette.llm .config/goose .aider*
    .continue .cursor/mcp.json .config/cursor .config/code .pi/agent .pi/key* .pi/pods.json .openclaw oauth_creds*.json
    .mcp.json .vscode/mcp.json mcp_config.json mcp-auth.json claude_desktop_config.json .config/claude .config/opencode
    share/opencode .config/crush share/crush .config/amp share/amp share/goose .config/vscodium .config/windsurf
    .codeium .config/antigravity .config/kiro .config/trae .augment .tabnine .config/zed

    .*_history* .*-history* .zhistory .histfile .history .rhistory fish_history .bash_sessions .zsh_sessions .lesshst
    .viminfo* .config/nushell share/atuin consolehost_history.txt history.sqlite* jupyter_cookie_secret
    share/jupyter/runtime bash/history zsh/history less/history python/history psql/history node/history share/xonsh
    state/elvish .elvish .hishtory share/mcfly share/hstr *.shada nvim/shada share/tmux/resurrect state/warp-terminal

    .bashrc* .bash_profile* .bash_login .bash_aliases .profile .zshrc* .zprofile .zshenv .zlogin .cshrc .tcshrc .kshrc
    .config/fish .xonshrc .config/xonsh .xprofile .xsessionrc .pam_environment .config/environment.d
    etc/environment *profile.ps1

    library/keychains .mozilla .config/mozilla .thunderbird .librewolf .config/librewolf .waterfox .floorp .zen
    .config/zen .config/thorium .config/net.imput.helium .config/yandex-browser* cookies.sqlite* cookies.txt
    logins.json key3.db key4.db .config/google-chrome* .config/chromium*
    .config/bravesoftware .config/microsoft-edge* .config/vivaldi* .config/opera* snap/firefox snap/chromium .var/app
    .tor-browser application?support/google application?support/firefox application?support/chromium
    application?support/arc application?support/bravesoftware application?support/microsoft?edge
    application?support/code share/keyrings share/kwalletd share/evolution .password-store .gopass share/gopass *.kdbx
    *.kdb *.opvault *.agilekeychain *.1pux .op .config/op .1password .config/1password .config/bitwarden*
    .config/keepassxc .lastpass .lpass share/lpass .config/rbw share/rbw .config/authy* .config/signal .config/slack
    .config/discord .purple .pki .electrum .bitcoin .ethereum .config/solana wallet.dat *.wallet
    .config/element .config/teams* .config/zoom* share/telegramdesktop .foundry/keystores utc--* .config/sui adbkey
"""
ROWS = TABLE.split()
LAST_SEGMENTS = frozenset(row.rpartition("/")[2] for row in ROWS)

# In these places only: the same names are common in other folders.
IN_HOME = (
    ".pi", ".pi/key", ".claude", ".codex", ".gemini", ".qwen", ".kimi", ".grok", ".factory", ".docker",
    *(f"Library/{name}" for name in ("Cookies", "Safari", "Mail", "Messages", "Containers")),
)  # fmt: skip
ON_THE_SYSTEM = (
    "/etc/kubernetes", "/etc/letsencrypt", "/etc/NetworkManager/system-connections", "/etc/openvpn", "/etc/ppp",
    "/etc/rancher", "/etc/security/opasswd", "/etc/ssl/private", "/etc/sudoers", "/etc/sudoers.d", "/etc/wireguard",
    "/run/credentials", "/run/secrets", "/run/user", "/var/lib/kubelet", "/var/lib/sss",
    "/var/lib/tailscale",
)  # fmt: skip

# Variables that move a credential to another place: the path itself, or these names in the folder that it names.
MOVED: Mapping[str, tuple[str, ...]] = {
    "CARGO_HOME": ("credentials", "credentials.toml"),
    "CLAUDE_CONFIG_DIR": (".credentials.json", ".claude.json", "history.jsonl", "projects"),
    "CODEX_HOME": ("auth.json", "history.jsonl", "sessions"),
    "DOCKER_CONFIG": ("config.json",),
    "HF_HOME": ("token", "stored_tokens"),
    "PI_CONFIG_DIR": (".", "key"),  # the key by its own name, too: it may be a link
    "XDG_CACHE_HOME": ("huggingface/token", "huggingface/stored_tokens"),
    "XDG_CONFIG_HOME": tuple(row.removeprefix(".config/").rstrip("*") for row in ROWS if row.startswith(".config/")),
    "XDG_STATE_HOME": tuple(row.removeprefix("state/") for row in ROWS if row.startswith("state/")),
    "XDG_DATA_HOME": tuple(row.removeprefix("share/") for row in ROWS if row.startswith("share/")),
} | dict.fromkeys(
    ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AZURE_CONFIG_DIR", "BOTO_CONFIG",
     "CLOUDSDK_CONFIG", "GH_CONFIG_DIR", "GLAB_CONFIG_DIR", "GNUPGHOME", "GOOGLE_APPLICATION_CREDENTIALS",
     "HF_STORED_TOKENS_PATH", "HF_TOKEN_PATH", "HISTFILE", "KAGGLE_CONFIG_DIR", "KUBECONFIG", "MYSQL_HISTFILE", "NETRC",
     "NODE_REPL_HISTORY", "NPM_CONFIG_USERCONFIG", "PASSWORD_STORE_DIR", "PGPASSFILE", "PGSERVICEFILE",
     "PIP_CONFIG_FILE", "PSQL_HISTORY", "PYTHON_HISTORY", "RCLONE_CONFIG", "REGISTRY_AUTH_FILE",
     "SQLITE_HISTORY", "TF_CLI_CONFIG_FILE", "XAUTHORITY", "npm_config_userconfig"],
    (),
)  # fmt: skip

MAX_HOMES = 200  # of other users; their names become options of `rg`

KEY_HEADER = re.compile(
    rb"\s*(?:-----BEGIN (?:[A-Z0-9 ]+ )?PRIVATE KEY(?: BLOCK)?-----|PuTTY-User-Key-File-"
    rb'|\{\s*"type":\s*"(?:service_account|authorized_user)")'
)
IDENTITY_FILE = re.compile(r"^\s*IdentityFile[\s=]+\"?([^\"\n]+)", re.IGNORECASE | re.MULTILINE)


class Credentials:
    """The credentials of one user: the table, and the `places` that the environment and ssh commands name."""

    def __init__(self, places: Iterable[Path]) -> None:
        absolute = {os.path.normpath(place.absolute()) for place in places}
        self.places = sorted((absolute | {os.path.realpath(place) for place in absolute}) - {"/"})
        self._folded = {folded(place) for place in self.places}

    def has(self, path: str) -> bool:
        """Return whether an absolute path is a credential, or lies in a folder of them."""
        path = folded(path)
        if _pattern().search(path):
            return True
        while len(path) > 1:
            if path in self._folded:
                return True
            path = path.rpartition("/")[0]
        return False

    def has_entry(self, entry: os.DirEntry[str]) -> bool:
        """Return the same for an entry of a folder that is not closed; faster, for searches in large trees."""
        name, path = folded(entry.name), folded(entry.path)
        is_candidate = name in LAST_SEGMENTS or _last_segments().fullmatch(name) is not None
        return path in self._folded or (is_candidate and _pattern().search(path) is not None)

    def exclusions(self, cwd: str, trees: Iterable[str], *, also: Iterable[str] = ()) -> list[str]:
        """Return the options that make `rg` skip credentials in these trees. They have to be the last globs.

        A glob with one slash at its start is a path below the working directory, one with two is an absolute path.
        """
        above = tuple(f"{folded(tree).rstrip('/')}/" for tree in trees)
        places = [*(place for place in self.places if f"{folded(place)}/".startswith(above)), *also]
        prefix = cwd.rstrip("/") + "/"
        globs = [f"**/{{{','.join(ROWS)}}}", *(f"/{escaped(place)}" for place in places)]
        globs += [f"/{escaped(place.removeprefix(prefix))}" for place in places if place.startswith(prefix)]
        return [f"--iglob=!{glob}" for glob in globs]


def places(environ: Mapping[str, str], ssh_commands: Iterable[str] = ()) -> Iterator[Path]:
    """Yield the places of credentials beside the table: below home, on the system, and where variables move them.

    The private keys that `ssh_commands` and the user's ssh configuration name are among them: they may have any name.
    """
    yield from map(Path, ON_THE_SYSTEM)
    named = [f"{home}/{name}" for home in ("~", *homes()) for name in IN_HOME]
    for variable, names in MOVED.items():
        values = environ.get(variable, "").split(os.pathsep if variable == "KUBECONFIG" else "\n")
        named += [f"{value}/{name}" for value in values if value for name in names or ("",)]
    named += [name for command in ssh_commands for name in identity_files(command)]
    with suppress(OSError, RuntimeError):
        configuration = Path("~/.ssh/config").expanduser().read_text(encoding="utf-8", errors="replace")
        named += [name.strip() for name in IDENTITY_FILE.findall(configuration)]
    for name in named:
        with suppress(RuntimeError):  # of a user without a home
            yield Path(name).expanduser()


def homes() -> Iterator[str]:
    """Yield the homes of this machine, at the usual places."""
    yield "/root"
    for folder in ("/home", "/Users"):
        with suppress(OSError), os.scandir(folder) as entries:
            yield from (entry.path for entry in itertools.islice(entries, MAX_HOMES))


def identity_files(ssh_command: str) -> Iterator[str]:
    """Yield the private keys that an ssh command names.

    >>> list(identity_files("ssh -p 9 -i /keys/a -oIdentityFile=/keys/b root@10.0.0.1"))
    ['/keys/a', '/keys/b']
    """
    try:
        words = shlex.split(ssh_command)
    except ValueError:
        return
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("-i"):
            yield word[2:] or following
        elif word.startswith("-o"):
            name, _, value = (word[2:] or following).partition("=")
            if name.strip().lower() == "identityfile":
                yield value.strip()


def is_private_key(beginning: bytes) -> bool:
    """Return whether a file that begins so is a private key, or a cloud account with one: they may have any name.

    >>> is_private_key(b"-----BEGIN OPENSSH PRIVATE KEY-----"), is_private_key(b"-----BEGIN CERTIFICATE-----")
    (True, False)
    """
    return KEY_HEADER.match(beginning) is not None


def folded(path: str) -> str:
    """Return the form in which paths are compared: without case, and without characters that HFS+ ignores in names."""
    if path.isascii():
        return path.lower()
    return "".join(letter for letter in path.casefold() if unicodedata.category(letter) != "Cf")


def escaped(path: str) -> str:
    """Write a path as a glob that matches only this path."""
    return re.sub(r"([\\*?\[\]{}])", r"\\\1", path)


@cache
def _pattern() -> re.Pattern[str]:
    return re.compile(f"/(?:{'|'.join(map(_expression, ROWS))})(?:/|$)")


@cache
def _last_segments() -> re.Pattern[str]:
    return re.compile("|".join(_expression(name) for name in LAST_SEGMENTS if "*" in name or "?" in name))


def _expression(row: str) -> str:
    return re.escape(row).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
