"""Statistical studies: claims held against simulations where the truth is known."""
