"""Likelihood, bounds, information profiles, accuracy, costs, and intervals of them."""
