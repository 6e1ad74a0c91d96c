"""Faces in photos: found, aligned, embedded."""
