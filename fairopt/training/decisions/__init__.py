"""FairDecisions: thresholds of each group, and where they do not suffice a coin, from a small linear program on the groups' curves."""
