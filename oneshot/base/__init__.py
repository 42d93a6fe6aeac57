"""What all the rest stands on, and what knows nothing of drawings or networks."""
