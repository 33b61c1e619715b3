"""What the Hugging Face Hub says of a model, and whether vLLM can serve it."""
