"""What was taken and is not done: messages on disk, synced, with the state of each recipient.

It knows neither who brings mail nor where it goes.
"""
