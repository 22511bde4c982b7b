"""The single pass over pixels: hashes, sizes and quality measures."""
