"""What the service does: load, decide, save. Decisions without I/O stand in `rules`."""
