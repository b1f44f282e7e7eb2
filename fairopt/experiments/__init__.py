"""Experiments on real data. Nothing here is imported by ``import fairopt``; each needs the extra ``fairopt[experiments]``."""
