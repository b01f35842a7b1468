"""A probe of one's own: captured as an object, known by name once registered, checked in what it says and returns."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import sys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

import resdyn
from own_probe import GAIN, Gain
from resdyn.errors import ComputationError, InputError, StoreError
from resdyn.phenomena import find_phenomenon, known_names, phenomena, phenomena_in, registry
from resdyn.phenomena.phenomenon import PARTS
from resdyn.probes import register_probe, registered_probes, resolve_probes, traits
from resdyn.probes.check import layout_of, measured
from resdyn.probes.registry import in_order

DEPTH, CLASSES = 3, 4


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return resdyn.nets.ResidualMLP(in_features=5, width=6, depth=DEPTH, classes=CLASSES).eval()


@pytest.fixture(scope="module")
def stream(net):
    return resdyn.find_stream(net, torch.randn(2, 5))


@pytest.fixture(scope="module")
def data():
    return torch.randn(12, 5, generator=torch.Generator().manual_seed(1)), torch.arange(12) % CLASSES


@pytest.fixture(autouse=True)
def unregistered(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})


streams: dict[int, tuple] = {}  # of nets that live as long as the module, found once


def captured(net, data, probes, path, **options):
    """A capture on the net's stream, which is found at the first one; the stream itself is what other tests are of."""
    if id(net) not in streams:
        streams[id(net)] = net, resdyn.find_stream(net, (data if isinstance(data, torch.Tensor) else data[0])[:2])
    stream = streams[id(net)][1]
    return resdyn.capture(net, data, probes, path, samples=3, show_progress=False, stream=stream, **options)


def write_twice(runs, path):
    for ds in runs:
        resdyn.write_report(ds, path)


def probe_of(name="mine", /, layout=None, found=None, **traits):
    """A probe that declares and returns what a test says."""
    declared = {"x": ((), (), "float64")} if layout is None else layout
    returned = {"x": 1.0} if found is None else found

    @dataclass(frozen=True)
    class Mine:
        def layout(self, stream, num_classes):
            return declared

        def measure(self, *arguments):
            return returned

    Mine.name = name
    for trait, value in traits.items():
        setattr(Mine, trait, value)
    return Mine()


class TestAnObject:
    def test_is_measured_without_being_registered(self, net, data, tmp_path):
        ds = captured(net, data, [Gain(), "trajectory"], tmp_path / "s")
        states = ds["states"].values.astype(float)
        norms = np.linalg.norm(states, axis=-1)
        np.testing.assert_allclose(ds["gain"], norms[:, 1:] / norms[:, :-1], rtol=1e-5)
        assert ds["gain"].dims == ("sample", "block")
        assert ds["gain"].attrs["probe"] == "gain"
        assert ds.attrs["probes"]["gain"]["power"] == 1

    def test_is_said_to_have_no_section_where_it_is_not_registered(self, net, data, tmp_path):
        page = resdyn.report.render_page(captured(net, data, [Gain()], tmp_path / "s"))
        assert "The arrays of the probe &#39;gain&#39; are stored" in page

    def test_travels_to_workers(self, net, data, tmp_path):
        pytest.importorskip("distributed")
        here = captured(net, data, [Gain()], tmp_path / "here")
        there = captured(net, data, [Gain()], tmp_path / "there", workers=1)
        np.testing.assert_array_equal(here["gain"], there["gain"])

    def test_may_use_jacobians_and_triplets(self, net, data, tmp_path):
        @dataclass(frozen=True)
        class Top:
            name: ClassVar[str] = "top"

            def layout(self, stream, num_classes):
                return {"top": (("block",), (len(stream),), "float32")}

            def measure(self, sample, num_classes):
                return {"top": [float(t.S[0]) for t in sample.triplets]}

        alone = captured(net, data, [Top()], tmp_path / "alone")
        Top.requires = ("singular",)
        both = captured(net, data, [Top()], tmp_path / "both")
        np.testing.assert_allclose(alone["top"], both["singular_values"].isel(rank=0), rtol=1e-6)

    def test_may_pass_over_the_data(self, net, data, tmp_path):
        @dataclass(frozen=True)
        class Count:
            name: ClassVar[str] = "count"
            per_sample: ClassVar[bool] = False
            batch_size: ClassVar[int] = 5

            def layout(self, stream, num_classes):
                return {"seen": (("class",), (num_classes,), "int64"), "batches": ((), (), "int64")}

            def measure(self, stream, batches, num_classes, tick):
                labels = [y for _, y in batches()]
                tick(len(labels))
                return {"seen": torch.bincount(torch.cat(labels), minlength=num_classes), "batches": len(labels)}

        ds = captured(net, data, [Count()], tmp_path / "s")
        assert ds["seen"].values.tolist() == [3] * CLASSES
        assert int(ds["batches"]) == 3

    def test_whose_code_has_changed_does_not_resume_a_store(self, net, data, tmp_path):
        captured(net, data, [Gain()], tmp_path / "s")
        captured(net, data, [Gain()], tmp_path / "s")

        @dataclass(frozen=True)
        class Other(Gain):
            def measure(self, sample, num_classes):
                return {"gain": np.zeros(DEPTH)}

        with pytest.raises(StoreError, match=r"probes\.gain\.code"):
            captured(net, data, [Other()], tmp_path / "s")


class TestWhatAProbeSaysIsChecked:
    @pytest.mark.parametrize(
        ("layout", "words"),
        [
            ({}, "mine: layout returned {}"),
            ([1], r"mine: layout returned \[1\]"),
            ({"a b": ((), (), "float64")}, "got a variable 'a b'"),
            ({"_done": ((), (), "float64")}, "got a variable '_done'"),
            ({"label": ((), (), "int64")}, "not a coordinate"),
            ({"x": ((), "float64")}, r"mine: 'x': layout says .*expected \(dims, shape, dtype\)"),
            ({"x": ("block", (DEPTH,), "float64")}, "dims='block'"),
            ({"x": (("sample",), (3,), "float64")}, "without 'sample'"),
            ({"x": (("a", "a"), (3, 3), "float64")}, "different names"),
            ({"x": (("a",), (0,), "float64")}, "positive sizes"),
            ({"x": (("a",), (2, 3), "float64")}, "1 positive sizes"),
            ({"x": (("block",), (DEPTH + 1,), "float64")}, f"got {DEPTH + 1} along 'block', expected {DEPTH}"),
            ({"x": (("class_j",), (CLASSES + 1,), "float64")}, "along 'class_j'"),
            ({"x": ((), (), "complex64")}, "dtype='complex64'"),
            ({"x": ((), (), "nonsense")}, "dtype='nonsense'"),
            ({"x": ((), (), "uint8")}, "dtype='uint8'"),
            ({"states": ((), (), "float64")}, "trajectory and mine both write 'states'"),
        ],
    )
    def test_a_layout_that_cannot_be_stored(self, net, data, tmp_path, layout, words):
        with pytest.raises(InputError, match=words) as raised:
            captured(net, data, ["trajectory", probe_of(layout=layout)], tmp_path / "s")
        assert "\n" not in str(raised.value)
        assert not (tmp_path / "s").exists()

    @pytest.mark.parametrize(
        ("found", "words"),
        [
            ([1.0], "mine, sample .*: measure returned list"),
            ({}, "without x"),
            ({"x": [1.0, 2.0], "y": 1}, "with y besides"),
            ({"x": [1.0]}, r"'x': got shape \(1,\), expected \(2,\) \(a=2\)"),
            ({"x": [1j, 0]}, "dtype complex128"),
            ({"x": ["a", "b"]}, "dtype <U1"),
            ({"x": [1e300, 0]}, "holds 1e\\+300, which float32 cannot"),
        ],
    )
    def test_arrays_that_are_not_those_of_the_layout(self, net, data, tmp_path, found, words):
        mine = probe_of(layout={"x": (("a",), (2,), "float32")}, found=found)
        with pytest.raises(ComputationError, match=words) as raised:
            captured(net, data, [mine], tmp_path / "s")
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize(("value", "dtype"), [(1, "float64"), (torch.tensor(2.0), "float32"), (True, "int64")])
    def test_numbers_of_a_narrower_kind_are_taken(self, value, dtype):
        layout = {"x": ((), (), dtype)}
        (array,) = measured(probe_of(), {"x": value}, layout).values()
        assert array.dtype == dtype
        assert array == float(value)

    @pytest.mark.parametrize(("value", "dtype"), [(1.5, "int64"), (300, "int8"), (2, "bool"), (np.nan, "int32")])
    def test_numbers_that_would_change_are_not(self, value, dtype):
        with pytest.raises(ComputationError, match="x"):
            measured(probe_of(), {"x": value}, {"x": ((), (), dtype)})

    @pytest.mark.parametrize("through", [lambda p: p.detach(), lambda p: p.data])
    def test_one_that_changes_the_model_is_refused(self, net, data, tmp_path, through):
        mine, kept = probe_of(), copy.deepcopy(net.state_dict())

        def measure(self, sample, num_classes):
            through(next(sample.stream.model.parameters())).mul_(2)
            return {"x": 1.0}

        type(mine).measure = measure
        try:
            with pytest.raises(ComputationError, match="probe 'mine' changed weights"):
                captured(net, data, [mine, "trajectory"], tmp_path / "s")
        finally:
            net.load_state_dict(kept)

    def test_what_it_raises_says_whose_it_is(self, net, data, tmp_path):
        mine = probe_of()
        type(mine).measure = lambda self, sample, num_classes: 1 / 0
        with pytest.raises(ZeroDivisionError) as raised:
            captured(net, data, [mine], tmp_path / "s")
        assert "probe 'mine' at sample" in raised.value.__notes__[0]

    @pytest.mark.parametrize(
        ("probe", "words"),
        [
            (Gain, r"got the class Gain as a probe, expected an object: Gain\(\)"),
            (probe_of("trajectory"), "belongs to another probe"),
            (probe_of("no name"), "expected an identifier"),
            (probe_of(requires="singular"), "requires='singular', expected a tuple"),
            (probe_of(light=1), "light=1, expected True or False"),
            (probe_of(requires=("nothing",)), "unknown probe 'nothing'"),
            (object(), "expected a name or an object"),
            (dataclasses.make_dataclass("Loose", [], namespace={"name": "a", "layout": 1, "measure": 1})(), "frozen"),
        ],
    )
    def test_an_object_that_is_not_a_probe(self, probe, words):
        with pytest.raises(InputError, match=words):
            resolve_probes([probe])

    def test_settings_that_json_cannot_hold(self, net, data, tmp_path):
        @dataclass(frozen=True)
        class Odd(Gain):
            odd: object = object

        with pytest.raises(InputError, match="gain: got settings that cannot be recorded"):
            captured(net, data, [Odd()], tmp_path / "s")

    @pytest.mark.parametrize(
        ("said", "words"), [({"x": {"kind": "sideways"}}, "kind='sideways'"), ({"x": {"a": [1]}}, "expected text")]
    )
    def test_attributes_that_make_no_sense(self, net, data, tmp_path, said, words):
        mine = probe_of()
        type(mine).attributes = lambda self, kind: said
        with pytest.raises(InputError, match=words):
            captured(net, data, [mine], tmp_path / "s")

    def test_traits_are_obeyed(self, net, data, tmp_path):
        with pytest.raises(InputError, match="mine probe needs labels"):
            captured(net, data[0], [probe_of(needs_labels=True)], tmp_path / "s")
        with pytest.raises(InputError, match="mine: measured for the whole state only"):
            captured(net, data, [probe_of(whole_state_only=True)], tmp_path / "s", position=0)
        half = copy.deepcopy(net).bfloat16()
        with pytest.raises(InputError, match="single precision"):
            captured(half, (data[0].bfloat16(), data[1]), [probe_of(needs_single_precision=True)], tmp_path / "s")

    def test_built_in_probes_return_what_they_declare(self, stream, net, data, tmp_path):
        # the capture checks every array; here only that each probe has a name for each of them
        for name, kind in registered_probes().items():
            for probe in resolve_probes(name):
                fitted = resdyn.probes.fit_probes(resolve_probes(probe.name), stream)[-1]
                said = fitted.attributes("gated")
                assert set(layout_of(fitted, stream, CLASSES)) <= set(said), name
                assert all(texts["long_name"] and texts["units"] for texts in said.values())
            assert kind.name == name


class TestOrder:
    def test_does_not_depend_on_how_probes_were_given_or_registered(self):
        probes = {
            p.name: p for p in (probe_of("b"), probe_of("a", requires=("b",)), *resolve_probes("features,coupling"))
        }
        expected = ["singular", "coupling", "features", "b", "a"]
        assert in_order(probes) == in_order(dict(reversed(probes.items()))) == expected

    def test_of_the_probes_of_resdyn_is_the_one_that_stores_were_written_in(self):
        expected = ["trajectory", "singular", "coupling", "spectrum", "robustness", "cushion", "features", "lyapunov"]
        assert list(registered_probes()) == expected

    def test_a_circle_is_refused(self):
        probes = {p.name: p for p in (probe_of("a", requires=("b",)), probe_of("b", requires=("a",)))}
        with pytest.raises(InputError, match="a -> b -> a require each other"):
            in_order(probes)

    def test_a_store_is_resumed_whatever_order_a_layout_has(self, net, data, tmp_path):
        names = ["x", "y"]

        def made():
            layout = dict.fromkeys(names, ((), (), "float64"))
            return probe_of(layout=layout, found={"x": 1.0, "y": 2.0})

        first = made()
        calls = []

        def stop(self, sample, num_classes):
            calls.append(sample.index)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return {"x": 1.0, "y": 2.0}

        type(first).measure = stop
        with pytest.raises(KeyboardInterrupt):
            captured(net, data, [first], tmp_path / "s")
        names.reverse()
        ds = captured(net, data, [made()], tmp_path / "s")
        assert ds["x"].values.tolist() == [1.0] * 3
        assert ds["y"].values.tolist() == [2.0] * 3


class TestRegistered:
    def test_it_is_known_by_name_with_its_settings(self):
        resdyn.register(GAIN)
        assert resolve_probes("gain(power=2)") == (Gain(2),)
        with pytest.raises(InputError, match="keys: power"):
            resolve_probes("gain(powr=2)")

    def test_it_shows_in_the_table_the_report_and_the_comparison(self, net, data, tmp_path):
        resdyn.register(GAIN)
        stores = [captured(net, data, "gain,trajectory", tmp_path / f"{seed}", seed=seed) for seed in range(2)]
        ds = stores[0]
        row = next(row for row in resdyn.metrics.metrics_table(ds) if row["name"] == "mean_gain")
        assert row["value"] == pytest.approx(float(ds["gain"].mean()))
        assert row["title"] == "growth of the state's norm"
        page = resdyn.report.render_page(ds)
        assert "How fast does the state grow?" in page
        assert "Growth &lt;per&gt; block" in page
        assert "Mean: " in page
        assert "gain" in ds.resdyn.figures()
        assert ds.resdyn.paper_figure("gain") is not None
        assert "mean_gain" in set(ds.resdyn.summary()["name"])
        compared = resdyn.write_comparison(stores, tmp_path / "c.html").read_text()
        assert "How fast does the state grow?" in compared
        assert "growth of the state&#39;s norm" in compared

    def test_a_monitor_watches_it(self, net, data):
        resdyn.register(GAIN)
        monitor = resdyn.Monitor(probes="gain", metrics=["mean_gain"], samples=2)
        (row,) = monitor.result(monitor.init(net, *data))
        assert row["mean_gain"] > 0
        assert row["error"] is None

    def test_a_class_alone_is_known_by_name(self):
        assert register_probe(Gain) is Gain
        assert resolve_probes("gain") == (Gain(),)
        assert resolve_probes([Gain(3)]) == (Gain(3),)

    def test_a_class_that_was_defined_again_replaces_the_earlier_one(self):
        for _ in range(2):

            @dataclass(frozen=True)
            class Again(Gain):
                name: ClassVar[str] = "again"

            old = Again()
            register_probe(Again)
        assert resolve_probes([old]) == (old,)

    @pytest.mark.parametrize(
        ("phenomenon", "words"),
        [
            (Gain, "got type to register"),
            (resdyn.Phenomenon("trajectory", probe=Gain), "belongs to resdyn"),
            (resdyn.Phenomenon("a b", probe=Gain), "expected an identifier"),
            (resdyn.Phenomenon("class", probe=Gain), "expected an identifier"),
            (resdyn.Phenomenon("other", probe=Gain), "got a probe of the name 'gain'"),
            (resdyn.Phenomenon("gain", probe=Gain()), "expected a class"),
            (resdyn.Phenomenon("gain", probe=Gain, variables="gain"), "expected a tuple of names"),
        ],
    )
    def test_what_cannot_be_registered(self, phenomenon, words):
        with pytest.raises(InputError, match=words):
            resdyn.register(phenomenon)

    @pytest.mark.parametrize(
        ("part", "value", "words"),
        [
            ("metrics", 3, "expected a resdyn.metrics.Summary"),
            ("sections", [3], "expected a list of resdyn.report.Section"),
            ("overlays", [3], "expected a list of resdyn.report.Overlay"),
            ("metrics", "no.such:thing", "metrics of 'gain' cannot be loaded from 'no.such:thing': ModuleNotFound"),
        ],
    )
    def test_a_part_of_the_wrong_type_is_named(self, net, data, tmp_path, part, value, words):
        resdyn.register(dataclasses.replace(GAIN, **{part: value}))
        ds = captured(net, data, "gain", tmp_path / "s")
        with pytest.raises(InputError, match=words):
            (resdyn.write_comparison if part == "overlays" else write_twice)([ds, ds], tmp_path / "c.html")

    def test_two_sections_of_one_anchor_are_refused(self, net, data, tmp_path):
        (section,) = GAIN.sections
        resdyn.register(dataclasses.replace(GAIN, sections=[dataclasses.replace(section, anchor="steps")]))
        ds = captured(net, data, "gain", tmp_path / "s")
        with pytest.raises(InputError, match="both have a section 'steps'"):
            resdyn.write_report(ds, tmp_path / "r.html")


class TestBuiltIn:
    @pytest.mark.parametrize("phenomenon", phenomena(), ids=lambda p: p.name)
    def test_every_reference_leads_somewhere(self, phenomenon):
        for part in PARTS:
            assert phenomenon.load(part) is not None or part in ("probe", "metrics")
        probe = phenomenon.load("probe")
        assert probe is None or (probe.name == phenomenon.name and traits(probe))

    def test_a_dataset_holds_what_its_variables_say(self):
        from synthetic import synthetic_dataset

        names = {phenomenon.name for phenomenon in phenomena_in(synthetic_dataset(probes=("trajectory", "features")))}
        assert names == {"trajectory", "features"}


@pytest.fixture
def plug_in(tmp_path, monkeypatch):
    """Installs a package with an entry point, as pip would."""

    def install(text, name="gained", value="gained_plug_in:GAINED", package="gained"):
        folder = tmp_path / f"{package}-1.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[resdyn.probes]\n{name} = {value}\n")
        (tmp_path / "gained_plug_in.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()

    yield install
    sys.modules.pop("gained_plug_in", None)


CLASS = """
from dataclasses import dataclass
from typing import ClassVar
from own_probe import Gain
@dataclass(frozen=True)
class GAINED(Gain):
    name: ClassVar[str] = "gained"
"""


class TestPlugIn:
    def test_is_known_by_name_and_imported_when_it_is_asked_for(self, plug_in):
        plug_in(CLASS)
        assert "gained" in known_names()
        assert "gained_plug_in" not in sys.modules
        (probe,) = resolve_probes("gained(power=2)")
        assert (probe.name, probe.power) == ("gained", 2)

    def test_of_a_whole_phenomenon_is_found_by_the_probes_of_a_store(self, plug_in, net, data, tmp_path, monkeypatch):
        plug_in(
            "import dataclasses\nfrom own_probe import GAIN\n"
            + CLASS.replace("class GAINED", "class Gained")
            + "GAINED = dataclasses.replace(GAIN, name='gained', probe=Gained)\n"
        )
        ds = captured(net, data, "gained", tmp_path / "s")
        monkeypatch.setattr(registry, "_registered", {})  # another process
        assert "mean_gain" in {metric.name for metric in resdyn.metrics.summarize(ds)}
        monkeypatch.setattr(registry, "_registered", {})
        assert "How fast does the state grow?" in resdyn.report.render_page(ds)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("1 / 0", "the plug-in 'gained' .*of gained 1.0.* cannot be imported: ZeroDivisionError"),
            ("import no_such_module", "ModuleNotFoundError: No module named"),
            ("", "cannot be imported: AttributeError"),
            ("GAINED = 3", "expected a class"),
            ("from own_probe import GAIN as GAINED", "holds the phenomenon 'gain', expected 'gained'"),
            ("from own_probe import Gain as GAINED", "got a probe of the name 'gain'"),
        ],
    )
    def test_that_is_broken_says_so_in_one_line(self, plug_in, text, words):
        plug_in(text)
        with pytest.raises(InputError, match=words) as raised:
            resolve_probes("gained")
        assert "\n" not in str(raised.value)
        assert resolve_probes("trajectory")

    def test_two_of_one_name_are_refused(self, plug_in):
        plug_in(CLASS)
        plug_in(CLASS, value="gained_plug_in:OTHER", package="another")
        with pytest.raises(InputError, match="several plug-ins for the probe 'gained'"):
            find_phenomenon("gained")


class TestKinds:
    def test_each_array_says_which_jacobian_it_is_of(self, net, data, tmp_path):
        ds = captured(net, data, "trajectory,singular(k=2),spectrum,cushion", tmp_path / "s", kind="gated")
        assert ds.attrs["kind"] == "gated"
        assert ds["singular_values"].attrs["kind"] == "gated"
        assert ds["largest_real"].attrs["kind"] == "block"
        assert ds["span_jacobian_norm"].attrs["kind"] == "block"
        assert "kind" not in ds["states"].attrs
        assert ds["singular_values"].attrs["units"] == "1"
        assert "block: index of the block" in ds["singular_values"].attrs["axes"]
        assert ds["stage_of_depth"].attrs["long_name"]
        page = resdyn.report.render_page(ds)
        assert "gated (singular); block (spectrum, cushion)" in page
        assert "Eigenvalues of the Jacobian read as block" in page

    def test_a_store_of_before_opens_and_shows_the_kind_of_the_capture(self):
        from resdyn.report.header import jacobian_kinds
        from synthetic import synthetic_dataset

        assert jacobian_kinds(synthetic_dataset()) == "gated"


def test_the_old_keyword_and_the_old_names_still_work():
    with pytest.warns(DeprecationWarning, match="num_classes"):
        assert float(resdyn.metrics.singular_gap([8.0, 4.0, 1.0], n_classes=2)) == 4.0
    with pytest.warns(DeprecationWarning, match="registered_probes"):
        assert "trajectory" in resdyn.probes.PROBES
    with pytest.warns(DeprecationWarning, match="overlap_angles"):
        assert resdyn.metrics.principal_angles([[1.0]]) == 0
    with pytest.raises(TypeError, match="both"):
        resdyn.metrics.singular_gap([8.0, 4.0, 1.0], num_classes=2, n_classes=2)
