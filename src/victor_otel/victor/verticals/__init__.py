"""One module for each of Victor's verticals, whose packages are optional."""
