r"""Several labels an image in one row of a table: a list, text with a separator, a column a class, or a row a label.

| in the table | in the spec |
| --- | --- |
| `label` is a list column (Parquet) | nothing more |
| `label` is text such as `cat\|dog` | `label_separator: "\|"` |
| a column of 0 and 1 for each class | `label_columns: [cat, dog]`, or class -> column |
| a row for each label of an image | `task: multi_label` |

An empty list (or cell, with a separator) says that somebody looked and none of the classes is there; null says that
nobody looked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curate.errors import ConfigError
from curate.ingest.location import Problem, shown
from curate.ingest.source import ReadOptions
from curate.schema import MULTI_LABEL

if TYPE_CHECKING:
    from curate.ingest.collect import Collector

OPTIONS = ("label_separator", "label_columns")
_YES, _NO = frozenset({"1", "true", "yes"}), frozenset({"0", "false", "no", "-1"})
_NOT_WITH = ("annotator", "reference_label")

Names = list[str]
SINGLE = object()  # stands for a row with one label


@dataclass(frozen=True, slots=True)
class TagFormat:
    """How a row names its labels.

    Attributes:
        separator: between labels in a cell; None = no such cell.
        columns: class -> column of 0 and 1; empty = there are none.
        by_row: a row is one label of its image.
    """

    separator: str | None
    columns: Mapping[str, str]
    by_row: bool

    @property
    def is_used(self) -> bool:
        """Whether the spec says that a row may have several labels; a list column says so itself."""
        return self.separator is not None or bool(self.columns) or self.by_row

    @classmethod
    def of(cls, options: ReadOptions) -> TagFormat:
        """Read what the spec says.

        Raises:
            ConfigError: two ways at once, or a role that several labels a row cannot have.
        """
        separator, columns = (options.options.get(name) for name in OPTIONS)
        if separator == "":
            raise ConfigError(
                "source.label_separator parts the labels of a cell, for example '|'; given: an empty text."
            )
        if columns is not None and not isinstance(columns, Mapping):
            columns = {str(name): str(name) for name in columns}
        if columns and ("label" in options.columns or separator):
            raise ConfigError(
                "source.label_columns names a column for each class; source.columns.label and label_separator are "
                "another way to say the same. Keep one of them."
            )
        if separator is not None and "label" not in options.columns:
            raise ConfigError("source.label_separator needs source.columns.label, the column whose cells it parts.")
        made = cls(None if separator is None else str(separator), columns or {}, options.multi_label)
        if made.is_used:
            made.refuse_roles(options)
        return made

    def refuse_roles(self, options: ReadOptions) -> None:
        """Raise a ConfigError for roles that say something about one label only."""
        given = [role for role in _NOT_WITH if role in options.columns]
        if given:
            raise ConfigError(
                f"With several labels an image, source.columns cannot hold {', '.join(given)}: that would be about "
                f"one of them. Remove it, or give a table with one label an image."
            )

    def names_in(
        self, cell: str | None, cells: Mapping[str, str | None], *, is_list: bool
    ) -> Names | Problem | None:
        """Return the labels that a row names; None where it says nothing.

        Args:
            cell: of the label column.
            cells: column -> cell of the row, for `columns`.
            is_list: whether `cell` is a list, as JSON.
        """
        if self.columns:
            return _marked(self.columns, cells)
        if is_list:
            return None if cell is None else [str(name) for name in json.loads(cell)]
        if self.separator is not None:
            return [] if cell is None else [part.strip() for part in cell.split(self.separator) if part.strip()]
        return None if cell is None else [cell]


def _marked(columns: Mapping[str, str], cells: Mapping[str, str | None]) -> Names | Problem | None:
    said = {name: (cells.get(column) or "").strip().lower().removesuffix(".0") for name, column in columns.items()}
    if not any(said.values()):
        return None
    for name, word in said.items():
        if word not in _YES and word not in _NO:
            return Problem(
                "tag_unclear", {"column": shown(columns[name]), "cell": shown(cells.get(columns[name]) or "")}
            )
    return [name for name, word in said.items() if word in _YES]


def is_list_of_labels(kind: pa.DataType) -> bool:
    """Return whether a column is a list of texts or whole numbers."""
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return False
    inner = kind.value_type
    inner = inner.value_type if pa.types.is_dictionary(inner) else inner
    return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_integer(inner))


def lists_as_text(column: pa.Array) -> list[str | None]:
    """Return a list column as JSON texts; a null list is None, a null in a list is left out."""
    told = ([str(one) for one in row if one is not None] if row is not None else None for row in column.to_pylist())
    return [None if row is None else json.dumps(row) for row in told]


def translated(names: Any, words: Mapping[str, str | None] | None) -> Any:  # noqa: ANN401 - see `names_in`
    """Return the labels with class numbers turned into names; what stands for "no label" is left out."""
    if not words or not isinstance(names, Sequence):
        return names
    return [name for name in (words.get(one, one) for one in names) if name is not None]


def add_tagged_image(
    collector: Collector, row: str, names: Names | Problem | None, source_key: str, about: Mapping[str, Any]
) -> None:
    """Add a row that is an image and all its labels; without a label the image is negative, unless nobody looked.

    Args:
        collector: of the source.
        row: where it stands.
        names: the labels; None = nobody looked; a problem puts the row out.
        source_key: of the row.
        about: what `Collector.add_image` takes.
    """
    if isinstance(names, Problem):
        collector.put_out(row, "image", names.code, names.args)
        return
    sample_id = collector.add_image(row, label_state="unlabeled" if names is None else "negative", **about)
    for name in names or ():
        add_tag(collector, row, sample_id, name, source_key)


def add_tag(collector: Collector, row: str, sample_id: str | None, name: str, source_key: str) -> None:
    """Add one label of an image; the same one again is the same."""
    key = collector.options.aliases.get(name, name)
    collector.add_label(
        f"{row} {shown(name, 60)}", sample_id, name, task=MULTI_LABEL, key=key, source_key=source_key
    )
