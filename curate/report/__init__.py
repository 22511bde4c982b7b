"""Tables to one HTML page and to JSON."""
