"""Nearest in the Kullback-Leibler divergence: another map from prices to scores, with the dual and the proofs of the rest.

The map is smooth, so that no score is ever clamped for good and every one has a gradient.
"""
