"""Faults that were seen, each with others of its kind, as tests that failed when they were seen."""
