"""The properties of the conformance kit, one file a family. Each takes a ``Subject`` and raises ConformanceError by its own name."""
