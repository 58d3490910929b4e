"""From a function of Victor's that is entered to a finished operation."""
