"""Models in: what one may ask of a model, and the doors it comes through."""
