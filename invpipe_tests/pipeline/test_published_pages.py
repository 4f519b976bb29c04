"""The pages of days, backtests and windows as the chain writes them: whole, alone, the same every time, and never in the way of a plan."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from invpipe.arena import SeedRuns
from invpipe.defs.partitions import VARIANTS
from invpipe.defs.provenance import stale_assets
from invpipe.defs.report import pages
from invpipe.defs.report.pages import FILE_NAME, PAGES
from invpipe.errors import ProvenanceError
from invpipe.settings import write_settings
from invpipe_tests.pipeline.conftest import WINDOW, Home

DAY = "2017-12-31"
#: Published pages and the artifacts they are.
ARTIFACTS = {
    DAY: ("day_report", DAY),
    "shop": ("report", None),
    f"{WINDOW.name}/comparison": ("window_report", WINDOW.name),
    **{f"{WINDOW.name}/{variant}": ("backtest_report", f"{variant}|{WINDOW.name}") for variant in VARIANTS},
}
SECRETS = {"INVPIPE_MARIADB__PASSWORD": "s3cr3t-word", "INVPIPE_ALERTS__WEBHOOK_URL": "https://hooks.example.com/s3cr3t"}


def page(home: Home, name: str) -> str:
    """A published page."""
    return (home.path / PAGES / f"{name}.html").read_text(encoding="utf-8")


def made(home: Home, instance: dg.DagsterInstance, job: str, partition: str, asset: str) -> dict[str, dg.MetadataValue]:
    """Make one asset of a job for a partition; what its event shows."""
    result = (
        home.definitions()
        .resolve_job_def(job)
        .execute_in_process(
            instance=instance, partition_key=partition, asset_selection=[dg.AssetKey(asset)], run_config={"loggers": {"progress": {}}}
        )
    )
    (event,) = result.get_asset_materialization_events()
    return dict(event.materialization.metadata)


def test_every_page_is_published_as_it_is_kept(demo: Home) -> None:
    """Prevents a page that is missing, or another one than the artifact whose origin is on record."""
    found = {path.relative_to(demo.path / PAGES).as_posix().removesuffix(".html") for path in (demo.path / PAGES).rglob("*.*")}
    assert found == set(ARTIFACTS)
    for name, artifact in ARTIFACTS.items():
        assert page(demo, name) == (demo.content(*artifact) / FILE_NAME).read_text(encoding="utf-8"), name


@pytest.mark.parametrize("name", [DAY, f"{WINDOW.name}/comparison", f"{WINDOW.name}/ewma_greedy"])
def test_page_needs_no_network(demo: Home, name: str) -> None:
    """Prevents a page that opens empty on another machine, tells a host that it was read, or runs a script."""
    html = page(demo, name)
    assert re.findall(r"""(?:src|href)\s*=\s*["']?(?!#|["']#)[^\s>]*""", html) == []
    assert not re.search(r"<(?:script|link|img|iframe|object)|url\((?!#)|@import|https?://(?!www\.w3\.org/)", html)
    assert str(demo.path) not in html
    assert "</strong> tables: vendors, offers" in html


def test_page_of_a_day_tells_the_day(demo: Home) -> None:
    """Prevents a page that leaves out what the morning is about, and one that shows the demand that no shop knows."""
    html, model = page(demo, DAY), demo.frame("serving_model", DAY)
    sections = ("shop", "orders", "changes", "model", "explanation", "quarantine", "notes")
    assert re.findall(r'<section id="(\w+)">', html) == list(sections)
    assert "Every line is as in the plan before, or there is no plan before." in html  # the demo plans one day
    for told in (f"<dd>{model['model'][0]}</dd>", model["model_hash"][0], demo.frame("order_plan", DAY)["sku"][0], "capital price"):
        assert told in html
    record = demo.store.record(("order_plan", DAY))
    assert record is not None
    assert record.content_hash in html
    assert "true demand" not in html


def test_page_of_a_backtest_proves_its_replays(demo: Home) -> None:
    """Prevents a page whose figures cannot be traced to seeds, parameters and fingerprints, or that are another policy's."""
    for variant in ("ewma_greedy", "forecast_marginal"):
        html = page(demo, f"{WINDOW.name}/{variant}")
        results = SeedRuns.open(demo.content("backtest", f"{variant}|{WINDOW.name}")).results
        assert len(results) == 2
        for result in results:
            assert f"{variant}, seed {result.seed}: {result.fingerprint()}" in html
        assert f"tape: {results[0].tape_fingerprint}" in html
        mean = sum(result.summary["profit"] for result in results) / 2
        assert f"{mean:,.1f}" in html or f"{mean:,.0f}" in html
        assert f"<dt>warm up days</dt><dd>{results[0].params.warm_up_days}</dd>" in html


def test_page_of_a_window_shows_every_variant(demo: Home) -> None:
    """Prevents a comparison that leaves out the curve or the figures of a policy."""
    html = page(demo, f"{WINDOW.name}/comparison")
    for variant in VARIANTS:
        assert f'<th scope="row">{variant}</th>' in html
        assert f"{variant}, seed 1: " in html
    assert "profit to date" in html


def test_page_of_a_window_is_of_one_set(demo: Home, copy_of: Callable[[Home], Home], instance: dg.DagsterInstance) -> None:
    """Prevents a table of old replays beside curves of new ones."""
    home = copy_of(demo)
    write_settings(home.path, backtest={"liquidation_frac": 0.4})
    with pytest.raises(ProvenanceError, match=f"the comparison of {WINDOW.name} is not of its newest backtests: .* run the job compare"):
        made(home, instance, "compare", WINDOW.name, "window_report")


def test_made_again_a_page_has_the_same_bytes_and_its_link(
    demo: Home, copy_of: Callable[[Home], Home], instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents pages that change without a reason, a secret on one, a link that leads nowhere, and a new address that makes all anew."""
    home = copy_of(demo)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    write_settings(home.path, report={"base_url": "https://dagster.example.com/reports/"})
    graph = home.definitions().resolve_all_asset_specs()
    told = [spec for spec in graph if spec.key.to_user_string() in {"day_report", "backtest_report", "window_report", "report"}]
    assert stale_assets(told, home.settings, {"day_report": [DAY]}) == {}
    for job, asset, partition in (
        ("explain", "day_report", DAY),
        ("backtests", "backtest_report", f"ewma_greedy|{WINDOW.name}"),
        ("compare", "window_report", WINDOW.name),
    ):
        name = next(name for name, artifact in ARTIFACTS.items() if artifact == (asset, partition))
        place = home.path / PAGES / f"{name}.html"
        place.unlink()
        shown = made(home, instance, job, partition, asset)
        assert shown["page"] == dg.MetadataValue.path(place.resolve())
        assert shown["link"] == dg.MetadataValue.url(f"https://dagster.example.com/reports/{name}.html")
        assert page(home, name) == page(demo, name)
        assert not [value for value in SECRETS.values() if value in page(home, name)]


def test_page_that_fails_leaves_the_plan(
    demo: Home, copy_of: Callable[[Home], Home], instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a picture that costs the shop its orders: all that a plan needs is made before anything is explained or drawn."""
    home = copy_of(demo)
    write_settings(home.path, planning={"method": "greedy"})  # is quick
    home.store.frame_path(("order_plan", DAY)).unlink()
    shutil.rmtree(home.store.directory_path(("day_report", DAY)))
    (home.path / PAGES / f"{DAY}.html").unlink()

    def broken(_: object) -> str:
        msg = "no font"
        raise RuntimeError(msg)

    monkeypatch.setattr(pages, "render_report", broken)
    result = (
        home.definitions()
        .resolve_job_def("plan")
        .execute_in_process(instance=instance, partition_key=DAY, raise_on_error=False, run_config={"loggers": {"progress": {}}})
    )
    assert not result.success
    started = [event.step_key for event in result.all_events if event.event_type == dg.DagsterEventType.STEP_START]
    assert started[-2:] == ["explain_forecast", "day_report"]
    assert "plan_orders" in started[:-2]
    assert [event.step_key for event in result.get_step_failure_events()] == ["day_report"]
    assert home.store.record(("order_plan", DAY)) is not None
    assert home.store.record(("day_report", DAY)) is None
    assert list((home.path / PAGES).glob(f"*{DAY}*")) == []


def test_page_in_the_way_is_replaced_whole(tmp_path: Path, demo: Home) -> None:
    """Prevents half a page after a kill: the new one takes the place of the old one in one step, and leaves nothing beside it."""
    settings = demo.settings.model_copy(update={"home": tmp_path})
    for html in ("<p>old</p>", "<p>new</p>"):
        assert set(pages.published(settings, "spring/ss", html)) == {"page"}  # no address is set
    assert [(path.name, path.read_text()) for path in (tmp_path / PAGES / "spring").iterdir()] == [("ss.html", "<p>new</p>")]
