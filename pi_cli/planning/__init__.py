"""Which GPUs and which vLLM arguments a model gets, and why. No SSH and no pods: values in, values out."""
