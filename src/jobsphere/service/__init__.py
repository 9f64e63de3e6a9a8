"""Use cases: what a caller can do, one function each; they know the domain and its ports only."""
