"""A session: what decides the key, what a second run does not do again, and what a failure keeps."""

import gc
import logging
import resource
import weakref
from pathlib import Path

import pandas as pd
import pytest
import torch

from llmlat.dataset import Dataset, key_of
from llmlat.errors import ConfigError, MeasurementError, ModelError
from llmlat.measure import generators as generators_module
from llmlat.measure import plan as plan_module
from llmlat.measure.engines.cuda_graph import CudaGraphEngine
from llmlat.measure.plan import make_plan
from llmlat.measure.session import measure

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """Datasets and prompts of this test's own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.txt").write_text("One\nTwo words\nAnd three words\nFour\nFive it is\n")


@pytest.fixture
def config_of(compose, tiny):
    def composed(*overrides):
        ours = ["prompt_set=file", "prompt_set.path=p.txt", "prompt_set.max_new_tokens=4", "collect.warmup=3"]
        return compose(*tiny, *ours, "device=cpu", *overrides)

    return composed


@pytest.fixture
def run(config_of):
    def measured(*overrides, on_request=lambda request, rows: None):
        config = config_of(*overrides)
        return measure(config, make_plan(config), {"seed": config.seed}, on_request)

    return measured


@pytest.fixture
def failing(monkeypatch):
    """Let `engine._target_=failing_engines.…` be found."""
    monkeypatch.syspath_prepend(__file__.rpartition("/")[0])

    def overrides(name, *more):
        return (f"engine._target_=failing_engines.{name}", "engine.name=failing", "collect.warmup=0", *more)

    return overrides


def key(config):
    return key_of(make_plan(config).identity)


# --- what decides the key ---------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "seed=1",
        "model.architecture.num_hidden_layers=3",
        "model.architecture.rope_theta=5000.0",
        "quantization=int8",
        "quantization=nf4",
        "engine=no_cache",
        "decoding=sampling",
        "decoding.stop_at_eos=true",
        "decoding.temperature=0.5",
        "prompt_set.max_new_tokens=5",
        "prompt_set.limit=2",
        "prompt_set=short",
        "collect.warmup=4",
        "collect.repetitions=2",
    ],
)
def test_the_key_changes_with_what_decides_the_measurement(config_of, change):
    assert key(config_of(change)) != key(config_of())


@pytest.mark.parametrize(
    "change",
    [
        "regressor.alpha=10",
        "regressor=custom",
        "split=by_request",
        "split.test_size=0.5",
        "features.columns=[prompt_tokens]",
        "tracking=none",
        "tracking.project=other",
        "name=other",
        "datasets_dir=elsewhere",
        "reference=thesis",
        "device=auto",
    ],
)
def test_the_key_does_not_change_with_anything_else(config_of, change, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    changed = [change, "regressor._target_=x.Y"] if change == "regressor=custom" else [change]
    assert key(config_of(*changed)) == key(config_of())


def test_the_key_holds_the_prompts_and_not_where_they_are(config_of, tmp_path):
    before = key(config_of())
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "p.txt").rename(tmp_path / "elsewhere" / "q.txt")
    assert key(config_of(f"prompt_set.path={moved}")) == before
    moved.write_text(moved.read_text().replace("Two", "Too"))
    assert key(config_of(f"prompt_set.path={moved}")) != before


def test_the_key_changes_with_the_model(config_of, random_model, tmp_path):
    mini = key(config_of())
    folders = []
    for name in ("a", "b"):
        random_model(seed=len(folders), num_hidden_layers=1 + len(folders)).save_pretrained(tmp_path / name)
        folders.append(key(config_of(f"model.name={tmp_path / name}", "model.weights=pretrained")))
    without = key(config_of(f"model.name={tmp_path / 'a'}", "model.weights=random"))
    assert len({mini, without, *folders}) == 4


def test_the_key_tells_a_stand_in_from_the_model_itself(compose):
    stand_in, itself = (compose(f"model={name}", "device=cpu") for name in ("thesis", "mistral-mini"))
    assert make_plan(stand_in).identity["stand_in_for"] == "mistralai/Mistral-7B-Instruct-v0.3"
    assert key(stand_in) != key(itself)


@pytest.mark.parametrize("what", ["versions", "hardware"])
def test_the_key_changes_with_the_machine(config_of, monkeypatch, what):
    before = key(config_of())
    real = getattr(plan_module, what)
    monkeypatch.setattr(plan_module, what, lambda *a: {**real(*a), "torch": "99", "driver": "99"})
    assert key(config_of()) != before


def test_the_key_is_the_same_in_another_process_and_hour(config_of):
    identity = make_plan(config_of()).identity
    assert key_of(identity) == key(config_of())
    assert "time" not in str(identity).lower()


# --- a session ---------------------------------------------


def test_a_session_measures_everything_once(run):
    seen = []
    dataset = run("collect.repetitions=2", on_request=lambda request, rows: seen.append((request, rows)))
    rows = dataset.read()
    counted = rows[~rows["is_warmup"]]
    assert dataset.is_complete
    assert len(counted) == 2 * 5 * 4
    assert rows["is_warmup"].sum() == 3
    assert (rows.loc[rows["is_warmup"], "request_id"] == -1).all()
    assert rows["is_warmup"].iloc[:3].all()
    assert counted.groupby("request_id").size().tolist() == [4] * 10
    assert counted.groupby("request_id")["session_request"].first().tolist() == list(range(10))
    assert counted.groupby("request_id")["repetition"].first().tolist() == [0] * 5 + [1] * 5
    assert [request.request_id for request, _ in seen] == list(range(10))
    assert (
        pd.concat([r for _, r in seen])["token_latency_ms"].tolist() == counted["token_latency_ms"].tolist()
    )


def test_requests_do_not_overlap_in_time(run):
    rows = run().read()
    started = rows["completed_at_ns"] - (rows["token_latency_ms"] * 1e6).round().astype("int64")
    assert (started.to_numpy()[1:] >= rows["completed_at_ns"].to_numpy()[:-1] - 1).all()


def test_a_collection_between_requests_looks_only_at_what_is_new(run, failing):
    """Over all of torch and transformers it would take a quarter of a second a request."""
    frozen = []
    run(on_request=lambda *_: frozen.append(gc.get_freeze_count()))
    assert min(frozen) > 10_000
    assert gc.get_freeze_count() == 0
    with pytest.raises(ZeroDivisionError):
        run(*failing("Broken"))
    assert gc.get_freeze_count() == 0
    assert gc.isenabled()


def test_provenance_says_what_ran(run):
    provenance = run().provenance
    (session,) = provenance["sessions"]
    assert session["config"] == {"seed": 42}
    assert session["versions"]["torch"] == torch.__version__
    assert session["clock"]["name"] == "perf_counter"
    assert {"started_at", "git", "os", "memory_bytes", "gpu"} <= session.keys()
    assert 0 < session["model"]["kv_bytes_per_token"] < session["model"]["weight_bytes"]
    assert session["memory_bandwidth_bytes_per_s"] is None, "there is no GPU"
    assert provenance["identity"]["hardware"]["device"] == "cpu"
    assert provenance["n_requests"] == 5


def test_the_same_key_is_not_measured_again(run, monkeypatch, caplog):
    before = run().read()
    monkeypatch.setattr(generators_module, "load_model", lambda *_: pytest.fail("it loaded a model"))
    with caplog.at_level(logging.INFO):
        again = run(on_request=lambda *_: pytest.fail("it measured"))
    pd.testing.assert_frame_equal(again.read(), before)
    assert len(again.provenance["sessions"]) == 1
    assert "Already measured" in caplog.text
    with pytest.raises(pytest.fail.Exception, match="loaded a model"):
        run("seed=1")


def test_what_is_said_before_measuring(run, caplog):
    with caplog.at_level(logging.INFO):
        run()
    (line,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Measuring")]
    for word in (
        "20 tokens",
        "5 requests",
        "mistral-mini",
        "random weights",
        "quantization none",
        "eager",
        "roughly",
    ):
        assert word in line


def test_a_deleted_file_alone_is_measured_again(run):
    dataset = run()
    (dataset.rows_dir / "request-000002.parquet").unlink()
    seen = []
    rows = run(on_request=lambda request, _: seen.append(request.request_id)).read()
    assert seen == [2]
    counted = rows[~rows["is_warmup"]]
    assert counted.groupby("request_id").size().tolist() == [4] * 5
    assert (counted.loc[counted["request_id"] == 2, "session_id"] == 1).all()
    assert (counted.loc[counted["request_id"] == 2, "session_request"] == 0).all()
    assert rows["is_warmup"].sum() == 6


def test_stopping_at_the_end_of_sequence(run, monkeypatch):
    everything = run("prompt_set.max_new_tokens=8").read()
    eos = everything.loc[(everything["request_id"] == 0) & (everything["token_index"] == 3), "token_id"].iloc[
        0
    ]
    expected = {}
    for request_id, rows in everything[~everything["is_warmup"]].groupby("request_id"):
        ids = rows["token_id"].tolist()
        expected[request_id] = ids[: ids.index(eos) + 1] if eos in ids else ids
    rows = run(
        "prompt_set.max_new_tokens=8", "decoding.stop_at_eos=true", f"model.architecture.eos_token_id={eos}"
    ).read()
    counted = rows[~rows["is_warmup"]]
    assert {i: r["token_id"].tolist() for i, r in counted.groupby("request_id")} == expected
    assert len(counted) < 5 * 8


def test_a_model_without_an_end_of_sequence(run):
    with pytest.raises(ConfigError, match=r"^decoding\.stop_at_eos=true: "):
        run("decoding.stop_at_eos=true", "model.architecture.eos_token_id=null")


def test_the_other_engine_makes_the_same_tokens(run):
    eager, no_cache = run().read(), run("engine=no_cache").read()
    assert eager["token_id"].tolist() == no_cache["token_id"].tolist()


def test_what_captured_steps_took_is_in_provenance_and_in_no_row(run, uncaptured, monkeypatch):
    monkeypatch.setattr(CudaGraphEngine, "check", lambda *_: None)
    dataset = run("collect.interleave.engine=[eager,cuda_graph]", "collect.repetitions=2")
    (session,) = dataset.provenance["sessions"]
    (captured,) = session["preparations"]
    assert (captured["engine"], captured["rows"], captured["capacity"]) == ("cuda_graph", 1, 1024)
    rows = dataset.read()
    tokens = rows[~rows["is_warmup"]].groupby("engine")["token_id"]
    eager, replayed = (tokens.get_group(engine).tolist() for engine in ("eager", "cuda_graph"))
    assert sorted(eager) == sorted(replayed)
    assert run().provenance["sessions"][0]["preparations"] == []


# --- bad settings are found before anything is loaded ---------------------------------------------


@pytest.mark.parametrize(
    ("override", "start"),
    [
        ("decoding.temperature=-1", "decoding.temperature=-1.0: "),
        ("decoding.temperature=nan", "decoding.temperature=nan: "),
        (
            "engine._target_=llmlat.measure.engines.eager.Eagre",
            "engine._target_=llmlat.measure.engines.eager.Eagre: ",
        ),
        ("engine._target_=nowhere.Engine", "engine._target_=nowhere.Engine: "),
        (
            "+engine.colour=red",
            "engine._target_=llmlat.measure.engines.eager.EagerEngine: cannot be made (got an unexpected ",
        ),
        ("~engine.name", "engine.name: "),
        ("device=tpu", "device=tpu: "),
        ("device=nonsense", "device=nonsense: "),
        ("device=cuda:99", "device=cuda:99: "),
        ("device=mps", "device=mps: "),
    ],
)
def test_a_bad_setting(config_of, override, start):
    with pytest.raises(ConfigError) as caught:
        make_plan(config_of(override))
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)


def test_an_engine_that_cannot_be_made(run, failing):
    with pytest.raises(ConfigError, match=r"^engine\._target_=.*: cannot be made \(") as caught:
        run("engine._target_=failing_engines.Unmade")
    assert "\n" not in str(caught.value)


# --- failures keep what was measured ---------------------------------------------


def only_dataset():
    (folder,) = (p for p in Path("outputs/datasets").iterdir())
    return Dataset(folder)


def partial_rows(dataset):
    (path,) = dataset.rows_dir.glob("_partial-*.parquet")
    return path.name, pd.read_parquet(path)


@pytest.mark.parametrize("where", ["while decoding", "between requests"])
def test_a_failure_lets_the_model_go(run, failing, monkeypatch, where):
    """A sweep holds the exception while its next job loads another model."""
    models = []
    real = generators_module.load_model

    def load(*arguments):
        model = real(*arguments)
        models.append(weakref.ref(model))
        return model

    def interrupt(request, rows):
        raise KeyboardInterrupt

    monkeypatch.setattr(generators_module, "load_model", load)
    overrides = failing("NeverFits") if where == "while decoding" else ()
    with pytest.raises((MeasurementError, KeyboardInterrupt)) as held:
        run(*overrides, on_request=interrupt)
    gc.collect()
    assert held.value is not None
    assert models[0]() is None


def test_a_bug_in_an_engine_is_not_hidden_and_loses_nothing(run, failing, caplog):
    with caplog.at_level(logging.ERROR), pytest.raises(ZeroDivisionError, match="a bug in an engine"):
        run(*failing("Broken"))
    assert "request 2 (line-3) failed; 2 of 5 requests are kept" in caplog.text
    assert partial_rows(only_dataset())[1]["token_index"].tolist() == [0, 1, 2]


def interrupted(run, *overrides, **options):
    with pytest.raises(KeyboardInterrupt) as caught:
        run(*overrides, **options)
    assert "run the same command to resume" in str(caught.value)
    return str(caught.value)


def test_an_interrupt_within_a_request(run, failing):
    assert interrupted(run, *failing("Interrupted")).startswith("2 of 5 requests are kept in ")
    assert partial_rows(only_dataset())[1]["token_index"].tolist() == [0, 1, 2]


def test_an_interrupt_between_requests(run):
    def on_request(request, rows):
        if request.request_id == 1:
            raise KeyboardInterrupt

    assert interrupted(run, on_request=on_request).startswith("2 of 5 requests are kept in ")
    assert only_dataset().completed_requests() == {0, 1}


def test_an_interrupt_while_loading(run, monkeypatch):
    def load(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(generators_module, "load_model", load)
    assert interrupted(run).startswith("0 of 5 requests are kept in ")
    assert only_dataset().provenance["sessions"] == []


def test_out_of_memory_while_loading_for_real(run):
    """The address space ends before the weights do; torch's own allocator says so."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 256 * 2**20, before[1]))
    try:
        with pytest.raises(ModelError) as caught:
            run("model.architecture.hidden_size=16384", "model.architecture.intermediate_size=65536")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    message = str(caught.value)
    assert message.startswith("model=mistral-mini: out of memory on cpu while loading it")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:128] DefaultCPUAllocator: can't allocate memory: you tried"
            ),
            True,
        ),
        (RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("std::bad_alloc"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (OSError(28, "No space left on device"), False),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("out of memory"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_what_running_out_of_memory_looks_like(error, is_memory):
    from llmlat.measure.machine.device import is_out_of_memory

    assert is_out_of_memory(error) is is_memory
