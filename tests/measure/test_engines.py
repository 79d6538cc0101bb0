"""The real engines against transformers' own generate(), token for token."""

from dataclasses import replace

import pytest
import torch

from llmlat.config import QuantizationName
from llmlat.measure.cells import Cell
from llmlat.measure.collect import Collector
from llmlat.measure.decoding import Greedy, make_decoder
from llmlat.measure.engines.cuda_graph import CudaGraphEngine
from llmlat.measure.engines.eager import EagerEngine
from llmlat.measure.engines.no_cache import NoCacheEngine
from llmlat.measure.timers import WallTimer

pytestmark = pytest.mark.usefixtures("quick_requests", "uncaptured")

CPU = torch.device("cpu")
ENGINES = [EagerEngine, NoCacheEngine, CudaGraphEngine]
# These feed the model one call a step, with what `Columns` holds.
UNCAPTURED_ENGINES = ENGINES[:2]
GREEDY = Cell("greedy")
EOS_GREEDY = replace(GREEDY, stop_at_eos=True)
# A few of 128 tokens, so that some sequence comes upon one of them.
SOME_EOS = tuple(range(2, 128, 9))
# Without a penalty every further token makes a sequence worse, so a search is soon over.
IMPATIENT = Cell("beams", num_beams=3, length_penalty=0.0, stop_at_eos=True)
MANY_EOS = tuple(range(2, 128, 4))
RAGGED = (11, 4, 1)
BATCHES = [(9,), (9, 9, 9), RAGGED]


def measured(engine_class, model, request, eos_ids=(), seed=0):
    """Return the rows of a request, generated as its cell says."""
    decoder = make_decoder(request.cell, CPU, eos_ids, pad_id=0)
    engine = engine_class(model, decoder)
    rows = Collector(WallTimer(), seed=seed).measure(request, engine, decoder)
    assert (rows["token_latency_ms"] > 0).all()
    return rows


def generate(engine_class, model, request, eos_ids=(), seed=0):
    """Return the tokens of each sequence."""
    rows = measured(engine_class, model, request, eos_ids, seed)
    return [tokens.dropna().tolist() for _, tokens in rows.groupby("sequence_index")["token_id"]]


def reference(model, request, eos_ids=(), **options):
    """Return what transformers generates, without what comes after a sequence's end."""
    longest = max(map(len, request.prompts))
    missing = [longest - len(prompt) for prompt in request.prompts]
    padded = [[0] * gap + list(prompt) for gap, prompt in zip(missing, request.prompts, strict=True)]
    output = model.generate(
        torch.tensor(padded),
        attention_mask=torch.tensor([[0] * gap + [1] * (longest - gap) for gap in missing]),
        max_new_tokens=request.max_new_tokens,
        do_sample=False,
        num_beams=request.cell.num_beams,
        length_penalty=request.cell.length_penalty,
        pad_token_id=0,
        eos_token_id=list(eos_ids) or None,
        **options,
    )
    return [until_end(row, eos_ids) for row in output[:, longest:].tolist()]


def until_end(tokens, eos_ids):
    ends = [place for place, token in enumerate(tokens, start=1) if token in eos_ids]
    return tokens[: ends[0]] if ends else tokens


@pytest.fixture(scope="module")
def model(random_model):
    # Spread-out weights, so that greedy decoding does not fall into repeating one token.
    return random_model(initializer_range=0.4)


@pytest.fixture(scope="module")
def undecided(random_model):
    # Less spread out: the likeliest tokens lie close together, so that beams cross and end at odd places.
    return [random_model(initializer_range=0.15, seed=seed) for seed in range(2)]


@pytest.mark.parametrize("engine_class", ENGINES)
@pytest.mark.parametrize("prompt_tokens", [1, 2, 37])
def test_greedy_tokens_are_those_of_transformers(model, request_of, engine_class, prompt_tokens):
    assert model.dtype is torch.float32
    request = request_of(1, prompt_tokens, 24)
    expected = reference(model, request)
    assert len(set(expected[0])) > 5
    assert generate(engine_class, model, request) == expected


@pytest.mark.parametrize("engine_class", ENGINES)
@pytest.mark.parametrize("lengths", [(9, 9, 9), RAGGED, (3, 12)])
def test_greedy_batches_are_those_of_transformers(model, batch_of, engine_class, lengths):
    request = batch_of(lengths, GREEDY, max_new_tokens=12)
    expected = reference(model, request)
    assert len({tuple(tokens) for tokens in expected}) == len(lengths)
    assert generate(engine_class, model, request) == expected


@pytest.mark.parametrize("engine_class", ENGINES)
def test_a_prompt_generates_the_same_alone_and_in_a_ragged_batch(model, batch_of, engine_class):
    together = batch_of(RAGGED, GREEDY, max_new_tokens=10)
    alone = [
        replace(together, prompts=(prompt,), prompt_ids=("alone",), cell=GREEDY)
        for prompt in together.prompts
    ]
    expected = [generate(engine_class, model, request)[0] for request in alone]
    assert generate(engine_class, model, together) == expected


@pytest.mark.parametrize("engine_class", ENGINES)
def test_requests_do_not_leak_into_each_other(model, request_of, engine_class):
    decoder = Greedy()
    engine, collector = engine_class(model, decoder), Collector(WallTimer())
    alone = [generate(engine_class, model, request_of(i, 9, 12))[0] for i in range(3)]
    together = [collector.measure(request_of(i, 9, 12), engine, decoder) for i in range(3)]
    assert [rows["token_id"].tolist() for rows in together] == alone


@pytest.mark.parametrize("engine_class", ENGINES)
def test_end_of_sequence_falls_where_transformers_stops(model, batch_of, engine_class):
    request = batch_of((37,), EOS_GREEDY, max_new_tokens=24)
    eos = reference(model, request)[0][7]
    expected = reference(model, request, (eos,))
    assert expected[0][-1] == eos
    assert len(expected[0]) < 24
    assert generate(engine_class, model, request, (eos,)) == expected


@pytest.mark.parametrize("engine_class", ENGINES)
@pytest.mark.parametrize("lengths", BATCHES[1:])
def test_sequences_of_a_batch_end_one_by_one(model, batch_of, engine_class, lengths):
    request = batch_of(lengths, EOS_GREEDY, max_new_tokens=24)
    expected = reference(model, request, SOME_EOS)
    ends = [len(tokens) for tokens in expected]
    assert len(set(ends)) > 1
    assert min(ends) < 24
    assert generate(engine_class, model, request, SOME_EOS) == expected


@pytest.mark.parametrize("engine_class", ENGINES)
@pytest.mark.parametrize("num_beams", [2, 4])
@pytest.mark.parametrize("lengths", BATCHES)
def test_beams_are_those_of_transformers(undecided, batch_of, engine_class, lengths, num_beams):
    for salt, model in enumerate(undecided):
        request = batch_of(lengths, Cell("beams", num_beams=num_beams), max_new_tokens=10, salt=salt)
        found = generate(engine_class, model, request)
        assert found == reference(model, request)
        assert found != generate(engine_class, model, replace(request, cell=GREEDY))


@pytest.mark.parametrize("engine_class", ENGINES)
@pytest.mark.parametrize("length_penalty", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("lengths", [(9,), RAGGED])
@pytest.mark.parametrize("eos_ids", [SOME_EOS[:2], SOME_EOS])
def test_beams_end_where_those_of_transformers_do(
    undecided, batch_of, engine_class, lengths, length_penalty, eos_ids
):
    cell = Cell("beams", num_beams=3, length_penalty=length_penalty, stop_at_eos=True)
    for salt, model in enumerate(undecided):
        request = batch_of(lengths, cell, max_new_tokens=10, salt=salt)
        assert generate(engine_class, model, request, eos_ids) == reference(model, request, eos_ids)


@pytest.mark.parametrize("engine_class", ENGINES)
@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_sliding_window_sees_what_it_does_in_transformers(random_model, batch_of, engine_class, num_beams):
    model = random_model(initializer_range=0.15, sliding_window=6)
    request = batch_of(RAGGED, Cell("any", num_beams=num_beams), max_new_tokens=10)
    assert generate(engine_class, model, request) == reference(model, request)


def test_a_search_that_ends_early_keeps_a_row_for_every_step(undecided, batch_of):
    request = batch_of(RAGGED, IMPATIENT, max_new_tokens=40)
    rows = measured(EagerEngine, undecided[0], request, MANY_EOS)
    n_steps = rows.groupby("sequence_index").size()
    assert n_steps.nunique() == 1
    assert n_steps[0] < 40, "the search is to stop before the last step"
    n_tokens = rows.groupby("sequence_index")["token_id"].count()
    assert (n_tokens < n_steps).any()
    assert n_tokens.tolist() == list(map(len, reference(undecided[0], request, MANY_EOS)))
    for _, sequence in rows.groupby("sequence_index"):
        assert sequence["token_id"].isna().is_monotonic_increasing, "only the tail is empty"


def test_a_search_asks_for_no_step_that_transformers_does_not_take(undecided, batch_of):
    request = batch_of(RAGGED, IMPATIENT, max_new_tokens=40)
    ours, theirs = counting_of(undecided[0], EagerEngine), []
    measured(EagerEngine, ours, request, MANY_EOS)
    hook = undecided[0].register_forward_hook(lambda *_: theirs.append(1))
    reference(undecided[0], request, MANY_EOS)
    hook.remove()
    assert len(ours.seen) == len(theirs)


def test_the_cache_holds_what_the_steps_attended_to(model, request_of):
    decoder = Greedy()
    engine = EagerEngine(model, decoder)
    request = request_of(0, 10, 5)
    with torch.inference_mode():
        decoder.begin(1, 5, seed=0)
        state = engine.prepare(request.prompts, request.max_new_tokens)
        engine.prefill(state)
        lengths = [state.cache.get_seq_length()]
        for _ in range(4):
            engine.decode_one_token(state)
            lengths.append(state.cache.get_seq_length())
    # context_length of token i is prompt_tokens + i.
    assert lengths == [10, 11, 12, 13, 14]


class Counting(torch.nn.Module):
    """Notes what a model is fed."""

    def __init__(self, model):
        super().__init__()
        self.model, self.config, self.device = model, model.config, model.device
        self.seen: list[tuple[int, ...]] = []
        self.options: list[dict[str, torch.Tensor]] = []

    def forward(self, input_ids, **options):
        self.seen.append(tuple(input_ids.shape))
        self.options.append(options)
        return self.model(input_ids=input_ids, **options)


def counting_of(model, engine_class):
    """Return what notes what a model is fed, from the first request on."""
    counting = Counting(model)
    engine_class(counting, Greedy())  # which looks whether the model does as it is told, once
    counting.seen.clear()
    counting.options.clear()
    return counting


@pytest.mark.parametrize(
    ("engine_class", "seen"), [(EagerEngine, [10, 1, 1, 1]), (NoCacheEngine, [10, 11, 12, 13])]
)
@pytest.mark.parametrize(("lengths", "num_beams", "rows"), [((10,), 1, 1), ((10, 6), 1, 2), ((10, 6), 3, 6)])
def test_how_many_tokens_a_step_processes(model, batch_of, engine_class, seen, lengths, num_beams, rows):
    counting = counting_of(model, engine_class)
    measured(engine_class, counting, batch_of(lengths, Cell("any", num_beams=num_beams)))
    assert counting.seen == [(rows, columns) for columns in seen]


@pytest.mark.parametrize("engine_class", UNCAPTURED_ENGINES)
@pytest.mark.parametrize("lengths", [(10,), (10, 10)])
def test_equal_prompts_are_fed_without_a_mask(model, batch_of, engine_class, lengths):
    counting = counting_of(model, engine_class)
    measured(engine_class, counting, batch_of(lengths, GREEDY))
    assert not any("attention_mask" in options for options in counting.options)


@pytest.mark.parametrize("engine_class", UNCAPTURED_ENGINES)
@pytest.mark.parametrize("num_beams", [1, 3])
def test_rows_say_what_a_ragged_batch_attends_to(model, batch_of, engine_class, num_beams):
    counting = counting_of(model, engine_class)
    request = batch_of(RAGGED, Cell("any", num_beams=num_beams), max_new_tokens=5)
    rows = measured(engine_class, counting, request)
    for step, options in enumerate(counting.options):
        of_step = rows[rows["token_index"] == step]
        attended = options["attention_mask"].sum(dim=1)
        assert of_step["context_length"].tolist() == attended[::num_beams].tolist()
        assert set(of_step["padded_context_length"]) == {options["attention_mask"].shape[1]}
        assert set(of_step["batch_context_tokens"]) == {int(attended.sum())}
        # The position of the last token fed is one less than the tokens there are.
        assert (options["position_ids"][:, -1] == attended - 1).all()
    assert rows.groupby("sequence_index")["prompt_tokens"].unique().map(list).tolist() == [
        [n] for n in RAGGED
    ]


@pytest.mark.parametrize("engine_class", UNCAPTURED_ENGINES)
def test_nothing_is_allocated_for_the_mask_in_a_step(model, batch_of, engine_class):
    engine = engine_class(model, Greedy())
    state = engine.prepare(batch_of(RAGGED, GREEDY).prompts, 4)
    fed = [state.columns.between(start, start + 1) for start in (11, 12)]
    for name in ("attention_mask", "position_ids"):
        storages = {options[name].untyped_storage().data_ptr() for options in fed}
        assert storages == {getattr(state.columns, name).untyped_storage().data_ptr()}


@pytest.mark.parametrize("quantization", [QuantizationName.int8, QuantizationName.nf4])
@pytest.mark.parametrize("engine_class", ENGINES)
def test_engines_run_quantised_models(random_model, request_of, engine_class, quantization):
    request = request_of(0, 10, 5)
    model = random_model(quantization)
    assert generate(engine_class, model, request) == reference(model, request)


@pytest.mark.parametrize("engine_class", ENGINES)
@pytest.mark.parametrize("lengths", [(9,), RAGGED])
def test_sampling_is_repeatable_by_seed_and_request(model, batch_of, engine_class, lengths):
    cell = Cell("sampling", temperature=1.0, top_k=50, top_p=0.95)

    def sampled(seed, request_id):
        return generate(engine_class, model, batch_of(lengths, cell, request_id, 12), seed=seed)

    torch.manual_seed(1)
    once = sampled(seed=5, request_id=3)
    torch.manual_seed(2)  # nothing else's draws matter
    assert sampled(seed=5, request_id=3) == once, "a resumed request draws the same"
    assert sampled(seed=6, request_id=3) != once
    assert sampled(seed=5, request_id=4) != once


@pytest.mark.parametrize("engine_class", ENGINES)
def test_sequences_of_equal_prompts_are_drawn_each_by_itself(model, batch_of, engine_class):
    request = batch_of((9,), Cell("sampling", temperature=1.0), max_new_tokens=12)
    request = replace(request, prompts=request.prompts * 3, prompt_ids=request.prompt_ids * 3)
    assert len({tuple(tokens) for tokens in generate(engine_class, model, request)}) == 3


@pytest.mark.parametrize("engine_class", ENGINES)
def test_drawing_among_one_token_is_greedy(model, batch_of, engine_class):
    request = batch_of(RAGGED, Cell("sampling", temperature=1.7, top_k=1), max_new_tokens=12)
    greedy = replace(request, cell=GREEDY)
    assert generate(engine_class, model, request) == generate(engine_class, model, greedy)
