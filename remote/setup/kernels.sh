# shellcheck shell=bash
# FlashInfer's kernels; without them, the first start of a model compiles them. Sourced by `pod_setup.sh`.

fetch_kernels() {
  local environment note
  environment="$(default_venv)"
  note="$environment/.pi-kernels" # which kernels it has: prebuilt or source
  if [[ -n "$cpu_build" ]]; then skip "not used by the CPU build"; return; fi
  if [[ "$flashinfer" == none ]]; then skip "--flashinfer none"; return; fi
  if [[ "$(cat "$note" 2> /dev/null)" == "$flashinfer" ]]; then skip "already installed ($flashinfer)"; return; fi
  if [[ "$environment" != "$venvs"/* ]]; then skip "other machines use this vLLM too: it is not changed"; return; fi
  if [[ "$flashinfer" == source ]]; then
    build_flashinfer "$environment"
  elif ! has_download_kernels "$environment"; then
    skip "this vLLM has no \`download-kernels\`: the first start of a model compiles them"
    return
  elif ! meter_traffic || ! env VLLM_NO_USAGE_STATS=1 "$environment/bin/vllm" download-kernels; then
    warn "could not download FlashInfer's kernels: the first start of a model compiles them, which takes minutes"
    return
  fi
  echo "$flashinfer" > "$note"
  touch "$environment/.pi-works" # pip installed packages beside a working vLLM and did not change it
  say "installed FlashInfer's kernels ($flashinfer)"
}

# `vllm --help` would show it too, after seconds of imports.
has_download_kernels() {
  compgen -G "$1/lib/python*/site-packages/vllm/entrypoints/cli/download_kernels.py" > /dev/null
}

# Build the version that this vLLM requires from its source distribution. Prebuilt kernels are removed; models compile
# what they need when they start.
build_flashinfer() {
  local python="$1/bin/python" cuda version
  cuda="$(cuda_home)"
  [[ -x "$cuda/bin/nvcc" ]] || fail "--flashinfer source needs nvcc, which is not installed: leave out --cuda none"
  version="$(uv pip freeze --python "$python" | sed -n 's/^flashinfer-python==//p')"
  [[ -n "$version" ]] || fail "this vLLM does not use FlashInfer"
  uv pip uninstall --python "$python" flashinfer-jit-cache 2> /dev/null || true
  CUDA_HOME="$cuda" PATH="$cuda/bin:$PATH" capture uv pip install --python "$python" --no-deps \
    --no-binary flashinfer-python --reinstall-package flashinfer-python "flashinfer-python==$version" \
    || fail "FlashInfer cannot be built: $(why_not_installed)"
}
