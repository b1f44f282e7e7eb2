"""The claims that Coq proves: its files, which theorem belongs to which claim, and the check (``python -m proofs_checks.formal``)."""
