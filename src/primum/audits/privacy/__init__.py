"""What a model remembers of its patients."""
