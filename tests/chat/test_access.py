"""What a model's server may read here: the working directory and `--allow`, but never a credential."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from pi_cli.chat import access as access_module
from pi_cli.chat import credentials, files, ripgrep, tools
from pi_cli.chat.access import Access, Answer, Question
from pi_cli.chat.events import ToolCall
from pi_cli.chat.schema import ToolError
from pi_cli.errors import BadUsage

SECRET = "SECRET-0123456789"
needs_rg = pytest.mark.skipif(ripgrep.find_program() is None, reason="ripgrep is not installed")

# What the names of the table stand for, as they are in a home.
CREDENTIALS = """
    .ssh/id_ed25519 .ssh/config .ssh/work .gnupg/private-keys-v1.d/a.key .aws/credentials .aws/sso/cache/a.json
    .azure/accessTokens.json .config/gcloud/credentials.db .config/gcloud/application_default_credentials.json
    .kube/config .docker/config.json .netrc _netrc .git-credentials .config/git/credentials .pgpass .my.cnf .npmrc
    .pypirc .cargo/credentials .cargo/credentials.toml .config/gh/hosts.yml .cache/huggingface/token
    .cache/huggingface/stored_tokens .huggingface/token .env .env.local .env.example .envrc prod.env app/.ENV
    server.pem tls/server.key a.p12 a.pfx passwords.kdbx id_rsa id_ecdsa keys/id_ed25519 backup/.ssh/id_rsa
    .bashrc .zshrc .profile .config/fish/config.fish
    .bash_history .zsh_history .python_history .psql_history .local/share/fish/fish_history
    .mozilla/firefox/x.default/logins.json .config/google-chrome/Default/Cookies .config/chromium/Default/Cookies
    .password-store/a.gpg .config/rclone/rclone.conf rclone.conf .vault-token .terraform.d/credentials.tfrc.json
    .terraformrc terraform.tfstate .codex/auth.json .claude/.credentials.json .claude.json .gemini/oauth_creds.json
    .config/github-copilot/hosts.json .boto .s3cfg .local/share/keyrings/login.keyring .config/op/config
    .m2/settings.xml .gradle/gradle.properties .gem/credentials .config/doctl/config.yaml .runpod/config.toml
    .kaggle/kaggle.json .pi/pods.json .git/config .netrc.bak .SSH/id Library/Keychains/login.keychain-db
    .config/BraveSoftware/Brave-Browser/Local%20State secrets.yaml service-account-1.json
    .config/mozilla/firefox/x.default/cookies.sqlite old/logins.json .mcp.json .config/Claude/claude_desktop_config.json
    .qwen/oauth_creds.json .local/share/opencode/auth.json .local/share/crush/crush.json .codeium/config.json
    .config/openstack/clouds.yaml .databricks/token-cache.json .brev/credentials.json .sentryclirc .gitconfig
    .local/state/zsh/history .local/state/nvim/shada/main.shada .hishtory/.hishtory.db .config/pnpm/rc
"""

ORDINARY = """
    README.md src/env.py src/environment.ts src/ssh.py src/keys.py src/tokens.py token.py src/netrc.py docs/pem.md
    src/chat_history.py order_history.json config.json .docker/Dockerfile .github/workflows/ci.yml .gitignore
    .git/HEAD .vscode/settings.json package.json src/run/user/a.py src/library/mail/a.py keyboard.key.py
    etc/kubernetes/a.yaml .claude/settings.json .claude/worktrees/a/b.py src/git/credentials/helper.go kubeconfig.go
    id_generator.py .cache/huggingface/hub/models.json src/credentials.py
"""


def write(path: Path, text: str = SECRET) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
    return path


def call(access: Access, name: str, **arguments: Any) -> str:
    result = asyncio.run(tools.use(tools.toolbox(access.cwd, access), ToolCall("1", name, json.dumps(arguments))))
    return result.output


def read(access: Access, path: Path | str) -> str:
    return call(access, "read", file_path=str(path))


# Folders


def test_without_a_terminal_only_the_working_directory_and_allowed_paths_are_open(cwd: Path, tmp_path: Path) -> None:
    write(cwd / "a.txt", "here")
    other, single, closed = (write(tmp_path / name / "a.txt", "there") for name in ("other", "single", "closed"))
    access = Access(cwd, allowed=[str(other.parent), str(single)])

    assert read(access, "a.txt") == "here"
    assert read(access, other) == read(access, single) == "there"
    assert call(access, "ls", path=str(other.parent)) == "a.txt"
    assert "is not open to tools" in call(access, "ls", path=str(single.parent))
    assert read(access, closed) == (
        f"error: {closed} is not open to tools, because it is outside the working directory {cwd}. "
        f"Continue without it, or ask the user to start `pi prompt` with `--allow {closed}`"
    )


@needs_rg
def test_every_tool_refuses_what_is_outside(cwd: Path, tmp_path: Path) -> None:
    outside = write(tmp_path / "outside" / "a.txt")
    (cwd / "folder").symlink_to(outside.parent)
    (cwd / "file").symlink_to(outside)
    (cwd / "up").mkdir()
    write(cwd / "fine.txt", "fine")
    access = Access(cwd)

    for path in (str(outside), "file", "folder/a.txt", "../outside/a.txt", "up/../../outside/a.txt"):
        assert "is not open to tools" in read(access, path), path
        assert "is not open to tools" in call(access, "rg", args=f". {path}"), path
    for folder in (str(outside.parent), "folder", "..", "up/../..", "/", "~", "~root"):
        assert "is not open to tools" in call(access, "ls", path=folder), folder
        assert "is not open to tools" in call(access, "glob", pattern="*", path=folder), folder
        assert "is not open to tools" in call(access, "rg", args=f"--files {folder}"), folder
        assert "is not open to tools" in call(access, "rg", args=f". {folder}"), folder
    for pattern in (f"{outside.parent}/*", "../outside/*", "folder/*", "{.,../outside}/*.txt", "~/*", "/*"):
        assert "is not open to tools" in call(access, "glob", pattern=pattern), pattern
    assert call(access, "rg", args="-uuu .") == "fine.txt:1:fine"


def test_a_missing_path_outside_is_refused_like_an_existing_one(cwd: Path, tmp_path: Path) -> None:
    answers = [read(Access(cwd), path) for path in (write(tmp_path / "there"), tmp_path / "gone")]
    assert answers[0].replace("there", "gone") == answers[1]


@pytest.mark.parametrize("path", ["nowhere", "", "nul\0"])
def test_only_what_exists_can_be_allowed(cwd: Path, path: str) -> None:
    with pytest.raises(BadUsage, match="cannot allow"):
        Access(cwd, allowed=[path])


def test_the_kernels_trees_and_folders_of_credentials_cannot_be_allowed(cwd: Path) -> None:
    write(cwd / ".ssh" / "config", "Host a")
    for path in ("/proc", "/dev/null", "/proc/self/environ", ".ssh"):
        with pytest.raises(BadUsage, match="cannot allow"):
            Access(cwd, allowed=[path])
    assert read(Access(cwd, allowed=[".ssh/config"]), ".ssh/config") == "Host a"


# Credentials


@pytest.mark.parametrize("name", CREDENTIALS.split())
def test_a_credential_is_closed_in_an_open_folder(cwd: Path, name: str) -> None:
    path = write(cwd / name)
    (cwd / "link").symlink_to(path)
    (cwd / "folder-link").symlink_to(path.parent)
    access = Access(cwd)

    for each in (path, name, f"./sub/../{name}", "link", f"folder-link/{path.name}"):
        answer = read(access, each)
        assert SECRET not in answer
        assert "may hold credentials" in answer
    for pattern in ("**/*", f"{path.parent}/*", name):
        assert str(path) not in call(access, "glob", pattern=pattern).splitlines()


@pytest.mark.parametrize("name", ORDINARY.split())
def test_an_ordinary_file_stays_open(cwd: Path, name: str) -> None:
    write(cwd / name, "fine")
    assert read(Access(cwd), name) == "fine"


@needs_rg
def test_rg_skips_the_same_files_as_the_other_tools_do(cwd: Path, tmp_path: Path) -> None:
    """In the working directory and in another folder; whatever its globs say."""
    other = tmp_path / "other"
    for folder in (cwd, other):
        for name in CREDENTIALS.split():
            write(folder / name)
        for name in ORDINARY.split():
            write(folder / name, "fine")
    access = Access(cwd, allowed=[str(other)])

    for args in (
        "-uuu .",
        f"-uuu . {cwd} {other}",
        "-uuu -g '*' .",
        "-uuu -g .env --iglob '.ENV*' .",
        "-uuu --glob '.ssh/**' .",
    ):
        assert SECRET not in call(access, "rg", args=args), args
    found = set(call(access, "rg", args=f"-uuu --files {cwd} {other}").splitlines())
    assert found == {str(folder / name) for folder in (cwd, other) for name in ORDINARY.split()}
    listed = set(call(access, "glob", pattern=f"{other}/**").splitlines())
    assert listed == {str(other / name) for name in ORDINARY.split() if not name.startswith(".git/")}


@needs_rg
def test_names_with_spaces_are_closed_to_every_tool(cwd: Path) -> None:
    path = write(cwd / "Library" / "Application Support" / "Google" / "Chrome" / "Default" / "Login Data")
    assert "may hold credentials" in read(Access(cwd), path)
    assert call(Access(cwd), "rg", args="-uuu .") == "no matches"


@needs_rg
def test_a_home_as_working_directory_keeps_its_credentials(environment: Path) -> None:
    for name in CREDENTIALS.split():
        write(environment / name)
    write(environment / "notes.txt", "fine")
    access = Access(environment)

    assert call(access, "rg", args="-uuu .") == "notes.txt:1:fine"
    assert call(access, "rg", args="-uuu . ~") == f"{environment}/notes.txt:1:fine"
    assert read(access, "~/notes.txt") == "fine"
    for path in ("~/.ssh/id_ed25519", "~/.pi/pods.json"):
        assert "may hold credentials" in read(access, path)


@needs_rg
@pytest.mark.parametrize("name", [".claude/settings.json", ".codex/config.toml", ".docker/contexts/a/meta.json"])
def test_what_assistants_keep_in_a_home_is_closed_there(environment: Path, name: str) -> None:
    write(environment / name)
    write(environment / "project" / name, "fine")
    access = Access(environment)

    assert "may hold credentials" in read(access, name)
    assert read(access, f"project/{name}") == "fine"
    assert call(access, "rg", args="-uuu .") == f"project/{name}:1:fine"


@needs_rg
def test_the_homes_of_other_users_are_closed_like_ones_own(
    cwd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [cwd / "alice", tmp_path / "homes" / "bob"]
    monkeypatch.setattr(credentials, "homes", lambda: map(str, others))
    for home in others:
        write(home / ".claude" / "settings.json")
        write(home / "notes.txt", "fine")
    access = Access(cwd, allowed=[str(tmp_path / "homes")])

    for home in others:
        assert "may hold credentials" in read(access, home / ".claude" / "settings.json")
        assert call(access, "rg", args=f"-uuu -I . {home}") == "1:fine"
    assert call(access, "rg", args="-uuu .") == "alice/notes.txt:1:fine"


def test_a_working_directory_in_a_folder_of_credentials_is_closed(environment: Path) -> None:
    write(environment / ".ssh" / "config")
    access = Access(environment / ".ssh")

    assert "may hold credentials" in read(access, "config")
    assert "may hold credentials" in call(access, "ls", path=".")
    assert "may hold credentials" in call(access, "glob", pattern="*")
    assert "may hold credentials" in call(access, "rg", args="--files")


MOVED = {
    "PI_CONFIG_DIR": ("moved", "moved/conversations/a.json"),
    "HF_HOME": ("moved", "moved/token"),
    "HF_TOKEN_PATH": ("moved", "moved"),
    "KUBECONFIG": ("other:{cwd}/moved", "moved"),
    "XDG_CONFIG_HOME": ("moved", "moved/gcloud/credentials.db"),
    "AWS_SHARED_CREDENTIALS_FILE": ("moved", "moved"),
    "GOOGLE_APPLICATION_CREDENTIALS": ("moved", "moved"),
    "CARGO_HOME": ("moved", "moved/credentials.toml"),
}


@needs_rg
@pytest.mark.parametrize("variable", MOVED)
def test_a_credential_that_a_variable_moves_is_closed(
    cwd: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, name = MOVED[variable]
    monkeypatch.setenv(variable, f"{cwd}/{value}".replace("{cwd}", str(cwd)))
    write(cwd / name)
    write(cwd / "sub" / name, "another file")

    assert "may hold credentials" in read(Access(cwd), name)
    assert name not in call(Access(cwd), "glob", pattern=f"{cwd}/{name}*").splitlines()
    for args in ("-uuu .", f"-uuu . {cwd}"):
        found = call(Access(cwd), "rg", args=args)
        assert SECRET not in found
        assert "another file" in found


def test_the_api_key_is_closed_where_its_link_leads(environment: Path) -> None:
    write(environment / "work" / "secret")
    (environment / ".pi").mkdir()
    (environment / ".pi" / "key").symlink_to(environment / "work" / "secret")

    assert "may hold credentials" in read(Access(environment / "work"), "secret")
    assert "may hold credentials" in read(Access(environment), ".pi/key")


@needs_rg
def test_the_keys_that_ssh_uses_are_closed_whatever_they_are_called(environment: Path) -> None:
    write(environment / ".ssh" / "config", "Host *\n  identityfile ~/work/third key")
    for name in ("first", "second", "third key"):
        write(environment / "work" / name)
    pods = ["ssh -p 9 -i ~/work/first root@10.0.0.1", "ssh -oIdentityFile=~/work/second root@10.0.0.2", "ssh 'root@1"]
    access = Access(environment / "work", ssh_commands=pods)

    for name in ("first", "second", "third key"):
        assert "may hold credentials" in read(access, name)
    assert SECRET not in call(access, "rg", args="-uuu .")


@pytest.mark.parametrize(
    "beginning",
    ["-----BEGIN OPENSSH PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----", "\n-----BEGIN RSA PRIVATE KEY-----",
     "PuTTY-User-Key-File-3: ssh-ed25519", '{\n  "type": "service_account",'],
)  # fmt: skip
def test_a_private_key_is_closed_whatever_it_is_called(cwd: Path, beginning: str) -> None:
    write(cwd / "notes.txt", beginning)

    assert "may hold credentials" in read(Access(cwd), "notes.txt")
    assert "may hold credentials" in call(Access(cwd), "rg", args=". notes.txt")
    assert read(Access(cwd, allowed=["notes.txt"]), "notes.txt") == beginning


@needs_rg
def test_rg_skips_private_keys_whatever_they_are_called(cwd: Path, tmp_path: Path) -> None:
    """Also if its own options would show other lines of them only."""
    other = tmp_path / "other"
    for folder in (cwd, other):
        write(folder / "keys" / "deploy [1]", f"-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}")
        write(folder / "account.txt", f'{{"type": "service_account", "private_key": "{SECRET}"}}')
        write(folder / "about keys.md", f"It begins with -----BEGIN PRIVATE KEY-----, not with {SECRET[:6]}")
    for args in (
        SECRET, f"-uuu {SECRET}", f"-v x . {other}", f"--json {SECRET}", f"-l {SECRET} . {other}", f"-c {SECRET}",
        f"-g '*' {SECRET}", f"-E utf-16 . {other}", f"--passthru {SECRET}", f"-A9 BEGIN {other}", f"-r $0 -o {SECRET}",
    ):  # fmt: skip
        found = call(Access(cwd, allowed=[str(other)]), "rg", args=args)
        assert SECRET not in found.replace(f"`{SECRET}`", ""), args
        assert "deploy" not in found, args
    access = Access(cwd, allowed=["keys/deploy [1]"])
    assert call(access, "rg", args=f"-I {SECRET}") == f"2:{SECRET}"
    assert "about keys.md" in call(access, "rg", args="-l SECRET")


@needs_rg
@pytest.mark.parametrize(
    "name", [".netrc", ".config/gh/hosts.yml", ".local/share/keyrings/a/b/login.keyring", ".aws/a"]
)
def test_a_hard_link_to_a_credential_is_closed_too(environment: Path, name: str) -> None:
    (environment / "work").mkdir()
    (environment / "work" / "notes.txt").hardlink_to(write(environment / name))
    write(environment / "work" / "first.txt", "fine")
    (environment / "work" / "second.txt").hardlink_to(environment / "work" / "first.txt")
    access = Access(environment / "work")

    assert "may hold credentials" in read(access, "notes.txt")
    assert read(access, "second.txt") == "fine"
    assert set(call(access, "rg", args="-uuu .").splitlines()) == {"first.txt:1:fine", "second.txt:1:fine"}
    assert read(Access(environment / "work", allowed=["notes.txt"]), "notes.txt") == SECRET


@needs_rg
def test_a_credential_is_open_if_it_is_named(cwd: Path) -> None:
    write(cwd / ".env", "PORT=8080")
    write(cwd / ".env.local")
    access = Access(cwd, allowed=[".env"])

    assert read(access, ".env") == "PORT=8080"
    assert call(access, "rg", args="PORT .env") == "1:PORT=8080"
    assert call(access, "glob", pattern=".env*") == f"{cwd}/.env"
    assert "may hold credentials" in read(access, ".env.local")


def test_the_names_in_an_open_folder_are_listed(cwd: Path) -> None:
    write(cwd / ".env")
    assert call(Access(cwd), "ls", path=".") == ".env"


@pytest.mark.parametrize("name", [".S\N{LATIN SMALL LETTER LONG S}h/id", ".s\N{ZERO WIDTH NON-JOINER}sh/id", ".NETRC"])
def test_other_spellings_of_a_name_are_closed(name: str) -> None:
    """Some file systems ignore the case of letters, or letters without a width."""
    assert credentials.Credentials([]).has(f"/home/u/{name}")


def test_a_link_that_is_replaced_after_the_check_does_not_open_another_file(cwd: Path, tmp_path: Path) -> None:
    secret = write(tmp_path / "outside" / "a.txt")
    link = cwd / "folder"
    inside = write(cwd / "inside" / "a.txt", "fine")
    link.symlink_to(inside.parent)
    access = Access(cwd)
    path = access.locate("folder/a.txt")
    link.unlink()
    link.symlink_to(secret.parent)

    with pytest.raises(ToolError, match="is not open to tools"), access.opened(path):
        pass


def test_what_was_opened_is_checked_by_its_own_path(cwd: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt")
    with path.open() as file:
        path.rename(cwd / "b.txt")
        assert access_module.path_of(file.fileno()) == str(cwd / "b.txt")


# Questions


@pytest.fixture
def asked() -> list[Question]:
    return []


@pytest.fixture
def asking(cwd: Path, asked: list[Question]) -> Callable[..., Access]:
    """Return a function that makes an access whose user gives these answers."""

    def make(*answers: Answer) -> Access:
        left = iter(answers)

        async def ask(question: Question) -> Answer:
            await asyncio.sleep(0)
            asked.append(question)
            return next(left)

        return Access(cwd, ask=ask)

    return make


def test_yes_opens_the_files_in_a_folder_without_another_question(
    asking: Callable[..., Access], asked: list[Question], tmp_path: Path
) -> None:
    first, second = (write(tmp_path / "data" / name, "fine") for name in ("a.txt", "b.txt"))
    below = write(tmp_path / "data" / "below" / "c.txt", "fine")
    access = asking(Answer.yes, Answer.no)

    assert read(access, first) == read(access, second) == "fine"
    assert call(access, "ls", path=str(first.parent)) == "a.txt\nb.txt\nbelow/"
    assert len(asked) == 1
    assert "the user refused access" in read(access, below)
    assert [question.folder for question in asked] == [str(first.parent), str(below.parent)]


def test_always_here_opens_the_folders_below_too(
    asking: Callable[..., Access], asked: list[Question], tmp_path: Path
) -> None:
    first = write(tmp_path / "data" / "a.txt", "fine")
    below = write(tmp_path / "data" / "below" / "c.txt", "fine")
    key = write(tmp_path / "data" / "server.pem")
    access = asking(Answer.always)

    assert read(access, first) == read(access, below) == "fine"
    assert call(access, "glob", pattern="**/*", path=str(first.parent)).splitlines() == [str(first), str(below)]
    assert "may hold credentials" in read(access, key)
    assert len(asked) == 1


def test_no_is_remembered_for_the_folder(asking: Callable[..., Access], asked: list[Question], tmp_path: Path) -> None:
    first, second = (write(tmp_path / "data" / name) for name in ("a.txt", "b.txt"))
    access = asking(Answer.no)

    for path in (first, second, first):
        assert read(access, path).endswith(f"is not open to tools: the user refused access to {first.parent}")
    assert len(asked) == 1


@needs_rg
def test_a_search_asks_for_the_folders_below_too(
    asking: Callable[..., Access], asked: list[Question], tmp_path: Path
) -> None:
    below = write(tmp_path / "data" / "below" / "c.txt", "fine")
    data = str(tmp_path / "data")
    access = asking(Answer.yes, Answer.yes)

    assert call(access, "ls", path=data) == "below/"
    assert call(access, "rg", args=f"fine {data}") == f"{below}:1:fine"
    assert read(access, below) == "fine"
    assert [(question.folder, question.is_search) for question in asked] == [(data, False), (data, True)]


def test_calls_at_once_get_one_question(asking: Callable[..., Access], asked: list[Question], tmp_path: Path) -> None:
    paths = [write(tmp_path / "data" / name, "fine") for name in "abcd"]
    access = asking(Answer.yes)
    box = tools.toolbox(access.cwd, access)

    async def read_all() -> list[str]:
        calls = [ToolCall("1", "read", json.dumps({"file_path": str(path)})) for path in paths]
        return [result.output for result in await asyncio.gather(*(tools.use(box, each) for each in calls))]

    assert asyncio.run(read_all()) == ["fine"] * 4
    assert len(asked) == 1


def test_credentials_and_the_kernels_trees_are_not_asked_for(
    asking: Callable[..., Access], asked: list[Question], environment: Path
) -> None:
    write(environment / ".ssh" / "id_ed25519")
    for path in (
        "~/.ssh/id_ed25519",
        "~/.ssh",
        "~/.aws/credentials",
        "/proc/self/environ",
        "/dev/fd/0",
        "/proc/self/root/etc",
    ):
        assert read(asking(), path).startswith("error: ")
    assert asked == []


def test_a_link_is_asked_for_by_what_it_resolves_to(
    cwd: Path, asking: Callable[..., Access], asked: list[Question], tmp_path: Path
) -> None:
    target = write(tmp_path / "data" / "a.txt", "fine")
    (cwd / "link").symlink_to(target)

    assert read(asking(Answer.yes), "link") == "fine"
    assert asked == [Question("link", str(target), str(target.parent), is_search=False)]


def test_the_tools_by_themselves_open_only_the_working_directory(cwd: Path) -> None:
    with pytest.raises(ToolError, match="is not open to tools"):
        files.read("/etc/hosts", cwd=cwd, stop=Event())
