"""Tests of pd."""
