"""Real agents under `pi run`, in a network in which every name leads to a server that records what it is sent."""
