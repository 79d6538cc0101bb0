"""Decoders on fixed logits, and the settings that are refused."""

from dataclasses import replace

import pytest
import torch

from llmlat.config import Batching
from llmlat.errors import ConfigError
from llmlat.measure.beams import Beams
from llmlat.measure.cells import Cell
from llmlat.measure.decoding import Greedy, Sampler, check_cell, make_decoder

CPU = torch.device("cpu")
LOGITS = torch.log(torch.tensor([[0.05, 0.4, 0.1, 0.3, 0.15]]))
EOS, OTHER_EOS, PAD = 2, 4, 0


def frequencies(sampler, n_draws=4000):
    """Return how often each token of LOGITS is drawn."""
    sampler.begin(n_draws, 1, seed=0)
    ids, _ = sampler.choose(LOGITS.expand(n_draws, -1))
    return (ids.flatten().bincount(minlength=5) / n_draws).tolist()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"temperature": 1.0}, [0.05, 0.4, 0.1, 0.3, 0.15]),
        ({"temperature": 0.5}, [0.0088, 0.5614, 0.0351, 0.3158, 0.0789]),
        ({"temperature": 1.0, "top_k": 2}, [0, 4 / 7, 0, 3 / 7, 0]),
        ({"temperature": 1.0, "top_k": 99}, [0.05, 0.4, 0.1, 0.3, 0.15]),
        # 0.4 + 0.3 falls short of 0.8, so the third likeliest is in.
        ({"temperature": 1.0, "top_p": 0.8}, [0, 8 / 17, 0, 6 / 17, 3 / 17]),
        ({"temperature": 1.0, "top_p": 1.0}, [0.05, 0.4, 0.1, 0.3, 0.15]),
        # After the temperature the two likeliest have 0.88 of the probability; before it, 0.7.
        ({"temperature": 0.5, "top_p": 0.8}, [0, 0.64, 0, 0.36, 0]),
        # Of the two that top_k leaves, the likelier has 4/7: more than 0.5 on its own.
        ({"temperature": 1.0, "top_k": 2, "top_p": 0.5}, [0, 1, 0, 0, 0]),
        ({"temperature": 0.01}, [0, 1, 0, 0, 0]),
    ],
)
def test_draws_follow_the_distribution(settings, expected):
    drawn = frequencies(Sampler(**settings))
    assert drawn == pytest.approx(expected, abs=0.03)
    assert [share == 0 for share in drawn] == [share == 0 for share in expected]


def test_draws_are_repeated_by_the_seed_alone():
    sampler = Sampler(1.0)

    def drawn(seed):
        sampler.begin(50, 1, seed)
        return sampler.choose(LOGITS.expand(50, -1))[0].tolist()

    once = drawn(1)
    torch.manual_seed(9)  # nothing else's draws matter
    assert drawn(2) != once
    assert drawn(1) == once


@pytest.mark.parametrize(
    "decoder", [Greedy(), Greedy((EOS,)), Sampler(1.0), Beams(3), Beams(3, eos_ids=(EOS,))]
)
def test_decoders_keep_a_row_a_beam(decoder):
    decoder.begin(2, 4, seed=0)
    rows = 2 * decoder.num_beams
    ids, source = decoder.choose(torch.zeros(rows, 11))
    assert ids.shape == (rows, 1)
    assert source is None if decoder.num_beams == 1 else source.shape == (rows,)


@pytest.mark.parametrize(
    "make", [Greedy, lambda **where: Beams(3, **where), lambda **where: Beams(3, length_penalty=2.0, **where)]
)
@pytest.mark.parametrize("eos_ids", [(), (EOS, OTHER_EOS)])
def test_choosing_stays_on_the_device_and_does_not_wait_for_it(make, eos_ids):
    # A tensor on the meta device has no values: reading one, or mixing devices, raises.
    decoder = make(eos_ids=eos_ids, device="meta")
    decoder.begin(2, 3, seed=0)
    for _ in range(3):
        ids, source = decoder.choose(torch.zeros(2 * decoder.num_beams, 11, device="meta"))
        assert ids.is_meta
        assert source is None or source.is_meta


def choose_all(decoder, script):
    """Run a greedy decoder over scripted tokens; return what it fed, and whether it was finished, by step."""
    fed, finished = [], []
    decoder.begin(len(script[0]), len(script), seed=0)
    for tokens in script:
        fed.append(decoder.choose(torch.nn.functional.one_hot(torch.tensor(tokens), 9).float())[0])
        finished.append(decoder.is_finished())
    return fed, finished


SCRIPT = [[5, 6, 7], [EOS, 6, 7], [5, OTHER_EOS, 7], [5, 6, EOS], [5, 6, 7]]


def test_sequences_end_each_by_itself():
    decoder = Greedy((EOS, OTHER_EOS), PAD)
    fed, finished = choose_all(decoder, SCRIPT)
    assert [ids.flatten().tolist() for ids in fed] == [
        [5, 6, 7],
        [EOS, 6, 7],
        [PAD, OTHER_EOS, 7],
        [PAD, PAD, EOS],
        [PAD, PAD, PAD],
    ]
    assert finished == [False, False, False, True, True]
    assert decoder.tokens(fed) == [[5, EOS], [6, 6, OTHER_EOS], [7, 7, 7, EOS]]


def test_a_request_that_broke_off_has_the_tokens_until_then():
    decoder = Greedy((EOS, OTHER_EOS), PAD)
    fed, _ = choose_all(decoder, SCRIPT)
    assert decoder.tokens(fed[:2]) == [[5, EOS], [6, 6], [7, 7]]
    assert decoder.tokens([]) == []


@pytest.mark.parametrize("first", [Greedy((EOS,)), Greedy((EOS, OTHER_EOS))])
def test_without_a_padding_token_the_first_end_is_fed(first):
    fed, _ = choose_all(first, [[EOS, 5], [6, 6]])
    assert fed[1].flatten().tolist() == [EOS, 6]


def test_a_fresh_request_forgets_the_ends_of_the_last():
    decoder = Greedy((EOS,), PAD)
    choose_all(decoder, [[EOS, EOS]])
    fed, finished = choose_all(decoder, [[5, 6]])
    assert fed[0].flatten().tolist() == [5, 6]
    assert finished == [False]


def test_without_ends_nothing_ends():
    decoder = Greedy()
    fed, finished = choose_all(decoder, SCRIPT)
    assert not any(finished)
    assert decoder.tokens(fed) == [list(tokens) for tokens in zip(*SCRIPT, strict=True)]


def searched(decoder, *steps):
    """Run a beam search over the rows' probabilities, a list a step; return what it fed."""
    decoder.begin(1, len(steps), seed=0)
    return [decoder.choose(torch.log(torch.tensor(rows))) for rows in steps]


# Token 1 looks best at first, but what follows token 0 is worth more: 0.4 × 0.9 against 0.6 × 0.4.
FIRST = [[0.4, 0.6, 0.0], [0.4, 0.6, 0.0]]
SECOND = [[0.3, 0.4, 0.3], [0.9, 0.1, 0.0]]


def test_rows_change_places_with_what_they_continue():
    decoder = Beams(2)
    (ids, source), (next_ids, next_source) = searched(decoder, FIRST, SECOND)
    assert (ids.flatten().tolist(), source.tolist()) == ([1, 0], [0, 0])
    assert (next_ids.flatten().tolist(), next_source.tolist()) == ([0, 1], [1, 0])
    assert decoder.tokens([ids, next_ids]) == [[0, 0]]


def test_a_search_that_broke_off_has_the_best_sequence_until_then():
    decoder = Beams(2)
    fed = [ids for ids, _ in searched(decoder, FIRST, SECOND)]
    # The step that broke off may have been chosen already, but it was not completed.
    assert decoder.tokens(fed[:1]) == [[0]]
    assert decoder.tokens([]) == []
    (first,) = searched(decoder, FIRST)
    assert decoder.tokens([first[0]]) == [[1]]


def test_steps_beyond_the_best_sequence_have_no_token():
    decoder = Beams(2, eos_ids=(2,))
    # Ending at once has 0.9; no longer sequence can have more.
    steps = [[[0.06, 0.04, 0.9]] * 2, [[0.5, 0.4, 0.1]] * 2, [[0.4, 0.4, 0.2]] * 2]
    fed = [ids for ids, _ in searched(decoder, *steps)]
    assert decoder.tokens(fed) == [[2, None, None]]
    assert all(2 not in ids for ids in fed), "an ended sequence is not fed"


def test_a_search_is_finished_when_no_beam_can_do_better():
    decoder = Beams(2, length_penalty=0.0, eos_ids=(2,))
    decoder.begin(1, 9, seed=0)
    assert not decoder.is_finished()
    finished = []
    for _ in range(3):
        decoder.choose(torch.log(torch.tensor([[0.06, 0.04, 0.9]] * 2)))
        finished.append(decoder.is_finished())
    # One sequence ends in the first step, the second in the second: [2] and [0, 2].
    assert finished == [False, True, True]


@pytest.mark.parametrize("last", [[0.998, 0.001, 0.001], [0.001, 0.001, 0.998]])
def test_a_search_that_is_over_finds_nothing_more_while_others_go_on(last):
    # Soon both beams have ended and none under way is better. Were it asked again at the last step, the
    # longer sequence would win: with this penalty, length outweighs its unlikely beginning.
    ending, going_on = [0.06, 0.04, 0.9], [0.5, 0.499, 0.001]
    script = [ending, ending, *[[0.998, 0.001, 0.001]] * 8, last]
    decoder = Beams(2, length_penalty=2.0, eos_ids=(2,))
    decoder.begin(2, len(script), seed=0)
    fed = [decoder.choose(torch.log(torch.tensor([row, row, going_on, going_on])))[0] for row in script]
    over, other = decoder.tokens(fed)
    assert over == [2] + [None] * 10
    assert other[-1] is not None


def test_no_end_is_looked_for_where_none_is_asked_for():
    decoder = Beams(2)
    fed = [ids for ids, _ in searched(decoder, [[0.06, 0.04, 0.9]] * 2, [[0.1, 0.1, 0.8]] * 2)]
    assert decoder.tokens(fed) == [[2, 2]]
    assert not decoder.is_finished()


def test_what_a_cell_decodes_with():
    def made(**settings):
        return make_decoder(Cell("eager", **settings), CPU, (EOS,), PAD)

    greedy, sampler, beams = made(), made(temperature=0.3, top_k=4, top_p=0.5), made(num_beams=3)
    assert type(greedy) is Greedy
    assert (greedy.eos_ids, greedy.pad_id, greedy.num_beams) == ((EOS,), PAD, 1)
    assert type(sampler) is Sampler
    warpers = [type(warper).__name__ for warper in sampler.warpers]
    assert warpers == ["TemperatureLogitsWarper", "TopKLogitsWarper", "TopPLogitsWarper"]
    assert type(beams) is Beams
    assert beams.num_beams == 3


GOOD = [
    {},
    {"temperature": 0.7},
    {"temperature": 1, "top_k": 1, "top_p": 1.0},
    {"temperature": 1, "top_p": 0.01},
    {"num_beams": 4, "length_penalty": -1.0},
    {"batch_size": 1, "batching": Batching.ragged},
    {"batch_size": 8, "num_beams": 2, "stop_at_eos": True},
]
BAD = [
    ("batch_size", {"batch_size": 0}),
    ("num_beams", {"num_beams": 0}),
    ("num_beams", {"num_beams": 2, "temperature": 0.5}),
    ("temperature", {"temperature": -0.1}),
    ("temperature", {"temperature": float("nan")}),
    ("temperature", {"temperature": float("inf")}),
    ("temperature", {"temperature": float("-inf")}),
    ("top_k", {"temperature": 1.0, "top_k": 0}),
    ("top_k", {"top_k": 5}),
    ("top_p", {"temperature": 1.0, "top_p": 0.0}),
    ("top_p", {"temperature": 1.0, "top_p": 1.01}),
    ("top_p", {"temperature": 1.0, "top_p": float("nan")}),
    ("top_p", {"top_p": 0.5}),
    ("length_penalty", {"num_beams": 2, "length_penalty": float("nan")}),
    ("length_penalty", {"num_beams": 2, "length_penalty": float("inf")}),
    ("length_penalty", {"num_beams": 2, "length_penalty": 1e300}),
]


@pytest.mark.parametrize("settings", GOOD)
def test_settings_that_are_some(settings):
    check_cell(replace(Cell("eager"), **settings))


@pytest.mark.parametrize(("key", "settings"), BAD)
def test_settings_that_are_none(key, settings):
    with pytest.raises(ConfigError, match=rf"^decoding\.{key}=") as refused:
        check_cell(replace(Cell("eager"), **settings))
    assert "\n" not in str(refused.value)
