"""Where drawings come from (Omniglot, generated glyphs), how they lie in Parquet, and who may see which."""
