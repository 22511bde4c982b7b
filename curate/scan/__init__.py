"""The single pass over pixels: hashes, sizes and quality measures of every image, or why there are none."""

from curate.scan.passes import MAX_PIXELS, SHARD_ROWS, quarantined, scan, scan_batch, scan_bytes, scan_folder

__all__ = ["MAX_PIXELS", "SHARD_ROWS", "quarantined", "scan", "scan_batch", "scan_bytes", "scan_folder"]
