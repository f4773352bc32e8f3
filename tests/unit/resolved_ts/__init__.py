"""Tests of resolved timestamps."""
