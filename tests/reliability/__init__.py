"""Faults and hostile surroundings, survived: what was tried, and what was lost of it (nothing)."""
