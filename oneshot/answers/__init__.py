"""A trained network to hand on: loaded, asked, exported."""
