"""`pi.toml`: pods and models as they should be, and what to do about the difference."""
