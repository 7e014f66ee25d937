"""The decoders: a union of dataclasses. `decode` takes a model's own; `slots` is the loop, `passes` one pass of it."""
