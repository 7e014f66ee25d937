"""The entries of a forward pass: who is in it, who may look at whom, and many predictions packed into one pass."""
