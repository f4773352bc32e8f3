"""Programs a user might write, run by the tests."""
