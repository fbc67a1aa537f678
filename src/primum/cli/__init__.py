"""One file a verb: parses and prints, decides nothing."""
