"""What is remembered of calls: the history, and counts of calls and tokens."""
