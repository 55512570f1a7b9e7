"""Daily.co's wire: its REST API and its meeting tokens. Nothing above sees what Daily sends, only what it means."""
