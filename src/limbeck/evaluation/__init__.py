"""Judging models: sampling, protocols, reports."""
