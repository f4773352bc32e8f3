"""Small programs for the TiKV client, one thing each: `python -m examples.client.raw --pd 127.0.0.1:2379`."""
