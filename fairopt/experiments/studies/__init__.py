"""One experiment a module, with its report and its tables."""
