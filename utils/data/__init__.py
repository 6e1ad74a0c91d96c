"""Families and their photos: real or synthetic, checked, paired."""
