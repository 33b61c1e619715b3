# shellcheck shell=bash
# FlashInfer's kernels, without which the first start of a model compiles them. Sourced by `pod_setup.sh`.

fetch_kernels() {
  local there note
  there="$(default_venv)"
  note="$there/.pi-kernels" # of which kind they are
  if [[ -n "$cpu_build" ]]; then skip "a build for CPUs has none"; return; fi
  if [[ "$flashinfer" == none ]]; then skip "--flashinfer none"; return; fi
  if [[ "$(cat "$note" 2> /dev/null)" == "$flashinfer" ]]; then skip "they are there ($flashinfer)"; return; fi
  if [[ "$flashinfer" == source ]]; then
    build_flashinfer "$there"
  elif ! knows_download_kernels "$there"; then
    skip "this vLLM has no \`download-kernels\`: the first start of a model compiles them"
    return
  elif ! env VLLM_NO_USAGE_STATS=1 "$there/bin/vllm" download-kernels; then
    warn "FlashInfer's kernels could not be fetched: the first start of a model compiles them, which takes minutes"
    return
  fi
  echo "$flashinfer" > "$note"
  touch "$there/.pi-works" # pip has put something beside a vLLM that works, not into it
  say "FlashInfer's kernels are there ($flashinfer)"
}

# `vllm --help` says it too, after seconds of imports.
knows_download_kernels() {
  compgen -G "$1/lib/python*/site-packages/vllm/entrypoints/cli/download_kernels.py" > /dev/null
}

# The version that this vLLM wants, from its source distribution. What was compiled elsewhere goes; models compile what
# they need when they start.
build_flashinfer() {
  local python="$1/bin/python" cuda version
  cuda="$(cuda_home)"
  [[ -x "$cuda/bin/nvcc" ]] || fail "--flashinfer source needs nvcc, which is not here: leave out --cuda none"
  version="$(uv pip freeze --python "$python" | sed -n 's/^flashinfer-python==//p')"
  [[ -n "$version" ]] || fail "this vLLM does not use FlashInfer"
  uv pip uninstall --python "$python" flashinfer-jit-cache 2> /dev/null || true
  CUDA_HOME="$cuda" PATH="$cuda/bin:$PATH" hear uv pip install --python "$python" --no-deps \
    --no-binary flashinfer-python --reinstall-package flashinfer-python "flashinfer-python==$version" \
    || fail "FlashInfer cannot be built: $(why_not_installed)"
}
