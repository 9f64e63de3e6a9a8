"""Nodes of a Ray cluster: Ray starts an agent on each, watches it, and says when a node is dead."""
