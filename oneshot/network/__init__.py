"""Siamese networks, and all that is computed on a device."""
