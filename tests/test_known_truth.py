"""What llmlat says of rows whose truth is known: the benchmark in a fast form, a few seeds a statement."""

import pytest
import truths

N_SEEDS = 5


@pytest.mark.parametrize("one", truths.statements(), ids=lambda one: one.name)
def test_a_statement_holds_over_a_few_seeds(one: truths.Statement) -> None:
    outcome = truths.ask(one, range(N_SEEDS))
    is_share = all(isinstance(answer, bool) for answer in outcome.answers if answer is not None)
    one_seed = 1 / N_SEEDS if is_share else 0.0
    assert outcome.holds(slack=one_seed), f"{one.says} ({one.truth}): {outcome.answers}"


def test_an_outcome_holds_where_its_mean_lies_between_the_targets() -> None:
    said = truths.Statement("", "", "", 0.9, None, bool)
    assert truths.ask(said, [1, 1, 1]).holds()
    assert not truths.ask(said, [1, 0, 1]).holds()
    assert truths.Outcome(said, [None, None]).holds(), "withheld"
