"""The whole stack on one machine: PostgreSQL, a stand-in for Daily.co, the servers and Envoy."""
