"""Studies: a grid of runs over seeds that ends in a table, a figure and a verdict a claim."""
