"""A stricter look at a Croissant description than mlcroissant takes: what is misspelt or missing is an error here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from curate.describe.croissant import CONFORMS_TO, PARQUET
from curate.describe.facts import UNKNOWN
from curate.describe.rai import KEYS
from curate.errors import did_you_mean

_NEEDED = ("name", "description", "license", "creator", "version", "citeAs", "distribution", "recordSet")
_KNOWN = {
    *_NEEDED,
    "@context",
    "@type",
    "alternateName",
    "conformsTo",
    "datePublished",
    "identifier",
    "keywords",
    "url",
}
_MAY_BE_ABSENT = {"dataCollectionTimeframe"}  # a date cannot say "unknown"
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def problems(described: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a description, a sentence each; empty where nothing is.

    Checked: it says which Croissant and RAI it conforms to; every property that the specification asks for is there
    and not empty, or says "unknown"; license and creators too; every `rai:` key is one of the vocabulary, known or
    declared unknown; every file has a size and a sha256; every field leads to a file set, and each of those to files.
    """
    return [
        *_properties(described),
        *_license(described),
        *_creators(described),
        *_rai(described),
        *_files(described),
    ]


def _properties(described: Mapping[str, Any]) -> Iterator[str]:
    if set(CONFORMS_TO) - set(described.get("conformsTo") or ()):
        yield f"conformsTo must name {' and '.join(CONFORMS_TO)}; it names {described.get('conformsTo')}."
    for key in _NEEDED:
        if not _is_filled(described.get(key)):
            yield f"{key} is missing or empty; say {UNKNOWN!r} where nobody knows."
    for key in described:
        if key not in _KNOWN and not key.startswith("rai:"):
            yield f"{key} is no property of a Croissant dataset. {did_you_mean(key, _KNOWN)}".rstrip()
    if not re.fullmatch(r"\d+\.\d+\.\d+", str(described.get("version", ""))):
        yield f"version must be MAJOR.MINOR.PATCH; it is {described.get('version')!r}."
    if "datePublished" in described and not _DATE.fullmatch(str(described["datePublished"])):
        yield f"datePublished must be a date; it is {described['datePublished']!r}."
    if "url" in described and not str(described["url"]).startswith(("https://", "http://")):
        yield f"url must be a web address; it is {described['url']!r}."


def _license(described: Mapping[str, Any]) -> Iterator[str]:
    given = described.get("license") or []
    for one in [given] if isinstance(given, str) else given:
        if one != UNKNOWN and not str(one).startswith(("https://", "http://")):
            yield f"license must be an address (an SPDX page) or {UNKNOWN!r}; it is {one!r}."


def _creators(described: Mapping[str, Any]) -> Iterator[str]:
    for one in described.get("creator") or []:
        kind = one.get("@type") if isinstance(one, Mapping) else None
        if kind not in {"sc:Person", "sc:Organization"} or not _is_filled(one.get("name")):
            yield f"a creator must be a Person or an Organization with a name; given: {one}."


def _rai(described: Mapping[str, Any]) -> Iterator[str]:
    given = {key.removeprefix("rai:"): value for key, value in described.items() if key.startswith("rai:")}
    for key in given:
        if key not in KEYS:
            yield f"rai:{key} is no key of the RAI vocabulary. {did_you_mean(key, KEYS)}".rstrip()
    for key in KEYS:
        if key in _MAY_BE_ABSENT and key not in given:
            continue
        if not _is_filled(given.get(key)):
            yield f"rai:{key} is missing or empty; say {UNKNOWN!r} where nobody knows."
    for day in given.get("dataCollectionTimeframe", []):
        if not _DATE.fullmatch(str(day)):
            yield f"rai:dataCollectionTimeframe must hold dates; it holds {day!r}."


def _files(described: Mapping[str, Any]) -> Iterator[str]:
    files = [one for one in described.get("distribution") or [] if one.get("@type") == "cr:FileObject"]
    sets = {one["@id"]: one for one in described.get("distribution") or [] if one.get("@type") == "cr:FileSet"}
    for one in files:
        if not re.fullmatch(r"[0-9a-f]{64}", str(one.get("sha256", ""))):
            yield f"the file {one.get('@id')} has no sha256."
        if not re.fullmatch(r"\d+ B", str(one.get("contentSize", ""))):
            yield f"the file {one.get('@id')} has no size in bytes."
    for name, one in sets.items():
        folder = str(one.get("includes", "")).partition("/")[0]
        if one.get("encodingFormat") != PARQUET or not any(str(f["@id"]).startswith(f"{folder}/") for f in files):
            yield f"the file set {name} leads to no listed Parquet file."
    for record_set in described.get("recordSet") or []:
        for field in record_set.get("field") or []:
            if field.get("source", {}).get("fileSet", {}).get("@id") not in sets or not field.get("dataType"):
                yield f"the field {field.get('@id')} has no type or leads to no file set."


def _is_filled(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, Sequence):
        return bool(value) and all(map(_is_filled, value))
    return bool(value)
