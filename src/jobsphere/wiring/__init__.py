"""Where objects are built and put together, and nowhere else: a server, its parts, the operator's desk and its work."""
