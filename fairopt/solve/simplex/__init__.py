"""Class probabilities: rows of scores that sum to 1. Cells carry one shift a class, and the Newton matrix has a block a cell."""
