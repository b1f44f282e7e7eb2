"""Small dense numerics on numpy arrays that know nothing of fairness or of problems."""
