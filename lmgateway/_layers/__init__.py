"""What stands between a user and a provider, and between a provider and the wire."""
