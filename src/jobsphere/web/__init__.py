"""What the server answers over plain HTTP: blobs and its health."""
