"""The ``jobsphere`` command."""
