"""The only code that joins stages."""
