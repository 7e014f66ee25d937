"""Tasks of lm-evaluation-harness that ship, on an excerpt of a novel: what they ask is in the YAML files."""
