"""Durable accept: a message is on disk, synced, before its 250, and its delivery state survives a crash."""
