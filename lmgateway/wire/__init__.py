"""Wire formats for plugin authors: pure functions from requests to bytes and back, without I/O."""
