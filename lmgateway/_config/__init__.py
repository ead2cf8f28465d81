"""Where every setting comes from: files, names, tables, and the catalogue of hosts."""
