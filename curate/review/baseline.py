"""What curate last wrote about each sample: the side against which a reviewer's edits show. Beside FiftyOne's data.

One collection per dataset, keyed by the dataset's own id, so a dataset that was deleted and made anew starts clean.
A document: `_id`, `digest`, `sha`, `finding`, `labels` [{id, label, bbox, finding, suggested}] and, while the
sample is being rewritten, `pending`: a crash between the two writes must not look like a reviewer's edit.
"""

from __future__ import annotations

from typing import Any


def collection_name(dataset_id: object) -> str:
    """Return the name of the baselines' collection of the dataset with that id."""
    return f"curate.baselines.{dataset_id}"


def collection_of(dataset: Any) -> Any:  # noqa: ANN401 - fiftyone and pymongo are loaded late
    """Return the baselines' collection of a FiftyOne dataset."""
    import fiftyone.core.odm as foo  # noqa: PLC0415 - costs seconds to import

    return foo.get_db_conn()[collection_name(dataset._doc.id)]  # noqa: SLF001 - direct writes need the id


def samples_of(dataset: Any) -> Any:  # noqa: ANN401 - see above
    """Return the collection that holds the samples of a FiftyOne dataset."""
    return dataset._sample_collection  # noqa: SLF001 - direct writes are the point
