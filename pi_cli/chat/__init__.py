"""Ask a model, in a single prompt or a chat."""
