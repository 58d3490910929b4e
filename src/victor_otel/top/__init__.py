"""`victor otel top`: the numbers of running processes, as they move."""
