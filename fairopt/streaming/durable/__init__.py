"""What ``DurableStream`` stands on: the hold on the database file, its records with their checks, request keys."""
