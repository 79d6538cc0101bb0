"""A session that fails keeps what was measured, says so in one line, and lets the model go."""

import gc
import logging
import weakref

import pandas as pd
import pytest
from failing_engines import failing, memory_left

from llmlat.errors import ConfigError, MeasurementError, ModelError
from llmlat.measure import generators as generators_module


def partial_rows(dataset):
    (path,) = dataset.rows_dir.glob("_partial-*.parquet")
    return path.name, pd.read_parquet(path)


@pytest.mark.parametrize("where", ["while decoding", "between requests"])
def test_a_failure_lets_the_model_go(run, monkeypatch, where):
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


def test_a_bug_in_an_engine_is_not_hidden_and_loses_nothing(run, only_dataset, caplog):
    with caplog.at_level(logging.ERROR), pytest.raises(ZeroDivisionError, match="a bug in an engine"):
        run(*failing("Broken"))
    assert "request 2 (line-3) failed; 2 of 5 requests are kept" in caplog.text
    assert partial_rows(only_dataset())[1]["token_index"].tolist() == [0, 1, 2]


def interrupted(run, *overrides, **options):
    with pytest.raises(KeyboardInterrupt) as caught:
        run(*overrides, **options)
    assert "run the same command to resume" in str(caught.value)
    return str(caught.value)


def test_an_interrupt_within_a_request(run, only_dataset):
    assert interrupted(run, *failing("Interrupted")).startswith("2 of 5 requests are kept in ")
    assert partial_rows(only_dataset())[1]["token_index"].tolist() == [0, 1, 2]


def test_an_interrupt_between_requests(run, only_dataset):
    def on_request(request, rows):
        if request.request_id == 1:
            raise KeyboardInterrupt

    assert interrupted(run, on_request=on_request).startswith("2 of 5 requests are kept in ")
    assert only_dataset().completed_requests() == {0, 1}


def test_an_interrupt_while_loading(run, only_dataset, monkeypatch):
    def load(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(generators_module, "load_model", load)
    assert interrupted(run).startswith("0 of 5 requests are kept in ")
    assert only_dataset().provenance["sessions"] == []


def test_out_of_memory_while_loading_for_real(run):
    """The address space ends before the weights do; torch's own allocator says so."""
    with memory_left(256 * 2**20), pytest.raises(ModelError) as caught:
        run("model.architecture.hidden_size=4096", "model.architecture.intermediate_size=8192")
    message = str(caught.value)
    assert message.startswith("model=mistral-mini: out of memory on cpu while loading it")
    assert "\n" not in message


def test_an_engine_that_cannot_be_made(run):
    with pytest.raises(ConfigError, match=r"^engine\._target_=.*: cannot be made \(") as caught:
        run("engine._target_=failing_engines.Unmade")
    assert "\n" not in str(caught.value)
