"""What pi remembers between commands: `pods.json`, and where files lie."""
