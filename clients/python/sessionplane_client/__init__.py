"""The Python client of sessionplane."""
