"""What keeps the rows true when nobody calls."""
