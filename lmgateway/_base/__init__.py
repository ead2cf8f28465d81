"""What imports nothing of the rest: masking, plain values, locks that survive a fork."""
