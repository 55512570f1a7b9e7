"""PostgreSQL: nouns, tables, transactions and migrations. Imports nothing of ours."""
