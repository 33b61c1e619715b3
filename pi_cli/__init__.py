"""pi: turn a rented GPU machine into a private, OpenAI-compatible vLLM endpoint."""

__version__ = "0.1.0"
