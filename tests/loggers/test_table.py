"""metrics.csv: rows, late columns, and what a resumed run leaves of its predecessor."""

import csv

import pytest

from limbeck.errors import UserError
from limbeck.loggers.table import Table, read_table


def test_values_of_the_same_kimg_make_one_row(tmp_path):
    table = Table(tmp_path / "metrics.csv")
    table.put({"kimg": 0.5, "loss/generator/pixel_l1": 0.25})
    table.put({"kimg": 0.5, "speed/images_per_second": 40.0})
    table.put({"kimg": 1.0, "loss/generator/pixel_l1": 0.125})
    table.put({"memory/peak_mib": 7.0})
    with open(tmp_path / "metrics.csv") as file:
        assert list(csv.DictReader(file)) == [
            {
                "kimg": "0.5",
                "loss/generator/pixel_l1": "0.25",
                "speed/images_per_second": "40",
                "memory/peak_mib": "",
            },
            {"kimg": "1", "loss/generator/pixel_l1": "0.125", "speed/images_per_second": "", "memory/peak_mib": "7"},
        ]


def test_every_row_is_on_disk_at_once_and_ascending(tmp_path):
    table = Table(tmp_path / "metrics.csv")
    for index in range(20):
        table.put({"kimg": index / 4, "a": index})
        if index % 3 == 0:
            table.put({"kimg": index / 4, "b": 1000.5})
        rows = read_table(tmp_path / "metrics.csv")
        assert [row["kimg"] for row in rows] == [k / 4 for k in range(index + 1)]
        assert [row["a"] for row in rows] == list(range(index + 1))
        assert ["b" in row for row in rows] == [k % 3 == 0 for k in range(index + 1)]


def test_resumed_run_leaves_the_file_of_an_uninterrupted_one(tmp_path):
    def train(path, kimgs, slope):
        table = Table(path)
        for kimg in kimgs:
            table.put({"kimg": kimg, "loss/generator/a": slope * kimg})
            if kimg % 2 == 0:
                table.put({"kimg": kimg, "metric/kid_lite0": kimg})

    train(tmp_path / "whole.csv", range(1, 11), 1.0)
    train(tmp_path / "killed.csv", range(1, 9), 1.0)  # checkpoint at 5; the rows 6 to 8 are lost work
    with open(tmp_path / "killed.csv", "a") as file:
        file.write("9,0.4")  # the kill came in the middle of a line
    train(tmp_path / "killed.csv", range(6, 11), 1.0)
    assert (tmp_path / "killed.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_new_start_in_the_same_folder_drops_the_old_curve(tmp_path):
    for value in (1.0, 2.0):
        table = Table(tmp_path / "metrics.csv")
        for kimg in (1, 2, 3 - (value == 2.0)):
            table.put({"kimg": kimg, "a": value})
    assert read_table(tmp_path / "metrics.csv") == [{"kimg": 1.0, "a": 2.0}, {"kimg": 2.0, "a": 2.0}]


def test_appending_does_not_rewrite_the_file(tmp_path):
    path = tmp_path / "metrics.csv"
    table = Table(path)
    table.put({"kimg": 1, "a": 1})
    inode = path.stat().st_ino
    table.put({"kimg": 2, "a": 1})
    table.put({"kimg": 2, "a": 3})
    assert path.stat().st_ino == inode
    table.put({"kimg": 2, "b": 3})  # a new column needs a new header
    assert path.stat().st_ino != inode


def test_removed_file_starts_anew(tmp_path):
    table = Table(tmp_path / "metrics.csv")
    table.put({"kimg": 1, "a": 1})
    (tmp_path / "metrics.csv").unlink()
    table.put({"kimg": 2, "a": 2})
    assert read_table(tmp_path / "metrics.csv") == [{"kimg": 2.0, "a": 2.0}]


def test_foreign_file_is_refused_by_name(tmp_path):
    (tmp_path / "metrics.csv").write_text("kimg,a\n1,two\n")
    with pytest.raises(UserError, match=r"metrics\.csv"):
        Table(tmp_path / "metrics.csv").put({"kimg": 2})
