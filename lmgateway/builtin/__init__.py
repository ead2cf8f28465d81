"""The providers that come with the core, through the same entry points as everybody's."""
