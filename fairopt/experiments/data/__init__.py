"""Data sets as plain tables: load, split, encode."""
