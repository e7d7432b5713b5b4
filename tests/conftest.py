"""Puts this directory on the path: what several tests share is in ``support``."""
