"""Reports: what came out of a batch, as a page to look at or as tables for other tools."""
