"""`make bench`: what the service costs, beside the least that gRPC costs and beside the same endpoints in FastAPI."""
