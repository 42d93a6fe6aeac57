"""A trained network in use: loading, asking and exporting it."""
