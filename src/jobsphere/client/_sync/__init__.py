"""The client that blocks. Made from ``_async`` by ``make fmt``, but for ``transport``: change it there."""
