"""What runs flows: the loops over effects, streams, threads, and the way they end."""
