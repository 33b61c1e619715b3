"""Reaching pods as ssh does: configuration, keys, trust, sessions, forwarding."""
