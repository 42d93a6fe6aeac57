"""How good a network is: losses on validation, one-shot trials and verification on the test alphabets."""
