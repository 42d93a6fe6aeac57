"""The report of a run: what is read of it, figures, a page."""
