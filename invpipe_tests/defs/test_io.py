"""The IO managers in real Dagster runs: partitions, atomic writes, damage, and what they refuse."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any, Self

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from invpipe.atomic import LEFTOVER_SECONDS, atomic_replace
from invpipe.defs.io import PartitionStream
from invpipe.defs.provenance import ArtifactStore
from invpipe.errors import ProvenanceError

FOLDS = dg.StaticPartitionsDefinition([f"{fold:02d}" for fold in range(4)])
DAYS = dg.DailyPartitionsDefinition("2017-01-01", end_date="2017-01-06")
GRID = dg.MultiPartitionsDefinition({"window": dg.StaticPartitionsDefinition(["h1", "h2"]), "variant": FOLDS})
FRAME = pl.DataFrame(
    {"sku": ["a", "b", None], "day": [date(2017, 1, 1)] * 3, "sales_units": [1, 2, 3]}, schema_overrides={"sales_units": pl.Int32}
)

Materialize = Callable[..., dg.ExecuteInProcessResult]


class Notes:
    """An object that keeps itself in a directory of two files."""

    def __init__(self, text: str) -> None:
        self.text = text

    def save(self, path: Path) -> None:
        path.mkdir()
        (path / "text").write_text(self.text)
        (path / "length").write_text(str(len(self.text)))

    @classmethod
    def open(cls, path: Path) -> Self:
        return cls((path / "text").read_text())


class Line(Notes):
    """An object that keeps itself in a single file."""

    def save(self, path: Path) -> None:
        path.write_text(self.text)

    @classmethod
    def open(cls, path: Path) -> Self:
        return cls(path.read_text())


def frame_of(number: int) -> pl.DataFrame:
    return pl.DataFrame({"n": [number]})


# --- frames


def test_unpartitioned_frame_comes_back_eager_and_lazy(materialize: Materialize, store: ArtifactStore) -> None:
    """Guards the plain round trip, which dagster-polars 0.27.12 fails on Polars 2, and lazy outputs and inputs."""

    @dg.asset(code_version="1")
    def sales() -> pl.LazyFrame:
        return FRAME.lazy()

    @dg.asset(code_version="1")
    def eager(sales: pl.DataFrame) -> pl.DataFrame:
        assert_frame_equal(sales, FRAME)
        return sales

    @dg.asset(code_version="1", ins={"sales": dg.AssetIn(metadata={"columns": ["sku"]})})
    def lazy(sales: pl.LazyFrame) -> pl.DataFrame:
        assert isinstance(sales, pl.LazyFrame)
        return sales.collect()

    materialize([sales, eager, lazy])
    assert sorted(path.name for path in store.root.iterdir()) == ["eager.parquet", "lazy.parquet", "sales.parquet"]
    assert_frame_equal(pl.read_parquet(store.frame_path(("lazy", None))), FRAME.select("sku"))


def test_one_partition_and_an_input_annotated_as_dict(materialize: Materialize) -> None:
    """Guards the dict input that fails in Dagster when exactly one partition arrives."""

    @dg.asset(code_version="1", partitions_def=DAYS)
    def sales(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return frame_of(int(context.partition_key[-2:]))

    @dg.asset(code_version="1", partitions_def=DAYS)
    def doubled(context: dg.AssetExecutionContext, sales: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
        assert list(sales) == context.partition_keys
        return {day: frame * 2 for day, frame in sales.items()}

    @dg.asset(code_version="1", partitions_def=DAYS)
    def single(doubled: pl.DataFrame) -> pl.DataFrame:
        return doubled

    result = materialize([sales, doubled, single], partition_key="2017-01-03")
    assert result.output_for_node("single")["n"].to_list() == [6]


def test_range_of_partitions_in_one_run(materialize: Materialize, store: ArtifactStore) -> None:
    """Guards the backfill in one run, which Dagster's UPath managers refuse, and the order of the keys a consumer sees."""

    @dg.asset(code_version="1", partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
    def sales(context: dg.AssetExecutionContext) -> dict[str, pl.DataFrame]:
        return {day: frame_of(int(day[-2:])) for day in reversed(context.partition_keys)}

    @dg.asset(code_version="1")
    def total(sales: dict[str, pl.DataFrame]) -> pl.DataFrame:
        assert list(sales) == sorted(sales)
        return pl.concat(sales.values())

    materialize([sales], first="2017-01-01", last="2017-01-03")
    result = materialize([sales], first="2017-01-04", last="2017-01-05")
    events = result.asset_materializations_for_node("sales")
    assert sorted(event.partition for event in events if event.partition) == ["2017-01-04", "2017-01-05"]
    records = [event.metadata["provenance"].value["partition"] for event in events]  # type: ignore[index]
    assert records == [event.partition for event in events]
    assert materialize([total, sales], selection=[total]).output_for_node("total")["n"].to_list() == [1, 2, 3, 4, 5]
    assert store.frame_path(("sales", "2017-01-04")).relative_to(store.root).as_posix() == "sales/2017-01-04.parquet"


def test_rectangle_of_multi_partitions_in_one_run(materialize: Materialize, store: ArtifactStore) -> None:
    """Guards backtests: some variants of every window in one run, each in its own file, downstream key by key."""

    @dg.asset(code_version="1", partitions_def=GRID, backfill_policy=dg.BackfillPolicy.single_run())
    def backtest(context: dg.AssetExecutionContext) -> dict[str, pl.DataFrame]:
        return {key: pl.DataFrame({"key": [key]}) for key in context.partition_keys}

    @dg.asset(code_version="1", partitions_def=GRID)
    def checked(context: dg.AssetExecutionContext, backtest: pl.DataFrame) -> pl.DataFrame:
        assert backtest["key"].to_list() == [context.partition_key]
        return backtest

    first, last = dg.MultiPartitionKey({"window": "h1", "variant": "01"}), dg.MultiPartitionKey({"window": "h2", "variant": "02"})
    materialize([backtest], first=str(first), last=str(last))
    files = sorted(path.relative_to(store.root).as_posix() for path in store.root.rglob("*.parquet"))
    assert files == [f"backtest/{variant}/{window}.parquet" for variant in ("01", "02") for window in ("h1", "h2")]
    assert materialize([backtest, checked], selection=[checked], partition_key=first).success


def test_partition_keys_with_odd_characters_stay_apart_and_inside(store: ArtifactStore) -> None:
    """Guards against a key that climbs out of the store, hides as a temporary, or shares a file with another key."""
    keys = ["..", "a/b", "a", ".x", "%2Ex", "A b", "ü"]
    paths = [store.directory_path(("asset", key)) for key in keys]
    assert len(set(paths)) == len(keys)
    assert all(path.parent == store.root / "asset" and not path.name.startswith(".") for path in paths)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"00": 1}, r"the partitions returned for sales are not the 2 of the run: 1 missing, first '01'"),
        ({"00": 1, "01": 1, "03": 1, "07": 1}, r"not the 2 of the run: 2 not asked for, first '03'"),
        ({"00": 1, "02": 1}, r"1 missing, first '01'; 1 not asked for, first '02'"),
    ],
)
def test_dict_of_other_partitions_is_refused(
    materialize: Materialize, store: ArtifactStore, returned: Mapping[str, int], message: str
) -> None:
    """Guards against a backfill that skips a partition, or overwrites one nobody asked for, and reports success."""

    @dg.asset(code_version="1", partitions_def=FOLDS, backfill_policy=dg.BackfillPolicy.single_run())
    def sales() -> dict[str, pl.DataFrame]:
        return {key: frame_of(value) for key, value in returned.items()}

    with pytest.raises(ProvenanceError, match=message):
        materialize([sales], first="00", last="01")
    assert not list(store.root.rglob("*"))


def test_single_frame_for_several_partitions_is_refused(materialize: Materialize) -> None:
    """Guards against the same frame landing under every key of a range."""

    @dg.asset(code_version="1", partitions_def=FOLDS, backfill_policy=dg.BackfillPolicy.single_run())
    def sales() -> pl.DataFrame:
        return FRAME

    with pytest.raises(ProvenanceError, match=r"the run makes 3 partitions of sales \(00 \.\.\. 02\); return a dict"):
        materialize([sales], first="00", last="02")


def test_several_partitions_into_a_plain_frame_are_refused(materialize: Materialize) -> None:
    """Guards against a consumer that silently gets a dict where it asked for a frame."""

    @dg.asset(code_version="1", partitions_def=FOLDS)
    def sales() -> pl.DataFrame:
        return FRAME

    @dg.asset(code_version="1")
    def total(sales: pl.DataFrame) -> pl.DataFrame:
        return sales

    with pytest.raises(
        ProvenanceError, match=r"input 'sales' gets 4 partitions of sales \(00 \.\.\. 03\): annotate it as dict\[str, DataFrame\]"
    ):
        materialize([sales, total], selection=[total])


def test_missing_partitions_may_be_skipped_on_request_only(materialize: Materialize) -> None:
    """Guards Dagster's `allow_missing_partitions`, and that without it a missing upstream is an error with its cure."""

    @dg.asset(code_version="1", partitions_def=FOLDS)
    def sales(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return frame_of(int(context.partition_key))

    @dg.asset(code_version="1", ins={"sales": dg.AssetIn(metadata={"allow_missing_partitions": True})})
    def some(sales: dict[str, pl.DataFrame]) -> pl.DataFrame:
        return pl.concat(sales.values())

    @dg.asset(code_version="1")
    def all_folds(sales: dict[str, pl.DataFrame]) -> pl.DataFrame:
        return pl.concat(sales.values())

    materialize([sales], partition_key="02")
    assert materialize([sales, some], selection=[some]).output_for_node("some")["n"].to_list() == [2]
    message = r"input 'sales' needs the artifact sales\[00\], which is not there \(.*00\.parquet\); materialise it again .*--partition '00'"
    with pytest.raises(ProvenanceError, match=message):
        materialize([sales, all_folds], selection=[all_folds])


def test_output_that_is_no_frame_is_refused(materialize: Materialize) -> None:
    """Guards against a body that forgets its return statement."""

    @dg.asset(code_version="1")
    def sales():  # type: ignore[no-untyped-def]  # noqa: ANN202, RUF100
        return None

    with pytest.raises(ProvenanceError, match="artifact sales should be a Polars frame, the asset returned NoneType"):
        materialize([sales])


def test_metadata_are_the_same_in_every_run(materialize: Materialize) -> None:
    """Guards against the random sample of dagster-polars, which makes two equal runs look different."""

    @dg.asset(code_version="1")
    def sales() -> pl.DataFrame:
        return pl.DataFrame({"n": range(1000)})

    def shown() -> tuple[Any, ...]:
        (event,) = materialize([sales]).asset_materializations_for_node("sales")
        return tuple(event.metadata[key].value for key in ("first_rows", "dagster/row_count", "dagster/column_schema"))

    first = shown()
    assert first == shown()
    assert first[1] == 1000
    assert "| 4 " in first[0]


def test_a_stream_is_written_part_by_part(materialize: Materialize, store: ArtifactStore) -> None:
    """Prevents a run over years of days from holding all of them; a day that comes again takes the place of what came before."""
    there: list[int] = []

    @dg.asset(code_version="1", partitions_def=FOLDS, backfill_policy=dg.BackfillPolicy.single_run())
    def thing(context: dg.AssetExecutionContext) -> PartitionStream:
        def parts() -> Iterator[tuple[str, pl.DataFrame]]:
            for attempt in (1, 2):
                for key in context.partition_keys[: 1 if attempt == 1 else None]:
                    yield key, pl.DataFrame({"n": [attempt]})
                    there.append(len(list(store.root.rglob("*.parquet"))))

        return PartitionStream(parts())

    keys = FOLDS.get_partition_keys()
    materialize([thing], keys[0], keys[-1])
    assert there == [1, *range(1, len(keys) + 1)]
    assert all(pl.read_parquet(store.frame_path(("thing", key)))["n"].to_list() == [2] for key in keys)


def test_a_stream_has_to_hold_the_runs_partitions(materialize: Materialize) -> None:
    """Prevents a day that silently was not read, or one that nobody asked for."""
    first, *_ = keys = FOLDS.get_partition_keys()

    @dg.asset(code_version="1", partitions_def=FOLDS, backfill_policy=dg.BackfillPolicy.single_run())
    def short() -> PartitionStream:
        return PartitionStream(part for part in [(first, pl.DataFrame({"n": [1]}))])

    @dg.asset(code_version="1", partitions_def=FOLDS, backfill_policy=dg.BackfillPolicy.single_run())
    def foreign() -> PartitionStream:
        return PartitionStream(part for part in [("other", pl.DataFrame({"n": [1]}))])

    with pytest.raises(ProvenanceError, match=f"partitions returned for short are not the {len(keys)} of the run: {len(keys) - 1} missing"):
        materialize([short], keys[0], keys[-1])
    with pytest.raises(ProvenanceError, match="1 not asked for, first 'other'"):
        materialize([foreign], keys[0], keys[-1])


# --- atomic writes


class Interrupted(Exception):  # noqa: N818 - stands for a signal
    """Breaks a write in its middle."""


def test_write_that_breaks_leaves_the_old_artifact(materialize: Materialize, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against torn files: half of the new bytes must never stand under the artifact's name."""
    value = 1

    @dg.asset(code_version="1")
    def sales() -> pl.DataFrame:
        return frame_of(value)

    materialize([sales])
    value = 2

    def torn(frame: pl.DataFrame, file: Path, **_: Any) -> None:
        Path(file).write_bytes(b"PAR1 half a file")
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(pl.DataFrame, "write_parquet", torn)
        with pytest.raises(Interrupted):
            materialize([sales])
    assert pl.read_parquet(store.frame_path(("sales", None)))["n"].to_list() == [1]
    assert [path.name for path in store.root.iterdir()] == ["sales.parquet"]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from invpipe.atomic import atomic_replace
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with atomic_replace(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"x" * 2000)
"""


def test_a_full_disk_is_an_error_that_says_so(tmp_path: Path) -> None:
    """Guards against half a file, and a message that leaves the operator guessing; a limit on file sizes stands for the full disk."""
    target = tmp_path / "artifact"
    target.write_text("old")
    run = subprocess.run([sys.executable, "-c", FULL_DISK, str(target)], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "StorageError" in run.stderr
    assert re.search(r"artifact cannot be written: .*File too large.*GiB are free.*Make room", run.stderr)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]


KILLED_WRITERS = """
import os, signal, sys
from pathlib import Path
import dagster as dg, polars as pl
from invpipe.defs.io import FramesIOManager, ObjectsIOManager

class Notes:
    def save(self, path):
        path.mkdir()
        (path / "first").write_text("half")
        if deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        (path / "second").write_text("whole")

def write_half(self, file, **_):
    Path(file).write_bytes(b"PAR1 half")
    os.kill(os.getpid(), signal.SIGKILL)

def write(home, kind):
    @dg.asset(code_version="1", io_manager_key=kind)
    def thing():
        return Notes() if kind == "object" else pl.DataFrame({"n": [1]})
    if kind == "frame" and deadly:
        pl.DataFrame.write_parquet = write_half
    dg.materialize([thing], resources={"frame": FramesIOManager(home=home), "object": ObjectsIOManager(home=home)})

for case in sys.argv[1:]:
    home, kind, mode = case.split(":")
    deadly = mode == "killed"
    child = os.fork()
    if child == 0:
        write(home, kind)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_killed_writer_leaves_the_old_artifact_or_none(tmp_path: Path) -> None:
    """Guards the same against SIGKILL, where no clean-up of ours runs, and that what it leaves is not in the next write's way."""

    def outcome(*cases: str) -> list[int]:
        command = [sys.executable, "-W", "ignore", "-c", KILLED_WRITERS, *cases]
        run = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
        return [int(line) for line in run.stdout.split()]

    kinds, killed = ("frame", "object"), -signal.SIGKILL
    first = [f"{tmp_path / kind}:{kind}:{mode}" for kind in kinds for mode in ("killed", "well", "killed")]
    fresh = [f"{tmp_path / 'fresh'}:{kind}:killed" for kind in kinds]
    assert outcome(*first, *fresh) == [killed, 0, killed] * 2 + [killed] * 2
    assert ArtifactStore(tmp_path / "fresh" / "artifacts").record(("thing", None)) is None
    frames, objects = (ArtifactStore(tmp_path / kind / "artifacts") for kind in kinds)
    assert pl.read_parquet(frames.frame_path(("thing", None)))["n"].to_list() == [1]
    content = objects.directory_path(("thing", None)) / "content"
    assert sorted(path.name for path in content.iterdir()) == ["first", "second"]
    for store in (frames, objects):
        assert store.record(("thing", None)) is not None
        assert len(list(store.root.glob(".*.tmp"))) == 2


def test_leftovers_of_killed_writers_are_removed_once_old(tmp_path: Path) -> None:
    """Guards the disk against piling up halves, and a running neighbour against losing its temporary."""
    young, old = tmp_path / ".a.1.tmp", tmp_path / ".a.2.tmp"
    for leftover in (young, old):
        leftover.mkdir()
        (leftover / "half").touch()
    past = old.stat().st_mtime - LEFTOVER_SECONDS - 60
    os.utime(old, (past, past))
    with atomic_replace(tmp_path / "a") as temporary:
        temporary.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.1.tmp", "a"]


# --- objects


def test_objects_come_back_by_annotation(materialize: Materialize, store: ArtifactStore) -> None:
    """Guards directories, single files, partitions and `Path` inputs of the objects' manager."""

    @dg.asset(code_version="1", io_manager_key="objects")
    def tape() -> Notes:
        return Notes("tick")

    @dg.asset(code_version="1", io_manager_key="objects", partitions_def=FOLDS, backfill_policy=dg.BackfillPolicy.single_run())
    def model(context: dg.AssetExecutionContext, tape: Notes) -> dict[str, Line]:
        return {fold: Line(tape.text + fold) for fold in context.partition_keys}

    @dg.asset(code_version="1")
    def scores(model: dict[str, Line], tape: Path) -> pl.DataFrame:
        assert (tape / "length").read_text() == "4"
        return pl.DataFrame({"text": [line.text for line in model.values()]})

    materialize([tape])
    materialize([tape, model], selection=[model], first="00", last="03")
    result = materialize([tape, model, scores], selection=[scores])
    assert result.output_for_node("scores")["text"].to_list() == ["tick00", "tick01", "tick02", "tick03"]
    assert sorted(path.name for path in store.directory_path(("model", "02")).iterdir()) == ["content", "provenance.json"]
    upstream = store.record(("scores", None)).upstream  # type: ignore[union-attr]
    assert [(read.asset_key, read.partition) for read in upstream] == [*(("model", f"0{fold}") for fold in range(4)), ("tape", None)]


def test_object_is_replaced_whole(materialize: Materialize, store: ArtifactStore) -> None:
    """Guards against files of the previous object surviving inside the next one."""
    value: Notes = Notes("long")

    @dg.asset(code_version="1", io_manager_key="objects")
    def thing() -> Notes:
        return value

    materialize([thing])
    value = Line("flat")
    materialize([thing])
    assert (store.directory_path(("thing", None)) / "content").read_text() == "flat"
    assert [path.name for path in store.root.iterdir()] == ["thing"]


def test_objects_that_cannot_be_kept_or_opened_are_refused(materialize: Materialize) -> None:
    """Guards against artifacts nobody can read again."""

    class Silent:
        def save(self, path: Path) -> None:
            """Write nothing."""

    @dg.asset(code_version="1", io_manager_key="objects")
    def number() -> int:
        return 3

    @dg.asset(code_version="1", io_manager_key="objects")
    def silent() -> Silent:
        return Silent()

    @dg.asset(code_version="1", io_manager_key="objects")
    def tape() -> Notes:
        return Notes("tick")

    @dg.asset(code_version="1")
    def reader(tape):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, RUF100
        return pl.DataFrame()

    with pytest.raises(ProvenanceError, match=r"artifact number: int has no save\(path\); give it one, and a class method open\(path\)"):
        materialize([number])
    with pytest.raises(ProvenanceError, match=r"artifact silent: Silent\.save\(path\) wrote nothing to its path"):
        materialize([silent])
    with pytest.raises(ProvenanceError, match=r"input 'tape' gets tape, which .*Any cannot open; annotate it with the class"):
        materialize([tape, reader])
