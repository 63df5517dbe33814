"""Frozen values: what users hand in and what they get back."""
