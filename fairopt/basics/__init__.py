"""Tools that know nothing of fairness."""
