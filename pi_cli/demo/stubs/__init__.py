"""The code of the stub executables in `bin/`. They run on the pod, with the standard library only."""
