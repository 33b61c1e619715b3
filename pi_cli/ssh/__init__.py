"""Connect to pods as ssh does: configuration, keys, trust, sessions, forwarding."""
