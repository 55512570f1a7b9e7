"""The gRPC service. A request walks interceptors → servicer → a use case → storage and Daily, and back."""
