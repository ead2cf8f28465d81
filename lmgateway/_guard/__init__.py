"""What stands at a public entry: tracebacks without locals, paths that a caller gives."""
