"""Croissant 1.1 with RAI: the files of a version with their sha256, its tables as record sets, what is known of both."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from curate.describe.facts import TABLES, UNKNOWN, Facts
from curate.describe.rai import rai

CONFORMS_TO = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0")
PARQUET = "application/x-parquet"
_MEANING = {
    "data": "Released rows: a row per label, or per image without labels.",
    "soft": "Soft labels of the teachers, row by row beside data.",
    "soft_boxes": "Boxes in released images that only detectors see, with their soft labels.",
    "soft_masks": "Class maps of released images at reduced resolution: what the teachers of masks say of each cell.",
    "ignore": "What nobody vouches for in released images: labels held back, and places where one may be missing.",
    "excluded": "What was taken out or could not be read, with reasons.",
    "findings": "What verdicts were computed from.",
    "decisions": "What reviewers decided, as far as it stands.",
}
CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant(facts: Facts) -> dict[str, Any]:
    """Return the JSON-LD; paths are relative to the folder that holds the version's files.

    A property that Croissant or schema.org asks for and nobody knows says "unknown"; a date or an address, which
    cannot, is left out.
    """
    about = facts.about
    described: dict[str, Any] = {
        "@context": dict(CONTEXT),
        "@type": "sc:Dataset",
        "conformsTo": list(CONFORMS_TO),
        "name": re.sub(r"[^A-Za-z0-9_-]+", "-", facts.name),
        "alternateName": facts.title,
        "description": about.get("purpose") or about.get("description") or UNKNOWN,
        "license": [license_url(one) for one in facts.license],
        "creator": creators(about),
        "version": f"{facts.number}.0.0",
        "identifier": f"sha256:{facts.id}",
        "citeAs": about.get("citation") or UNKNOWN,
        "keywords": about.get("keywords") or UNKNOWN,
        "distribution": [*_file_objects(facts), *_file_sets(facts)],
        "recordSet": [_record_set(kind, table) for kind, table in facts.schemas.items()],
        **rai(facts),
    }
    if about.get("url"):
        described["url"] = about["url"]
    if facts.at:
        described["datePublished"] = facts.at[:10]
    if not about.get("collected_from") and not about.get("collected_to"):
        described.pop("rai:dataCollectionTimeframe")  # a date cannot say "unknown"
    return described


def creators(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return schema.org creators; one called "unknown" where nobody is named."""
    given = about.get("creators") or [{"name": UNKNOWN}]
    return [
        {
            "@type": "sc:Person" if one.get("kind") == "person" else "sc:Organization",
            "name": one["name"],
            **({"url": one["url"]} if one.get("url") else {}),
        }
        for one in given
    ]


def license_url(license_id: str) -> str:
    """Return the SPDX page of an SPDX id; addresses, "unknown" and other texts stay as they are."""
    is_id = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", license_id) and license_id != UNKNOWN
    return f"https://spdx.org/licenses/{license_id}.html" if is_id else license_id


def left_out(table: pa.Schema) -> list[str]:
    """Return the columns that no field describes: maps and structs, and uint64, which pandas rounds beside nulls."""
    return [field.name for field in table if _data_type(field.type) is None]


def _file_objects(facts: Facts) -> list[dict[str, Any]]:
    return [
        {
            "@type": "cr:FileObject",
            "@id": entry["path"],
            "name": entry["path"],
            "contentUrl": entry["path"],
            "contentSize": f"{entry['bytes']} B",
            "encodingFormat": PARQUET if entry["path"].endswith(".parquet") else "application/json",
            "sha256": entry["sha256"],
        }
        for entry in facts.manifest["files"]
    ]


def _file_sets(facts: Facts) -> list[dict[str, Any]]:
    return [
        {
            "@type": "cr:FileSet",
            "@id": f"{kind}-parts",
            "name": f"{kind}-parts",
            "encodingFormat": PARQUET,
            "includes": f"{kind}/*.parquet",
        }
        for kind in TABLES
        if kind in facts.schemas
    ]


def _record_set(kind: str, table: pa.Schema) -> dict[str, Any]:
    missing = left_out(table)
    note = f" Not described as fields (maps, structs, uint64): {', '.join(missing)}." if missing else ""
    return {
        "@type": "cr:RecordSet",
        "@id": kind,
        "name": kind,
        "description": _MEANING[kind] + note,
        "field": [_field(kind, field) for field in table if field.name not in missing],
    }


def _field(kind: str, field: pa.Field) -> dict[str, Any]:
    described = _data_type(field.type)
    assert described is not None  # noqa: S101 - the caller leaves those out
    data_type, shape = described
    array = {"isArray": True, "arrayShape": shape} if shape else {}
    return {
        "@type": "cr:Field",
        "@id": f"{kind}/{field.name}",
        "name": field.name,
        "dataType": data_type,
        **array,
        "source": {"fileSet": {"@id": f"{kind}-parts"}, "extract": {"column": field.name}},
    }


_TYPES: Mapping[str, str] = {
    "string": "sc:Text",
    "bool": "sc:Boolean",
    "int8": "cr:Int8",
    "int16": "cr:Int16",
    "int32": "cr:Int32",
    "int64": "cr:Int64",
    "uint8": "cr:UInt8",
    "uint16": "cr:UInt16",
    "uint32": "cr:UInt32",  # not 64: readers that go through pandas round it where a row has none
    "halffloat": "cr:Float16",
    "float": "cr:Float32",
    "double": "cr:Float64",
}


def _data_type(kind: pa.DataType) -> tuple[str, str] | None:
    """Return Croissant's type and array shape ("" for a scalar) of an Arrow type; None where there is none."""
    if pa.types.is_map(kind):
        return None
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind):
        inner = _data_type(kind.value_type)
        size = str(kind.list_size) if pa.types.is_fixed_size_list(kind) else "-1"
        return None if inner is None else (inner[0], ",".join(filter(None, [size, inner[1]])))
    name = _TYPES.get(str(kind))
    return None if name is None else (name, "")
