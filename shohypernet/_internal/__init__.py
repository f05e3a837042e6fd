"""Plumbing: validation, random numbers, jaxprs, sharding. Nothing here is public."""
