#!/usr/bin/env bash
# Installs the clients that are tested, at these versions, into .clients: with npm, and with uv.
set -euo pipefail
cd "$(dirname "$0")/../.."

NPM=(
  @anthropic-ai/claude-code@2.1.197
  @openai/codex@0.171.0
  opencode-ai@1.18.33
)
[ "${PI_CLIENTS:-}" = all ] && NPM+=(@qwen-code/qwen-code@0.15.10 @continuedev/cli@1.5.47)
PYPI=(aider-chat==0.86.2 llm==0.36)
[ "${PI_CLIENTS:-}" = all ] && PYPI+=(gptme==0.35.1)

uv=.venv/bin/uv
stamp=.clients/installed
wanted="${NPM[*]} ${PYPI[*]}"
[ "$(cat "$stamp" 2> /dev/null)" = "$wanted" ] && exit 0
rm -rf .clients
mkdir -p .clients
npm install --silent --no-fund --no-audit --prefix .clients "${NPM[@]}"
# Newer npms do not run the packages' own installers, which put the programs in place.
(cd .clients/node_modules/@anthropic-ai/claude-code && node install.cjs)
(cd .clients/node_modules/opencode-ai && node postinstall.mjs)
for package in "${PYPI[@]}"; do
  $uv venv --quiet --python .venv/bin/python ".clients/${package%%[-=]*}"
  $uv pip install --quiet --python ".clients/${package%%[-=]*}/bin/python" "$package"
done
printf '%s' "$wanted" > "$stamp"
