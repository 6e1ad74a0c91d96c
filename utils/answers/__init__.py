"""Two photos in, an answer out."""
