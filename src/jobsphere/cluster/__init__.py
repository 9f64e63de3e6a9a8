"""Many machines: which nodes there are, what answers on each, and how servers keep an eye on them."""
