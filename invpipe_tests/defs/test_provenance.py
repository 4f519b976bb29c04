"""Provenance: hashes of content, records in artifacts, damage found on reading, and what counts as current."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invpipe.defs import provenance
from invpipe.defs.provenance import (
    PARQUET_KEY,
    ArtifactStore,
    ProvenanceRecord,
    code_version_of,
    depends_on,
    directory_hash,
    frame_hash,
    stale_assets,
)
from invpipe.errors import ProvenanceError, SettingsError
from invpipe.settings import Settings, write_settings

Materialize = Callable[..., dg.ExecuteInProcessResult]

FOLDS = dg.StaticPartitionsDefinition(["0", "1", "2"])
FRAME = pl.DataFrame(
    {
        "sku": ["a", "", None],
        "frac": [0.5, float("nan"), None],
        "day": [date(2017, 1, 1), None, date(2017, 1, 2)],
        "at": [datetime(2017, 1, 1, 12), None, None],  # noqa: DTZ001, RUF100 - shop time has no zone
        "orderable": [True, None, False],
        "units": [[1, 2], [], None],
        "span": [{"first": 1, "last": "x"}, None, {"first": None, "last": ""}],
        "none": [None, None, None],
    }
).with_columns(pl.col("sku").cast(pl.Categorical).alias("genre"), pl.col("frac").cast(pl.Decimal(9, 2), strict=False).alias("price"))


class Notes:
    """An object of one file."""

    def __init__(self, text: str) -> None:
        self.text = text

    def save(self, path: Path) -> None:
        path.write_text(self.text)

    @classmethod
    def open(cls, path: Path) -> "Notes":
        return cls(path.read_text())


# --- hashes


def test_frame_hash_keeps_its_value() -> None:
    """Prevents a change of the hash that makes every artifact on every disk look damaged; change `format_version` with it."""
    frame = pl.DataFrame({"sku": ["a", None], "sales_units": [1, 2], "revenue": [1.5, None]})
    assert frame_hash(frame) == "dd78a9d06bd767d10f6ea9878bbdb81f9f5783de43130c352291a60ed59a0617"


@pytest.mark.parametrize(
    "same",
    [
        pytest.param(lambda frame: pl.concat([frame[:1], frame[1:]], rechunk=False), id="chunks"),
        pytest.param(lambda frame: pl.concat([frame, frame, frame])[3:6], id="slice"),
        pytest.param(lambda frame: frame.clone().select(reversed(frame.columns)).select(frame.columns), id="columns moved and back"),
        pytest.param(
            lambda frame: frame.with_columns(pl.when(pl.col("frac").is_null()).then(None).otherwise(pl.col("frac")).alias("frac")),
            id="null",
        ),
        pytest.param(lambda frame: frame.filter(pl.lit(value=True)), id="filter"),
        pytest.param(lambda frame: frame.with_columns(pl.col("genre").cast(pl.String).cast(pl.Categorical)), id="categorical"),
        pytest.param(lambda frame: frame.lazy().collect(engine="streaming"), id="streaming"),
    ],
)
def test_frame_hash_is_the_same_for_equal_frames(same: Callable[[pl.DataFrame], pl.DataFrame], tmp_path: Path) -> None:
    """Prevents artifacts that look changed because they were built, or came from disk, another way."""
    other = same(FRAME)
    assert frame_hash(other) == frame_hash(FRAME)
    other.write_parquet(tmp_path / "frame")
    assert frame_hash(pl.read_parquet(tmp_path / "frame")) == frame_hash(FRAME)


def test_what_lies_under_a_null_and_the_sign_of_zero_do_not_count() -> None:
    """Prevents hashes of bytes that no comparison of values can see."""
    under_one, under_nine = (pl.DataFrame({"n": [number, 2]}).select(pl.when(pl.col("n") == 2).then("n")) for number in (1, 9))
    assert frame_hash(under_one) == frame_hash(under_nine)
    assert frame_hash(pl.DataFrame({"n": [0.0]})) == frame_hash(pl.DataFrame({"n": [-0.0]}))


@pytest.mark.parametrize(
    "other",
    [
        pl.DataFrame({"n": [1, 2, 4], "s": ["ab", "c", None]}),
        pl.DataFrame({"n": [1, 3, 2], "s": ["ab", "c", None]}),
        pl.DataFrame({"n": [1, 2, None], "s": ["ab", "c", None]}),
        pl.DataFrame({"n": [1, 2, 3], "s": ["a", "bc", None]}),
        pl.DataFrame({"n": [1, 2, 3], "s": ["ab", "c", ""]}),
        pl.DataFrame({"n": [1, 2, 3], "s": ["ab", "c", None]}).cast({"n": pl.Int32}),
        pl.DataFrame({"m": [1, 2, 3], "s": ["ab", "c", None]}),
        pl.DataFrame({"s": ["ab", "c", None], "n": [1, 2, 3]}),
        pl.DataFrame({"n": [1, 2], "s": ["ab", "c"]}),
        pl.DataFrame({"n": [1, 2, 3], "s": ["ab", "c", None]}).clear(),
    ],
)
def test_frame_hash_sees_every_difference(other: pl.DataFrame) -> None:
    """Prevents a changed value, null, order, type or name from passing for the old artifact."""
    assert frame_hash(other) != frame_hash(pl.DataFrame({"n": [1, 2, 3], "s": ["ab", "c", None]}))


@pytest.mark.parametrize(
    ("left", "right"), [([[1], [2]], [[1, 2], []]), ([[1], None], [[1], []]), ([[None]], [[]]), ([["a", "b"]], [["ab", ""]])]
)
def test_frame_hash_sees_where_lists_end(left: list[Any], right: list[Any]) -> None:
    """Prevents lists from being hashed as their flattened values only."""
    schema = {"l": pl.List(pl.String if isinstance(left[0][0], str) else pl.Int64)}
    assert frame_hash(pl.DataFrame({"l": left}, schema=schema)) != frame_hash(pl.DataFrame({"l": right}, schema=schema))


@given(st.lists(st.tuples(st.none() | st.integers(-9, 9), st.none() | st.text(max_size=3)), max_size=12), st.integers(0, 12))
def test_frame_hash_of_pieces_is_that_of_the_whole(rows: list[tuple[int | None, str | None]], cut: int) -> None:
    """Prevents a lazy input, hashed piece by piece from its file, from looking damaged."""
    frame = pl.DataFrame(rows, schema={"n": pl.Int64, "s": pl.String}, orient="row")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "HASH_ROWS", 4)
        whole = frame_hash(pl.concat([frame[:cut], frame[cut:]], rechunk=False))
        assert frame_hash(frame.slice(start, 4) for start in range(0, max(frame.height, 1), 4)) == whole


def test_column_without_canonical_bytes_is_refused() -> None:
    """Prevents a hash over addresses in memory, which differs from run to run."""
    with pytest.raises(ProvenanceError, match="column 'o' has type Object, which has no canonical bytes to hash; cast it"):
        frame_hash(pl.DataFrame({"o": [object()]}))


def test_directory_hash_sees_names_and_bytes_but_not_the_record(tmp_path: Path) -> None:
    """Prevents a renamed, moved or changed file from passing, and a record from changing the hash it holds."""

    def hash_of(**files: str) -> str:
        shutil.rmtree(tmp_path / "d", ignore_errors=True)
        for name, text in files.items():
            file = tmp_path / "d" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return directory_hash(tmp_path / "d")

    plain = hash_of(**{"a": "1", "b/c": "2"})
    assert plain == hash_of(**{"b/c": "2", "a": "1", "provenance.json": "{}"})
    others = [hash_of(a="1"), hash_of(**{"a": "2", "b/c": "1"}), hash_of(**{"a": "1", "c": "2"}), hash_of(**{"a": "12", "b/c": ""})]
    assert plain not in others


# --- records


def test_record_names_the_partition_that_was_read(materialize: Materialize, store: ArtifactStore) -> None:
    """Prevents Dagster's mistake: the latest event of an upstream asset recorded, whichever partition was read."""

    @dg.asset(code_version="1", partitions_def=FOLDS, metadata=depends_on("folds"))
    def grid(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return pl.DataFrame({"fold": [context.partition_key]})

    @dg.asset(code_version="7", partitions_def=FOLDS, metadata=depends_on())
    def scores(grid: pl.DataFrame) -> pl.DataFrame:
        return grid

    for fold in ("0", "1"):
        materialize([grid], partition_key=fold)
    result = materialize([grid, scores], selection=[scores], partition_key="0")
    record = store.record(("scores", "0"))
    assert record is not None
    assert [(read.asset_key, read.partition, read.content_hash) for read in record.upstream] == [
        ("grid", "0", frame_hash(pl.DataFrame({"fold": ["0"]})))
    ]
    assert (record.code_version, record.settings_hash, record.content_hash) == ("7", "none", record.upstream[0].content_hash)
    assert store.record(("grid", "0")).settings_hash == Settings().settings_hash("folds")  # type: ignore[union-attr]
    (event,) = result.asset_materializations_for_node("scores")
    assert ProvenanceRecord.model_validate(event.metadata["provenance"].value) == record
    assert event.tags is not None
    assert event.tags["dagster/data_version"] == record.content_hash


def test_equal_runs_have_equal_fingerprints(materialize: Materialize, store: ArtifactStore) -> None:
    """Prevents the time of day from making two equal runs differ."""

    @dg.asset(code_version="1")
    def sales() -> pl.DataFrame:
        return FRAME

    records = []
    for _ in range(2):
        materialize([sales])
        records.append(store.record(("sales", None)))
    first, second = records
    assert first is not None
    assert second is not None
    assert first.created_at < second.created_at <= datetime.now(UTC)
    assert first.fingerprint() == second.fingerprint() != first.model_copy(update={"seed": 1}).fingerprint()


def test_dependency_that_was_not_read_is_refused(materialize: Materialize) -> None:
    """Prevents a record with a gap: Dagster lets a step succeed although a dependency never was materialised."""

    @dg.asset(code_version="1")
    def sales() -> pl.DataFrame:
        return FRAME

    @dg.asset(code_version="1", deps=[sales])
    def total() -> pl.DataFrame:
        return FRAME

    with pytest.raises(ProvenanceError, match="asset total depends on sales, but its step read no artifact of it; take it as an argument"):
        materialize([sales, total])


def test_external_dependency_needs_no_artifact(materialize: Materialize) -> None:
    """Prevents an external table, which invpipe does not make, from stopping the assets that extract it."""

    @dg.asset(code_version="1", deps=[dg.AssetSpec("shop_database")])
    def raw_sales() -> pl.DataFrame:
        return FRAME

    assert materialize([raw_sales]).success


def test_asset_without_code_version_is_refused(materialize: Materialize) -> None:
    """Prevents artifacts that survive every change of the code that made them."""

    @dg.asset
    def sales() -> pl.DataFrame:
        return FRAME

    with pytest.raises(ProvenanceError, match=r"asset sales declares no code_version; give it code_version=code_version_of"):
        materialize([sales])


def test_checks_read_checked_artifacts(materialize: Materialize, store: ArtifactStore) -> None:
    """Prevents an asset check from passing on a file that was changed after it was written."""

    @dg.asset(code_version="1", partitions_def=FOLDS)
    def grid() -> pl.DataFrame:
        return pl.DataFrame({"n": [1]})

    @dg.asset_check(asset=grid, blocking=True, partitions_def=FOLDS)
    def positive(grid: pl.DataFrame) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=bool((grid["n"] > 0).all()))

    @dg.asset(code_version="1", partitions_def=FOLDS)
    def scores(grid: pl.DataFrame) -> pl.DataFrame:
        return grid

    result = materialize([grid, positive, scores], partition_key="1")
    assert [evaluation.passed for evaluation in result.get_asset_check_evaluations()] == [True]
    rewritten(store.frame_path(("grid", "1")), pl.DataFrame({"n": [2]}))
    selection = dg.AssetSelection.checks(positive) | dg.AssetSelection.assets(scores)
    with pytest.raises(ProvenanceError, match=r"artifact grid\[1\]: the content of .* has hash"):
        materialize([grid, positive, scores], selection=selection, partition_key="1")


def test_outputs_of_one_step_have_their_own_records(materialize: Materialize, store: ArtifactStore) -> None:
    """Prevents the outputs of a multi-asset from sharing a record, or one from standing in for what another has read."""

    @dg.asset(code_version="1")
    def raw() -> pl.DataFrame:
        return pl.DataFrame({"n": [1, -1]})

    @dg.multi_asset(
        outs={
            "good": dg.AssetOut(code_version="1", metadata=depends_on("quarantine_threshold_frac")),
            "quarantine": dg.AssetOut(code_version="2", metadata=depends_on()),
        }
    )
    def validate(raw: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        return raw.filter(pl.col("n") > 0), raw.filter(pl.col("n") < 0)

    materialize([raw, validate])
    good, quarantine = store.record(("good", None)), store.record(("quarantine", None))
    assert good is not None
    assert quarantine is not None
    assert [read.asset_key for read in good.upstream] == [read.asset_key for read in quarantine.upstream] == ["raw"]
    assert (good.code_version, quarantine.code_version) == ("1", "2")
    assert (good.settings_hash, quarantine.settings_hash) == (Settings().settings_hash("quarantine_threshold_frac"), "none")


# --- damage


def rewritten(path: Path, frame: pl.DataFrame) -> None:
    """Write another frame under the record of the old one."""
    frame.write_parquet(path, metadata=pl.read_parquet_metadata(path))


def flipped(path: Path) -> None:
    """Change the first data page."""
    content = bytearray(path.read_bytes())
    for position in range(20, 60):
        content[position] ^= 0xFF
    path.write_bytes(content)


def record_changed(path: Path) -> None:
    """Give the frame a record that is none."""
    pl.read_parquet(path).write_parquet(path, metadata={PARQUET_KEY: json.dumps({"format_version": 1})})


@pytest.mark.parametrize("kind", [pl.DataFrame, pl.LazyFrame])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda path: rewritten(path, pl.DataFrame({"n": [1, 2, 4]})),
            r"content of .*sales\.parquet has hash .*its provenance record says",
        ),
        (flipped, r"artifact sales: .*sales\.parquet.*damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), r"artifact sales: .*sales\.parquet cannot be read, it is damaged"),
        (lambda path: path.write_bytes(b""), r"artifact sales: .*sales\.parquet cannot be read, it is damaged"),
        (
            lambda path: pl.DataFrame({"n": [1, 2, 3]}).write_parquet(path),
            r"artifact sales: .* has no provenance record: invpipe did not write it",
        ),
        (record_changed, r"artifact sales: .* has a provenance record that cannot be read: Field required"),
        (
            lambda path: shutil.copy(path.with_name("other.parquet"), path),
            r"artifact sales: .*sales\.parquet is the artifact other, put there by hand",
        ),
        (lambda path: path.unlink(), r"input 'sales' needs the artifact sales, which is not there"),
    ],
)
def test_damaged_or_foreign_frame_is_refused_with_its_cure(
    materialize: Materialize, store: ArtifactStore, kind: Any, damage: Callable[[Path], object], message: str
) -> None:
    """Prevents a forecast from data that nobody made, or that a disk or a hand has changed since."""

    @dg.asset(code_version="1")
    def sales() -> pl.DataFrame:
        return pl.DataFrame({"n": [1, 2, 3]})

    @dg.asset(code_version="1")
    def other() -> pl.DataFrame:
        return pl.DataFrame({"n": [1, 2, 3]})

    def body(sales: Any) -> pl.DataFrame:
        return sales if isinstance(sales, pl.DataFrame) else sales.collect()

    body.__annotations__ = {"sales": kind, "return": pl.DataFrame}
    total = dg.asset(body, name="total", code_version="1")  # type: ignore[call-overload]
    materialize([sales, other])
    damage(store.frame_path(("sales", None)))
    with pytest.raises(ProvenanceError, match=rf"{message}.*materialise it again \(dagster asset materialize .*--select sales"):
        materialize([sales, total], selection=[total])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "content").write_text("changed"), "content of .*tape has hash .*its provenance record says"),
        (lambda path: (path / "content").rename(path / "other"), "content of .*tape has hash"),
        (lambda path: (path / "more").touch(), "content of .*tape has hash"),
        (lambda path: (path / "provenance.json").unlink(), r"artifact tape: .*provenance\.json cannot be read"),
        (lambda path: (path / "provenance.json").write_text("{"), "artifact tape: .* has a provenance record that cannot be read"),
        (lambda path: shutil.rmtree(path), "input 'tape' needs the artifact tape, which is not there"),
    ],
)
def test_damaged_object_is_refused_with_its_cure(
    materialize: Materialize, store: ArtifactStore, damage: Callable[[Path], object], message: str
) -> None:
    """Prevents a backtest on a tape that is not the one its record describes."""

    @dg.asset(code_version="1", io_manager_key="objects")
    def tape() -> Notes:
        return Notes("tick")

    @dg.asset(code_version="1")
    def backtest(tape: Notes) -> pl.DataFrame:
        return pl.DataFrame({"text": [tape.text]})

    materialize([tape])
    damage(store.directory_path(("tape", None)))
    with pytest.raises(ProvenanceError, match=f"{message}.*--select tape"):
        materialize([tape, backtest], selection=[backtest])


# --- what is current


class Chain:
    """A small chain of three assets (raw -> fold scores -> report) whose code and data a test may change."""

    def __init__(self, materialize: Materialize, home: Path) -> None:
        self.run, self.home = materialize, home
        self.rows, self.version, self.with_extra = 3, "1", False

    def assets(self) -> list[dg.AssetsDefinition]:
        @dg.asset(code_version="1", metadata=depends_on("embedded"))
        def raw() -> pl.DataFrame:
            return pl.DataFrame({"n": range(self.rows)})

        @dg.asset(code_version="1", metadata=depends_on())
        def extra() -> pl.DataFrame:
            return FRAME

        @dg.asset(code_version=self.version, partitions_def=FOLDS, metadata=depends_on("folds", "seed"))
        def scores(context: dg.AssetExecutionContext, raw: pl.DataFrame) -> pl.DataFrame:
            return raw.select(pl.col("n") % 2 + int(context.partition_key)).head(2)

        if self.with_extra:

            @dg.asset(code_version="1", metadata=depends_on())
            def report(scores: dict[str, pl.DataFrame], extra: pl.DataFrame) -> pl.DataFrame:
                return pl.concat(scores.values())
        else:

            @dg.asset(code_version="1", metadata=depends_on())
            def report(scores: dict[str, pl.DataFrame]) -> pl.DataFrame:
                return pl.concat(scores.values())

        return [raw, extra, scores, report]

    def make(self, *names: str, fold: str | None = None) -> None:
        chosen = [asset for asset in self.assets() if asset.key.to_user_string() in names]
        self.run(self.assets(), selection=chosen, partition_key=fold)

    def make_all(self) -> None:
        self.make("raw", "extra")
        for fold in FOLDS.get_partition_keys():
            self.make("scores", fold=fold)
        self.make("report")

    def stale(self, **partitions: list[str]) -> dict[tuple[str, str | None], str]:
        specs = [spec for asset in self.assets() for spec in asset.specs]
        return stale_assets(specs, Settings.load(self.home), partitions)


@pytest.fixture
def chain(materialize: Materialize, tmp_path: Path) -> Chain:
    return Chain(materialize, tmp_path)


def test_everything_is_stale_before_and_nothing_after(chain: Chain) -> None:
    """Prevents a second run that does everything again, and a first one that skips something."""
    stale = chain.stale()
    assert list(stale) == [("extra", None), ("raw", None), ("scores", "0"), ("scores", "1"), ("scores", "2"), ("report", None)]
    assert set(stale.values()) == {"never materialised"}
    assert list(chain.stale(scores=["1"])) == [("extra", None), ("raw", None), ("scores", "1"), ("report", None)]
    chain.make_all()
    assert chain.stale() == {}


def test_changed_setting_makes_stale_what_depends_on_it(chain: Chain) -> None:
    """Prevents results of other settings from being shown, and everything from being made again for one of them."""
    chain.make_all()
    write_settings(chain.home, planning={"review_period_days": 14}, threads=1)
    assert chain.stale() == {}
    write_settings(chain.home, folds={"n_folds": 3})
    stale = chain.stale()
    assert list(stale) == [("scores", "0"), ("scores", "1"), ("scores", "2"), ("report", None)]
    assert stale["scores", "0"].startswith("a setting it depends on changed (")
    assert stale["report", None].startswith("its upstream scores[0] is stale: a setting it depends on changed")


def test_changed_code_makes_stale_from_there_on(chain: Chain) -> None:
    """Prevents artifacts that survive the code that made them."""
    chain.make_all()
    chain.version = "2"
    stale = chain.stale()
    assert ("raw", None) not in stale
    assert stale["scores", "2"] == "its code changed (1 -> 2)"
    assert ("report", None) in stale


def test_upstream_made_again_with_the_same_content_changes_nothing(chain: Chain) -> None:
    """Prevents work for nothing: what counts is content, not the time of the last run."""
    chain.make_all()
    chain.make("raw")
    assert chain.stale() == {}
    chain.rows = 4
    chain.make("raw")
    assert chain.stale()["scores", "1"].startswith("its upstream raw changed (")
    for fold in FOLDS.get_partition_keys():
        chain.make("scores", fold=fold)
    assert chain.stale() == {}  # the first two rows, which the scores keep, are the same


def test_missing_damaged_and_new_upstream_make_stale(chain: Chain) -> None:
    """Prevents a report that does not cover what it should from passing for current."""
    chain.make_all()
    store = ArtifactStore.of(Settings(home=chain.home))
    store.frame_path(("scores", "1")).unlink()
    stale = chain.stale()
    assert stale == {("scores", "1"): "never materialised", ("report", None): "its upstream scores[1] is gone"}
    chain.make("scores", fold="1")
    store.frame_path(("raw", None)).write_bytes(b"")
    assert "cannot be read, it is damaged" in chain.stale()["raw", None]
    chain.make("raw")
    chain.with_extra = True
    assert chain.stale() == {("report", None): "it was made without extra, which it depends on now"}


# --- declarations


def test_declarations_are_checked_where_they_are_written() -> None:
    """Prevents an asset that depends on a setting nobody has, and a code version of a room nobody has."""
    assert depends_on("embedded", "seed") == {"invpipe/settings": "embedded seed"}
    with pytest.raises(SettingsError, match="'embeded' is no setting an artifact can depend on; allowed: backtest, embedded"):
        depends_on("embeded")
    with pytest.raises(ProvenanceError, match="'forecasts' is no room; rooms are errors, atomic, settings, .*report"):
        code_version_of("forecasts")


def test_code_version_counts_what_a_room_may_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents re-use after a change in a room to the left, and new work after one to the right."""
    package = tmp_path / "invpipe"
    for name in ("grid/cells.py", "features/kernel.py", "forecast/model.py", "errors.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("")
    asset_file = tmp_path / "assets.py"
    asset_file.write_text("")
    monkeypatch.setattr(provenance.invpipe, "__file__", str(package / "__init__.py"))
    versions = {code_version_of("features", asset_file)}
    (package / "forecast/model.py").write_text("right")
    versions.add(code_version_of("features", asset_file))
    assert len(versions) == 1
    for file in (package / "grid/cells.py", package / "errors.py", package / "features/kernel.py", asset_file):
        file.write_text("changed")
        versions.add(code_version_of("features", asset_file))
    assert len(versions) == 5
