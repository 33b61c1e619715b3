"""A pod without a machine: a real SSH server in this process, with stub `nvidia-smi`, `hf` and `vllm` on its PATH."""
