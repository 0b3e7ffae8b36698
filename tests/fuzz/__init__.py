"""Hostile documents: how they are made, how they are judged, and the campaign that does both many times."""
