"""Ray: a cluster or an embedded one, what fits on it, one training on its workers."""
