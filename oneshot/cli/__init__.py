"""The command line: options, messages, and the order of things."""
