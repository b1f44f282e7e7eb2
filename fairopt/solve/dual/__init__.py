"""The dual of a projection problem: evaluation in cell space, the proximal map of the price domain, Newton, active pieces.

With prices p the scores are y(p) = clip(z - A^T p / w, lb, ub) (claim L8), so that a problem of any n has m unknowns.
"""
