"""What the stub executables in `bin/` do. They run on the pod: only the standard library, imported sparingly."""
