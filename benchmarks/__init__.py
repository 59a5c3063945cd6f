"""How fast the library is, side by side with what else one could use: `make bench`."""
