"""What the cache and the recordings are made of."""
