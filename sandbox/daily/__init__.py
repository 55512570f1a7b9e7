"""A stand-in for Daily.co: its REST API, recordings and webhooks on one port, with no account."""
