"""The claims behind fairopt: each stated, proved in words, checked on fairopt's own code, and shown able to fail. Not in the wheel."""
