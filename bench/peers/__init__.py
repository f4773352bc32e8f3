"""What we compare ourselves with. A peer that is not installed is skipped and named."""
