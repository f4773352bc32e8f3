"""What the clients of the chaos runs do."""
