"""Maths shared by two or more plug-ins: torch only, no state, randomness passed in."""
