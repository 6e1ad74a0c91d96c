"""A folder of photos in, a family album out: who is on them, and who may be related."""
