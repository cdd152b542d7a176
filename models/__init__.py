"""Model folders that travel with the package."""
