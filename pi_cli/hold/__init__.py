"""Held links: a process of this user keeps connections to pods for some minutes, for the next command.

`client`, `place` and `messages` use the standard library only, without asyncio: every command may ask whether there is
a link. `process` and `link` are the holder, `session` is what a command uses in place of a connection of its own.
docs/held-links.md describes it for users.
"""
