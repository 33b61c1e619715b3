"""The pages of the documentation that pi ships, by the name that `pi help` has for them."""

PAGES = {
    "readme": "README.md",
    "pages": "docs/README.md",
    "starting": "docs/starting.md",
    "prompt": "docs/prompt.md",
    "clients": "docs/clients.md",
    "reference": "docs/reference.md",
    "ssh": "docs/ssh.md",
    "pasted": "docs/pasted.md",
    "providers": "docs/providers.md",
    "variables": "docs/variables.md",
    "catalogue": "docs/catalogue.md",
    "vllm-arguments": "docs/vllm-arguments.md",
    "vllm-refusals": "docs/vllm-refusals.md",
    "errors": "docs/errors.md",
    "performance": "docs/performance.md",
    "cli": "docs/cli.md",
    "security": "SECURITY.md",
    "changelog": "CHANGELOG.md",
}
