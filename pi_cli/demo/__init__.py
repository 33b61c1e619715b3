"""The embedded pod: a real SSH server in this process, with simulated `nvidia-smi`, `hf` and `vllm` on its PATH."""
