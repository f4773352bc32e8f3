"""Talking to PD: finding the leader, timestamps, region and store metadata, heartbeats."""
