"""What the agents that people run need to use a model: variables, arguments, and files that go with the run.

`pi run` chooses a recipe by the name of the command. Nothing of a user's own is changed: a recipe's files are in a
folder that is deleted afterwards, and the user's own arguments come last, so that they count.
`tests/clients` runs those that install from npm or PyPI. What was tried, with which version, is in docs/clients.md.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath

KEY_OF_CONTINUE = "${{ secrets.OPENAI_API_KEY }}"  # Continue's words for a variable
DEFAULT_CONTEXT = 32_768  # tokens, if the model does not say how many it has
FOLDER = "{folder}"  # stands for the folder of the files, in a variable or an argument


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model for a client: `url` ends with `/v1`; `context` is in tokens, None if it is not known."""

    url: str
    name: str
    context: int | None = None

    @property
    def host(self) -> str:
        return self.url.removesuffix("/v1")

    @property
    def tokens(self) -> int:
        return self.context or DEFAULT_CONTEXT

    @property
    def output(self) -> int:
        """Return a limit for answers, in tokens: vLLM refuses one above the context, agents ask for 32,000 and more."""
        return max(min(32_000, self.tokens // 4), 1)


@dataclass(frozen=True, slots=True)
class Setup:
    """What one client needs; `files` are texts by their paths in the folder."""

    variables: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    def in_folder(self, folder: str) -> "Setup":
        """Return the setup with the files in this folder."""
        variables = {name: value.replace(FOLDER, folder) for name, value in self.variables.items()}
        arguments = tuple(word.replace(FOLDER, folder) for word in self.arguments)
        return Setup(variables, arguments, self.files)


def recipe_for(command: str) -> "Callable[[Endpoint], Setup] | None":
    """Return the recipe for a command, by the name of its program; None for one that needs no more than variables.

    >>> recipe_for("/usr/local/bin/codex") is codex
    True
    """
    return RECIPES.get(PurePath(command).name)


def refusal(command: str) -> str | None:
    """Return why a program is not started; None if it is.

    The command of pi-coding-agent is `pi` too, so it is known by the package that it lies in.
    """
    name = PurePath(command).name
    program = shutil.which(command) if name == "pi" else None
    if program and "pi-coding-agent" in Path(program).resolve().parts:
        name = "pi-coding-agent"
    return REFUSED.get(name)


@contextmanager
def prepared(argv: Sequence[str], model: Endpoint) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Give the words of a command and its additional variables; its files are there while the block runs."""
    recipe = recipe_for(argv[0])
    if recipe is None:
        yield list(argv), {}
        return
    with tempfile.TemporaryDirectory(prefix="pi-run-", ignore_cleanup_errors=True) as folder:
        setup = recipe(model).in_folder(folder)
        for name, text in setup.files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        yield [argv[0], *setup.arguments, *argv[1:]], setup.variables


def kept(client: str, model: Endpoint, folder: Path) -> Setup:
    """Return what a client needs, with its files in a folder that stays. There is no key in them."""
    recipe = recipe_for(client)
    setup = recipe(model).in_folder(str(folder)) if recipe else Setup()
    for name, text in setup.files.items():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return setup


def claude(model: Endpoint) -> Setup:
    """Claude Code: every slot gets the model; without the last variables it reports to Anthropic."""
    slots = ["ANTHROPIC_DEFAULT_HAIKU_MODEL", "ANTHROPIC_DEFAULT_SONNET_MODEL", "ANTHROPIC_DEFAULT_OPUS_MODEL"]
    slots += ["ANTHROPIC_SMALL_FAST_MODEL", "CLAUDE_CODE_SUBAGENT_MODEL"]
    limits = {"CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(model.output), "CLAUDE_CODE_AUTO_COMPACT_WINDOW": str(model.tokens)}
    quiet = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_TELEMETRY": "1", "DISABLE_AUTOUPDATER": "1"}
    return Setup(dict.fromkeys(slots, model.name) | limits | quiet)


def codex(model: Endpoint) -> Setup:
    """Codex reads none of OpenAI's variables, and would ask OpenAI."""
    provider = {"name": "pi", "base_url": model.url, "env_key": "OPENAI_API_KEY", "wire_api": "responses"}
    inline = ", ".join(f"{name} = {json.dumps(value)}" for name, value in provider.items())
    settings = {
        "model_provider": '"pi"',
        "model_providers.pi": f"{{ {inline} }}",
        "model_context_window": str(model.tokens),
        "analytics.enabled": "false",
        "check_for_update_on_startup": "false",
    }
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return Setup(arguments=(*words, "-m", model.name))


def opencode(model: Endpoint) -> Setup:
    """opencode takes a whole configuration in one variable; what the user's own file says stays beside it."""
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": "{env:OPENAI_BASE_URL}", "apiKey": "{env:OPENAI_API_KEY}"},
        "models": {model.name: {"limit": {"context": model.tokens, "output": model.output}}},
    }
    config = {
        "provider": {"pi": provider},
        "enabled_providers": ["pi"],
        "model": f"pi/{model.name}",
        "small_model": f"pi/{model.name}",
        "share": "disabled",
        "autoupdate": False,
    }
    return Setup({"OPENCODE_CONFIG_CONTENT": json.dumps(config)})


def aider(model: Endpoint) -> Setup:
    """Read by aider before its configuration files; the metadata tell it the length of the context."""
    name = f"openai/{model.name}"
    limits = {"max_input_tokens": model.tokens, "max_output_tokens": model.output, "litellm_provider": "openai"}
    costs = {"input_cost_per_token": 0, "output_cost_per_token": 0, "mode": "chat"}
    variables = {"OPENAI_API_BASE": model.url, "AIDER_MODEL": name, "AIDER_WEAK_MODEL": name}
    variables |= {"AIDER_EDITOR_MODEL": name, "AIDER_ANALYTICS": "false", "AIDER_CHECK_UPDATE": "false"}
    variables |= {"AIDER_SHOW_MODEL_WARNINGS": "false", "AIDER_MODEL_METADATA_FILE": f"{FOLDER}/models.json"}
    return Setup(variables, files={"models.json": json.dumps({name: limits | costs})})


def gptme(model: Endpoint) -> Setup:
    """Of gptme's providers, `local` asks OPENAI_BASE_URL, also for its side tasks."""
    return Setup({"MODEL": f"local/{model.name}"}, ("-m", f"local/{model.name}"))


def llm(model: Endpoint) -> Setup:
    """`llm` knows no URL but from a file in its folder; its own logs and keys are not used in such a run."""
    entry = {"model_id": model.name, "model_name": model.name, "api_base": model.url, "api_key_name": "pi"}
    lines = "\n".join(f"  {name}: {json.dumps(value)}" for name, value in entry.items())
    files = {"extra-openai-models.yaml": f"- {lines.lstrip()}\n", "default_model.txt": model.name}
    return Setup({"LLM_USER_PATH": FOLDER}, files=files)


def continue_cli(model: Endpoint) -> Setup:
    """Continue's `cn` would write a key from the environment into its own configuration."""
    entry = {"name": model.name, "provider": "openai", "model": model.name, "apiBase": model.url}
    options = {"contextLength": model.tokens, "maxTokens": model.output}
    lines = [f"    {name}: {json.dumps(value)}" for name, value in (entry | {"apiKey": KEY_OF_CONTINUE}).items()]
    more = [f"      {name}: {value}" for name, value in options.items()]
    text = "\n".join(
        ["name: pi", "version: 1.0.0", "schema: v1", "models:", *lines, "    defaultCompletionOptions:", *more]
    )
    text = text.replace("    name:", "  - name:", 1)
    variables = {"CONTINUE_TELEMETRY_ENABLED": "0", "CONTINUE_GLOBAL_DIR": FOLDER}
    return Setup(variables, ("--config", f"{FOLDER}/pi.yaml"), {"pi.yaml": text + "\n"})


def qwen(model: Endpoint) -> Setup:
    """Qwen Code reads OpenAI's variables, and asks for 8,000 tokens, which a short context does not have."""
    return Setup({"QWEN_CODE_MAX_OUTPUT_TOKENS": str(min(model.output, 8000)), "QWEN_TELEMETRY_ENABLED": "false"})


def goose(model: Endpoint) -> Setup:
    """Goose wants the host and the path apart."""
    variables = {"GOOSE_PROVIDER": "openai", "GOOSE_MODEL": model.name, "OPENAI_HOST": model.host}
    variables |= {"OPENAI_BASE_PATH": "v1/chat/completions", "GOOSE_CONTEXT_LIMIT": str(model.tokens)}
    return Setup(variables | {"GOOSE_DISABLE_KEYRING": "1", "GOOSE_TELEMETRY_ENABLED": "false"})


def crush(model: Endpoint) -> Setup:
    """Crush reads its global configuration from a folder."""
    limits = {"context_window": model.tokens, "default_max_tokens": model.output}
    provider = {"type": "openai-compat", "base_url": "$OPENAI_BASE_URL", "api_key": "$OPENAI_API_KEY"}
    provider_with_models = provider | {"models": [{"id": model.name, "name": model.name} | limits]}
    chosen = {"model": model.name, "provider": "pi"}
    config = {"providers": {"pi": provider_with_models}, "models": {"large": chosen, "small": chosen}}
    variables = {"CRUSH_GLOBAL_CONFIG": FOLDER, "CRUSH_DISABLE_METRICS": "1", "CRUSH_DISABLE_PROVIDER_AUTO_UPDATE": "1"}
    return Setup(variables, files={"crush.json": json.dumps(config | {"options": {"disable_metrics": True}})})


RECIPES: Mapping[str, Callable[[Endpoint], Setup]] = {
    "claude": claude,
    "codex": codex,
    "opencode": opencode,
    "aider": aider,
    "gptme": gptme,
    "llm": llm,
    "cn": continue_cli,
    "qwen": qwen,
    "goose": goose,
    "crush": crush,
}
# Programs that ignore what they are given: why they are not started.
REFUSED = {
    "pi-coding-agent": "it ignores the address that it is given, and sends the prompt to its vendor",
    "cline": "it talks to its own cloud until `cline auth` has written a key into its files",
}
