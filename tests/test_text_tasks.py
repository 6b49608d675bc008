"""Text tasks from small files in their public formats, and what is known about words."""

from __future__ import annotations

import csv
import gzip
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest

from streamdyn.errors import ConfigError, MissingExtra, SourceError, UnknownName
from streamdyn.text.sequences import adding, frequency, number_prediction, sequential_digits
from streamdyn.text.tasks import TASKS, Task, load_task
from streamdyn.text.vectors import log_count_ratio, wordllama_vectors

SHARED = Path("/work/shared/data")
needs_data = pytest.mark.skipif(not SHARED.exists(), reason=f"no data in {SHARED}")


def write_table(path: Path, rows: Iterable[Sequence[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def write_lines(path: Path, lines: Iterable[str], encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))


def write_reviews(folder: Path, count: int = 40) -> None:
    """`count` reviews a part, half of each label."""
    for part in ("train", "test_a"):
        rows = [(i, ("neg", "pos")[i % 2], i % 10, f"{part} review, {i}") for i in range(count)]
        write_table(folder / "imdb" / f"{part}.csv.gz", [("id", "label", "rating", "text"), *rows])


def sizes(task: Task) -> tuple[int, int, int]:
    return len(task.train), len(task.dev), len(task.test)


def test_imdb_holds_out_a_tenth_with_as_many_of_each_label(tmp_path: Path) -> None:
    write_reviews(tmp_path)
    task = load_task("imdb", tmp_path)
    assert task.name == "imdb"
    assert sizes(task) == (36, 4, 40)
    assert [np.bincount(part.labels).tolist() for part in (task.train, task.dev)] == [
        [18, 18],
        [2, 2],
    ]
    everything = {*task.train.texts, *task.dev.texts}
    assert everything == {f"train review, {i}" for i in range(40)}
    numbers = [int(text.split()[-1]) for text in task.test.texts]
    assert task.test.labels.tolist() == [number % 2 for number in numbers]


def test_a_held_out_part_does_not_depend_on_the_order_of_the_file(tmp_path: Path) -> None:
    write_reviews(tmp_path)
    before = load_task("imdb", tmp_path)
    path = tmp_path / "imdb" / "train.csv.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join([lines[0], *reversed(lines[1:])])))
    assert set(load_task("imdb", tmp_path).dev.texts) == set(before.dev.texts)


def test_html_line_breaks_become_line_breaks(tmp_path: Path) -> None:
    write_reviews(tmp_path)
    rows = [("id", "label", "rating", "text"), (0, "pos", 9, 'Good.<br /><br />"Very", I say.')]
    write_table(tmp_path / "imdb" / "test_a.csv.gz", rows)
    assert load_task("imdb", tmp_path).test.texts == ['Good.\n\n"Very", I say.']


def test_movie_reviews_tests_on_the_fold_of_the_file(tmp_path: Path) -> None:
    rows = [(f"cv{i}", ("neg", "pos")[i % 2], i // 20, f"text {i}") for i in range(60)]
    path = tmp_path / "movie_reviews" / "reviews.csv.gz"
    write_table(path, [("id", "label", "fold", "text"), *rows])
    tasks = [load_task("movie_reviews", tmp_path, fold=fold) for fold in range(3)]
    assert [task.num_folds for task in tasks] == [3, 3, 3]
    assert all(sizes(task) == (36, 4, 20) for task in tasks)
    assert tasks[1].test.texts == [f"text {i}" for i in range(20, 40)]
    assert not set(tasks[1].test.texts) & {*tasks[1].train.texts, *tasks[1].dev.texts}
    with pytest.raises(ConfigError, match=r"movie_reviews has folds 0 to 2, got fold = 3"):
        load_task("movie_reviews", tmp_path, fold=3)


def test_rotten_tomatoes_tests_on_the_published_dev_part(tmp_path: Path) -> None:
    for part, count in (("train", 20), ("dev", 6)):
        rows = [(i, ("neg", "pos")[i % 2], f"{part} {i}") for i in range(count)]
        path = tmp_path / "rotten_tomatoes" / f"{part}.csv.gz"
        write_table(path, [("id", "label", "text"), *rows])
    task = load_task("rotten_tomatoes", tmp_path)
    assert sizes(task) == (18, 2, 6)
    assert task.test.texts[0] == "dev 0"


def test_sst_keeps_the_published_parts(tmp_path: Path) -> None:
    for part in ("train", "dev", "test"):
        write_lines(tmp_path / "sst" / f"binary.{part}.txt", [f"0 bad {part}", "1 crème brûlée ."])
    task = load_task("sst", tmp_path)
    assert sizes(task) == (2, 2, 2)
    assert task.dev.texts == ["bad dev", "crème brûlée ."]
    assert [task.labels[k] for k in task.dev.labels] == ["neg", "pos"]


@pytest.mark.parametrize(
    ("name", "files", "encoding"),
    [("subj", ("objective", "subjective"), "cp1252"), ("cr", ("neg", "pos"), "utf-8")],
)
def test_a_task_without_a_split_gets_ten_folds_that_cover_it(
    tmp_path: Path, name: str, files: tuple[str, str], encoding: str
) -> None:
    for label in files:
        lines = [f"{label} \N{EN DASH} cliché {i} . " for i in range(50)]
        write_lines(tmp_path / name / f"{label}.txt", [*lines, "", " "], encoding)
    tasks = [load_task(name, tmp_path, fold=fold) for fold in range(10)]
    assert all(sizes(task) == (81, 9, 10) for task in tasks)
    assert all(np.bincount(task.test.labels).tolist() == [5, 5] for task in tasks)
    seen = [text for task in tasks for text in task.test.texts]
    assert len(set(seen)) == 100
    assert f"{files[1]} \N{EN DASH} cliché 7 ." in seen


def test_trec_reads_the_coarse_label_and_bytes_that_are_no_utf_8(tmp_path: Path) -> None:
    lines = ["LOC:city Which sister\xf0city ?", *(f"NUM:date When {i} ?" for i in range(19))]
    write_lines(tmp_path / "trec" / "train.txt", lines, "latin-1")
    write_lines(tmp_path / "trec" / "test.txt", ["DESC:def What is an atom ?"])
    task = load_task("trec", tmp_path)
    assert task.labels == ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")
    assert task.test.texts == ["What is an atom ?"]
    assert task.test.labels.tolist() == [1]
    assert sizes(task) == (18, 2, 1)
    assert "Which sister\xf0city ?" in task.train.texts + task.dev.texts


def test_ag_news_trains_on_nothing_that_it_tests_on(tmp_path: Path) -> None:
    test = [("3", "Oil", "Shares fell\\on Monday."), ("4", "Probe", "A probe landed.")]
    write_table(tmp_path / "ag_news" / "test.csv", test)
    train = [(1 + i % 4, f"story {i}") for i in range(20)]
    rows = [("label", "content"), *train, (2, " A probe landed.")]
    write_table(tmp_path / "ag_news" / "jointmatch_dev.csv", rows)
    task = load_task("ag_news", tmp_path)
    assert task.test.texts == ["Shares fell\non Monday.", "A probe landed."]
    assert [task.labels[k] for k in task.test.labels] == ["business", "sci_tech"]
    assert sizes(task) == (18, 2, 2)
    assert "A probe landed." not in task.train.texts + task.dev.texts
    number = int(task.train.texts[0].split()[-1])
    assert task.train.labels[0] == number % 4


def test_an_unknown_task_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"no text task is called 'imbd' .*'imdb'"):
        load_task("imbd", tmp_path)


def test_a_fold_of_a_task_with_a_given_split_is_refused(tmp_path: Path) -> None:
    write_reviews(tmp_path)
    with pytest.raises(ConfigError, match=r"imdb has one split, fold 0, got fold = 1"):
        load_task("imdb", tmp_path, fold=1)


@pytest.mark.parametrize("name", TASKS)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match=rf"cannot read .*{name}.*: there is no such file; name"):
        load_task(name, tmp_path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (gzip.compress(b"id,label,rating,text\n" + b"1,pos,9,x\n" * 999)[:-9], "ended before"),
        (b"id,label,rating,text\n", "Not a gzipped file"),
        (gzip.compress(b"id,label,rating\n1,pos,9\n"), "names no column text"),
        (gzip.compress(b"id,label,rating,text\n1,pos,9,a\n2,pos\n"), "line 3 has 2 columns of 4"),
        (gzip.compress(b"id,label,rating,text\n1,pos,9,a\n2,sad,9,b\n"), "text 2 has the label 's"),
        (gzip.compress(b"id,label,rating,text\n1,pos,9, \n"), "text 1 is empty"),
        (gzip.compress(b"id,label,rating,text\n"), "it holds no texts"),
        (gzip.compress(b"id,label,rating,text\n1,pos,9,caf\xe9\n"), "can't decode byte 0xe9"),
        (gzip.compress(b'id,label,rating,text\n1,pos,9,"a\n'), "unexpected end of data"),
    ],
    ids=["cut", "no gzip", "column", "short row", "label", "blank", "no rows", "encoding", "quote"],
)
def test_a_broken_file_is_named_with_what_is_wrong(
    tmp_path: Path, content: bytes, why: str
) -> None:
    write_reviews(tmp_path)
    (tmp_path / "imdb" / "test_a.csv.gz").write_bytes(content)
    with pytest.raises(SourceError, match=rf"cannot read .*test_a.csv.gz: .*{why}.*fetch the file"):
        load_task("imdb", tmp_path)


@needs_data
@pytest.mark.parametrize(
    ("name", "expected", "num_folds"),
    [
        ("imdb", (23000, 2000, 12500), 1),
        ("movie_reviews", (1440, 160, 200), 9),
        ("rotten_tomatoes", (7677, 853, 1066), 1),
        ("sst", (6920, 872, 1821), 1),
        ("subj", (8100, 900, 1000), 10),
        ("cr", (3054, 339, 378), 10),
        ("trec", (4907, 545, 500), 1),
        ("ag_news", (7186, 798, 7600), 1),
    ],
)
def test_the_public_files_hold_what_is_published(
    name: str, expected: tuple[int, int, int], num_folds: int
) -> None:
    task = load_task(name, SHARED / "text")
    assert sizes(task) == expected
    assert task.num_folds == num_folds
    for part in (task.train, task.dev, task.test):
        assert set(part.labels.tolist()) == set(range(len(task.labels)))


def test_adding_marks_one_value_in_the_first_tenth_and_one_in_the_second_half() -> None:
    made = adding(np.random.default_rng(0), 3000, length=50)
    values, markers = made.inputs[:, :, 0], made.inputs[:, :, 1]
    assert (made.inputs.shape, made.inputs.dtype) == ((3000, 50, 2), np.float32)
    assert (markers[:, :5].sum(1) == 1).all()
    assert (markers[:, 25:].sum(1) == 1).all()
    assert (markers.sum(1) == 2).all()
    assert set(np.flatnonzero(markers.any(0))) == {*range(5), *range(25, 50)}
    np.testing.assert_allclose(made.targets[:, 0], (values * markers).sum(1), atol=1e-6)
    assert values.min() >= -0.5
    assert values.max() < 0.5
    assert made.targets.var() == pytest.approx(1 / 6, rel=0.1)
    assert made.lengths.tolist() == [50] * 3000


def test_frequency_labels_periods_between_5_and_6_ms() -> None:
    made = frequency(np.random.default_rng(0), 400, samples=200)
    assert made.inputs.shape == (400, 200, 1)
    assert np.bincount(made.targets).tolist() == [200, 200]
    # 17 to 20 periods in 100 ms; the others fill the spectrum.
    power = np.abs(np.fft.rfft(made.inputs[:, :, 0], axis=1))
    peak = power.argmax(1)  # periods in 100 ms
    assert set(peak[made.targets == 1]) == {17, 18, 19, 20}
    assert np.isin(peak[made.targets == 0], [17, 18, 19, 20]).mean() < 0.05
    assert made.targets[:200].mean() == pytest.approx(0.5, abs=0.1)


def test_twice_the_samples_sample_the_same_waves_twice_as_often() -> None:
    once, twice = (frequency(np.random.default_rng(3), 10, samples=n) for n in (100, 200))
    assert (once.targets == twice.targets).all()
    np.testing.assert_allclose(once.inputs, twice.inputs[:, ::2], atol=1e-5)


@pytest.mark.parametrize("length", [10, 1000])
def test_number_prediction_asks_for_the_number_that_the_first_one_points_to(length: int) -> None:
    made = number_prediction(np.random.default_rng(0), 500, length=length)
    numbers = made.inputs - 1
    assert (made.inputs.dtype, made.inputs.shape) == (np.int32, (500, length))
    assert numbers.min() == 0
    assert numbers.max() == 99
    assert numbers[:, 0].max() == min(length, 100) - 1
    assert all(row[row[0]] == target for row, target in zip(numbers, made.targets, strict=True))


def test_generators_repeat_what_their_generator_repeats() -> None:
    first, again, other = (adding(np.random.default_rng(seed), 5) for seed in (1, 1, 2))
    assert (first.inputs == again.inputs).all()
    assert (first.inputs != other.inputs).any()


def test_digits_are_read_in_scan_order(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (100, 4, 4), dtype=np.uint8)
    path = tmp_path / "digits.npz"
    np.savez(path, x=pictures, y=np.repeat(np.arange(10), 10))
    parts = sequential_digits(path)
    assert [part.inputs.shape for part in parts] == [(80, 16, 1), (10, 16, 1), (10, 16, 1)]
    assert [np.bincount(part.targets).tolist() for part in parts] == [[8] * 10, [1] * 10, [1] * 10]
    flat = {picture.tobytes(): label for label, picture in enumerate(pictures)}
    for inputs, label in zip(parts[2].inputs, parts[2].targets, strict=True):
        picture = np.rint(inputs * 255).astype(np.uint8)
        assert flat[picture.tobytes()] // 10 == label
    rows = sequential_digits(path, width=4)[2]
    np.testing.assert_array_equal(rows.inputs, parts[2].inputs.reshape(10, 4, 4))
    with pytest.raises(ConfigError, match=r"16 pixels do not divide into steps of width = 5"):
        sequential_digits(path, width=5)


def test_a_broken_file_of_digits_is_named(tmp_path: Path) -> None:
    path = tmp_path / "digits.npz"
    with pytest.raises(SourceError, match=r"digits.npz: there is no such file"):
        sequential_digits(path)
    np.savez(path, y=np.arange(10))
    with pytest.raises(SourceError, match=r"digits.npz: .*x is not"):
        sequential_digits(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SourceError, match=r"digits.npz: .*fetch the file"):
        sequential_digits(path)


@needs_data
def test_the_public_digits_split_evenly() -> None:
    parts = sequential_digits(SHARED / "digits" / "digits5000.npz", width=20)
    assert [part.inputs.shape for part in parts] == [(4000, 20, 20), (500, 20, 20), (500, 20, 20)]
    assert all(len(set(np.bincount(part.targets))) == 1 for part in parts)


def test_wordllama_vectors_put_words_of_like_meaning_together() -> None:
    pytest.importorskip("wordllama")
    words = ["", "the", "terrible", "awful", "actor", "actress", "\ud800", "gooood"]
    vectors = wordllama_vectors(words, 7)
    assert (vectors.shape, vectors.dtype) == ((8, 7), np.float32)
    assert not vectors[0].any()
    assert vectors[1:].std() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(vectors[1:].mean(0), 0, atol=1e-5)
    unit = vectors / np.linalg.norm(vectors, axis=1).clip(1e-9)[:, None]
    near = unit @ unit.T - 2 * np.eye(8)
    assert near[2].argmax() == 3
    assert near[4].argmax() == 5
    variances = vectors[1:].var(0)
    assert (np.diff(variances) <= 1e-5).all()


def test_wordllama_vectors_refuse_more_values_than_there_are() -> None:
    pytest.importorskip("wordllama")
    with pytest.raises(ConfigError, match=r"wordllama has 256 values a word, got size = 300"):
        wordllama_vectors(["good"], 300)


def test_without_wordllama_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "wordllama", raising=False)
    monkeypatch.setattr(sys, "path_importer_cache", {})
    with pytest.raises(MissingExtra, match=r"wordllama.*pip install 'streamdyn\[text\]'"):
        wordllama_vectors(["good"], 8)


def test_log_count_ratio_counts_a_word_once_a_document() -> None:
    ids = [np.array([2, 2, 2, 3]), np.array([2]), np.array([3, 4])]
    ratio = log_count_ratio(ids, np.array([0, 0, 1]), 6)
    assert (ratio.shape, ratio.dtype) == ((6, 2), np.float32)
    # Two documents of label 0 hold word 2 and none of label 1: (3 / 4) / (1 / 3).
    assert ratio[2, 0] == pytest.approx(np.log(9 / 4))
    assert ratio[3, 0] == pytest.approx(np.log((2 / 4) / (2 / 3)))
    np.testing.assert_allclose(ratio[:, 0], -ratio[:, 1], atol=1e-7)
    assert not ratio[[0, 1, 5]].any()


def test_log_count_ratio_sets_each_of_many_labels_against_the_rest() -> None:
    ids = [np.array([label + 1]) for label in range(3) for _ in range(4)]
    ratio = log_count_ratio(ids, np.repeat(np.arange(3), 4), 4)
    assert (ratio.argmax(0) == [1, 2, 3]).all()
    assert ratio[1, 0] == pytest.approx(np.log((5 / 6) / (1 / 10)))
