"""Networks, how they are trained, and the files they are kept in."""
