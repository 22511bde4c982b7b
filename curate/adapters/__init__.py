"""The edges: mongod, object stores, execution engines."""
