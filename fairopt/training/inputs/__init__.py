"""What every estimator reads: its columns and groups, its labels, its notion, its parameters, and how rows are split."""
