"""A run's folder: whose it is, what its files hold, its checkpoints and histories."""
