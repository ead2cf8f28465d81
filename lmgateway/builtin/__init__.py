"""The providers that come with the core; nothing else sets them apart from anybody's."""
