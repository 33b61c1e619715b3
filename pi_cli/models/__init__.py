"""The life of a model: start, list, stop, logs, forward, check."""
