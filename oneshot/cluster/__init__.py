"""Ray, on a cluster or embedded: what fits on it, and one training on its workers."""
