"""What a vLLM can do, and its arguments: how they are read, and which it knows. Pure."""
