"""The machine: its agent, its setup, many pods at once."""
