"""One module for each part of Victor: its metrics, its observers and its hooks, in this order."""
