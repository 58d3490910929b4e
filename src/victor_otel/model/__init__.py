"""The vocabulary: metrics and labels, operations and their facts, and the rows of an area."""
