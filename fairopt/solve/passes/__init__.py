"""The only code that touches n samples: an interface, its two implementations, and the compiled solve that is built on the loops."""
