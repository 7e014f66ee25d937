"""The decoders: who is in a pass, who is said next and how many. `decode` is the loop; `passes` is one pass of it."""
