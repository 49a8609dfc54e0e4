"""Decides what happens next, once for both grounds; a runtime carries it out."""
