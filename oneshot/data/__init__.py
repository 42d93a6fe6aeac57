"""Sources of drawings (Omniglot, generated glyphs, the user's own images), their Parquet files, and the splits."""
