"""jobsphere: the DataSphere Jobs service in the open, in Python."""
