from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import ConfigError, CurateError, InputError
from curate.spec import TableTeacherSpec
from curate.teachers.protocol import Answer, Request
from curate.teachers.table import TableTeacher

Make = Callable[..., Request]
TRUTH = ["red", "green", "blue", "red"]
PROBS = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.25, 0.5, 0.25]]


def ask(request: Request, **keys: object) -> Answer:
    (answer,) = TableTeacher(TableTeacherSpec.model_validate({"kind": "table", "name": "t", **keys})).answer(
        request
    )
    return answer


@pytest.mark.parametrize("key", ["uri", "sample_id", "label_id"])
def test_a_list_column_in_any_row_order_by_each_key(make_request: Make, tmp_path: Path, key: str) -> None:
    request = make_request(TRUTH)
    shuffled = [2, 0, 3, 1]
    ids = request.labels[key].take(shuffled)
    kind = pa.list_(pa.float16(), 3)
    lists = pa.array([[np.float16(p) for p in PROBS[at]] for at in shuffled], kind)
    pq.write_table(pa.table({key: ids, "prob_t": lists}), tmp_path / "t.parquet")
    answer = ask(request, path="t.parquet", key=key, trained_on="elsewhere")
    np.testing.assert_allclose(answer.probs, PROBS, atol=1e-3)
    np.testing.assert_allclose(answer.probs.sum(axis=1), 1, atol=1e-6)
    assert (answer.card.n_predicted, answer.card.trained_on, answer.card.features) == (4, "elsewhere", None)


def test_a_csv_with_a_column_per_class_goes_by_name(make_request: Make, tmp_path: Path) -> None:
    lines = ["blue,uri,green,red"]
    lines += [f"{b},{at:04d}.png,{g},{r}" for at, (r, g, b) in enumerate(PROBS)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    np.testing.assert_allclose(ask(make_request(TRUTH), path="t.csv").probs, PROBS, atol=1e-6)


def test_declared_columns_and_declared_class_order(make_request: Make, tmp_path: Path) -> None:
    request = make_request(TRUTH)
    table = {"uri": request.labels["uri"], **{f"p{at}": [row[at] for row in PROBS] for at in range(3)}}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    columns = {"blue": "p2", "red": "p0", "green": "p1"}
    np.testing.assert_allclose(ask(request, path="t.parquet", columns=columns).probs, PROBS, atol=1e-6)
    lists = pa.table({"uri": request.labels["uri"], "p": [row[::-1] for row in PROBS]})
    pq.write_table(lists, tmp_path / "l.parquet")
    answer = ask(request, path="l.parquet", classes=["blue", "green", "red"])
    np.testing.assert_allclose(answer.probs, PROBS, atol=1e-6)
    held = lists.replace_schema_metadata({"classes": '["blue","green","red"]'})
    pq.write_table(held, tmp_path / "m.parquet")
    np.testing.assert_allclose(ask(request, path="m.parquet").probs, PROBS, atol=1e-6)


def test_rows_without_an_answer_are_null_and_counted(make_request: Make, tmp_path: Path) -> None:
    request = make_request(TRUTH)
    uris = request.labels["uri"].to_pylist()
    pq.write_table(pa.table({"uri": uris[:3], "p": [PROBS[0], None, PROBS[2]]}), tmp_path / "t.parquet")
    answer = ask(request, path="t.parquet")
    assert np.isnan(answer.probs).all(axis=1).tolist() == [False, True, False, True]
    assert answer.card.n_predicted == 2
    assert any("2 labels are not judged" in text for text in answer.card.warnings)


def test_ids_of_no_image_are_named_and_a_foreign_table_is_refused(make_request: Make, tmp_path: Path) -> None:
    request = make_request(TRUTH)
    uris = [*request.labels["uri"].to_pylist(), "gone.png"]
    pq.write_table(pa.table({"uri": uris, "p": [*PROBS, PROBS[0]]}), tmp_path / "t.parquet")
    answer = ask(request, path="t.parquet")
    assert answer.card.n_predicted == 4
    assert any("'gone.png'" in text for text in answer.card.warnings)
    pq.write_table(pa.table({"uri": ["a", "b", "c"], "p": PROBS[:3]}), tmp_path / "f.parquet")
    with pytest.raises(InputError, match=r"3 of 3 rows .*'a', 'b', 'c'"):
        ask(request, path="f.parquet")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[0.7, float("nan"), 0.1], *PROBS[1:]], r"1 rows that are not probabilities.*0000\.png"),
        ([[0.7, 0.7, 0.7], *PROBS[1:]], r"0000\.png: sum 2\.1"),
        ([[1.5, -0.5, 0.0], *PROBS[1:]], "not probabilities"),
        ([[0.5, 0.5]] * 4, "2 outputs, but the dataset names 3"),
        ([[0.5, 0.5], *PROBS[1:]], "one length; they have: 2, 3"),
    ],
)
def test_what_is_no_probability_is_named(
    make_request: Make, tmp_path: Path, rows: list[list[float]], said: str
) -> None:
    request = make_request(TRUTH)
    pq.write_table(pa.table({"uri": request.labels["uri"], "p": rows}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=said):
        ask(request, path="t.parquet")


def test_what_cannot_be_used_says_what_to_do(make_request: Make, tmp_path: Path) -> None:
    request = make_request(TRUTH)
    uris = request.labels["uri"]
    cases: list[tuple[dict[str, object], dict[str, object], type[CurateError], str]] = [
        ({"uri": uris, "p": PROBS}, {"key": "url"}, ConfigError, "Did you mean 'uri'"),
        ({"image": uris, "p": PROBS}, {}, InputError, "uri"),
        ({"uri": ["0000.png"] * 4, "p": PROBS}, {}, InputError, "more than one row for '0000.png'"),
        ({"uri": uris, "p": PROBS, "q": PROBS}, {}, InputError, "several list columns"),
        ({"uri": uris, "red": [1.0] * 4}, {}, InputError, "none for 'green', 'blue'"),
        ({"uri": uris, "p": PROBS}, {"columns": {"red": "r"}}, InputError, "r"),
        ({"uri": uris, "p": PROBS}, {"classes": ["red", "green", "bleu"]}, InputError, "Did you mean 'blue'"),
        ({"uri": uris, "r": ["x"] * 4}, {"columns": {"red": "r"}}, InputError, "no numbers"),
    ]
    for columns, keys, error, said in cases:
        pq.write_table(pa.table(columns), tmp_path / "t.parquet")
        with pytest.raises(error, match=said):
            ask(request, path="t.parquet", **keys)
    with pytest.raises(InputError, match="is not there"):
        ask(request, path="none.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 half")
    with pytest.raises(InputError, match="neither Parquet nor CSV"):
        ask(request, path="bad.parquet")


def test_a_class_that_is_declared_to_be_unknown_silences_its_labels_only(
    make_request: Make, tmp_path: Path
) -> None:
    request = make_request(TRUTH)
    table = pa.table({"uri": request.labels["uri"], "red": [0.9, 0.2, 0.5, 0.6], "green": [0.1, 0.8, 0.5, 0.4]})
    pq.write_table(table, tmp_path / "t.parquet")
    answer = ask(request, path="t.parquet", classes=["red", "green"])
    assert np.isnan(answer.probs).any(axis=1).tolist() == [False, False, True, False]
    np.testing.assert_allclose(answer.probs[0], [0.9, 0.1, 0.0], atol=1e-6)
    with pytest.raises(InputError, match="does not know 'blue'"):
        ask(request, path="t.parquet", columns={"red": "red", "green": "green"})


def test_one_row_an_image_does_not_judge_images_with_several_labels(make_request: Make, tmp_path: Path) -> None:
    request = make_request(TRUTH)
    labels = request.labels
    ids = pa.chunked_array([["x", *labels["label_id"].to_pylist()]])
    twice = pa.concat_tables([labels.slice(0, 1), labels]).set_column(0, "label_id", ids)
    several = make_request(TRUTH, labels=twice, families=np.arange(5))
    pq.write_table(pa.table({"uri": labels["uri"], "p": PROBS}), tmp_path / "t.parquet")
    answer = ask(several, path="t.parquet")
    assert np.isnan(answer.probs).any(axis=1).tolist() == [True, True, False, False, False]
    assert any("key: label_id" in text for text in answer.card.warnings)


def test_the_digest_follows_the_table(make_request: Make, tmp_path: Path) -> None:
    request = make_request(TRUTH)
    pq.write_table(pa.table({"uri": request.labels["uri"], "p": PROBS}), tmp_path / "t.parquet")
    first = ask(request, path="t.parquet").card.digest
    assert ask(request, path="t.parquet").card.digest == first
    pq.write_table(pa.table({"uri": request.labels["uri"], "p": PROBS[::-1]}), tmp_path / "t.parquet")
    assert ask(request, path="t.parquet").card.digest != first


def test_a_table_made_for_other_bytes_is_refused_by_name(make_request: Make, tmp_path: Path) -> None:
    request = make_request(TRUTH)
    hashes = request.labels["content_sha256"].to_pylist()
    columns = {"uri": request.labels["uri"], "p": PROBS}
    pq.write_table(pa.table({**columns, "content_sha256": hashes}), tmp_path / "t.parquet")
    assert ask(request, path="t.parquet").card.n_predicted == 4
    pq.write_table(pa.table({**columns, "content_sha256": [*hashes[:3], "00" * 32]}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"1 rows .* other image bytes: .*0003.png"):
        ask(request, path="t.parquet")
