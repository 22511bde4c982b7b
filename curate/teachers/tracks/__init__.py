"""Tracks: how a labeled id moves, whom the teachers' tracks follow, and where the two say that an id is wrong."""
