"""The report of a run: its records, figures and a page."""
