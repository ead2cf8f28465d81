"""Configuration: where every value comes from, and what it is."""
