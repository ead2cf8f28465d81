"""How a plugin is found, loaded and checked, and the providers that are built in."""
