"""The door: the only part that knows gRPC. A call is admitted, converted, handed to a use case, and answered."""
