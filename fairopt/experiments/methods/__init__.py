"""Methods that train a fair model, one interface (``base``), one file a method, imported on use (``table``)."""
