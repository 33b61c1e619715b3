"""What pi remembers between commands: `pods.json`, and where pi keeps files."""
