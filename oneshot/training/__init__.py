"""One training: what it is fed, its loop, and the network that it leaves."""
