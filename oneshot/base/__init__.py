"""Modules that the rest of the package builds on and that know nothing of drawings or networks."""
