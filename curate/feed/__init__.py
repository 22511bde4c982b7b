"""From a manifest to a training loop."""
