"""One module a claim, or a tight group; each lists its claims in ``CLAIMS``."""
