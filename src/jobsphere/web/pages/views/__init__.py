"""What each page shows: a use case or two, and a template."""
