"""One URL for the models of several pods: a balancer on the loopback, in front of ports forwarded over SSH."""
