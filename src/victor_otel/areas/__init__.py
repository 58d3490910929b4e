"""One module for each part of Victor: its metrics, its observers, its hooks, top to bottom."""
