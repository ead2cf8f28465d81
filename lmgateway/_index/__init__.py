"""Indexes: a file of texts made into a file of vectors, resumably, for ``lmgateway embed``."""
