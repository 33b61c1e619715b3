"""Choosing and running vLLM on pods."""
