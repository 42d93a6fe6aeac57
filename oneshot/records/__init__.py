"""Records of runs, several seeds of a job among them, and the pages that are rendered from them."""
