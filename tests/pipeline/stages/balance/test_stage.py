import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.report import needs
from pipeline.stages.balance import stage as balance
from pipeline.stages.balance.stage import BINS, Config, allocate, make_plan, shares
from pipeline.stages.balance.token_budget import Target
from pipeline.store import files
from tests.helpers.small_build import SmallRecipe, document, write_documents

sizes_of = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 10**12), min_size=1)


@given(sizes_of, st.integers(1, 10**13), st.floats(0.1, 8), st.data())
def test_no_domain_gives_more_than_its_epochs_and_the_budget_is_met_or_all_are_full(sizes, budget, cap, data):
    weights = {domain: data.draw(st.floats(0.01, 1)) for domain in sizes}
    wanted = shares(sizes, Config(strategy="weights", weights=weights))
    given_bytes = allocate(sizes, wanted, budget, cap)
    assert all(given_bytes[domain] <= cap * size * (1 + 1e-9) for domain, size in sizes.items())
    reachable = min(budget, cap * sum(sizes.values()))
    assert sum(given_bytes.values()) == pytest.approx(reachable, rel=1e-6)


@given(sizes_of, st.integers(1, 10**13), st.floats(0.1, 8))
def test_uncapped_domains_keep_the_ratio_of_their_shares(sizes, budget, cap):
    wanted = shares(sizes, Config(strategy="temperature", temperature=2))
    given_bytes = allocate(sizes, wanted, budget, cap)
    free = [domain for domain, size in sizes.items() if given_bytes[domain] < cap * size * (1 - 1e-9)]
    ratios = [given_bytes[domain] / wanted[domain] for domain in free]
    assert ratios == pytest.approx([max(ratios, default=0)] * len(free), rel=1e-6)


def test_shares_by_hand():
    sizes = {"big": 900, "small": 100}
    assert shares(sizes, Config()) == {"big": 0.9, "small": 0.1}
    assert shares(sizes, Config(strategy="temperature", temperature=2)) == pytest.approx({"big": 0.75, "small": 0.25})
    assert shares(sizes, Config(strategy="unimax")) == {"big": 0.5, "small": 0.5}
    assert shares(sizes, Config(strategy="weights", weights={"small": 2, "*": 0})) == {"big": 0.0, "small": 1.0}


def test_a_domain_without_a_weight_is_refused_unless_a_star_names_the_rest():
    sizes = {"web": 10, "books": 30, "news": 10}
    with pytest.raises(MillError, match=r"names no share of 'books', 'news'.*\"\*\": 0"):
        shares(sizes, Config(strategy="weights", weights={"web": 1}))
    wanted = shares(sizes, Config(strategy="weights", weights={"web": 0.6, "*": 0.4}))
    assert wanted == pytest.approx({"web": 0.6, "books": 0.3, "news": 0.1})


def test_weights_for_a_domain_that_is_not_there_name_it_and_those_that_are():
    with pytest.raises(ValueError, match=r"'nwes'; found: books, news"):
        shares({"books": 1, "news": 1}, Config(strategy="weights", weights={"nwes": 1}))


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=300), st.integers(0, 2**32), st.floats(0.05, 3.5))
def test_the_hash_cut_takes_the_planned_bytes_to_within_half_a_bin(sizes, seed, epochs):
    bins = np.random.default_rng(seed).integers(0, BINS, len(sizes))
    histogram = np.bincount(bins, sizes, minlength=BINS).astype(np.int64)
    total = sum(sizes)
    config = Config(strategy="natural", tokens=max(1, round(total * epochs)), bytes_per_token=1, max_epochs=3)
    plan = make_plan({"d": histogram}, {"d": len(sizes)}, config).domains["d"]
    taken = plan.whole * total + sum(size for size, at in zip(sizes, bins, strict=True) if at / BINS < plan.cut)
    assert abs(taken - plan.epochs * total) <= histogram.max() / 2 + 1


def test_without_a_budget_natural_balance_reads_every_document_once():
    histogram = np.bincount([5, 9], [10, 20], BINS).astype(np.int64)
    plan = make_plan({"d": histogram}, {"d": 2}, Config(max_epochs=4)).domains["d"]
    assert (plan.whole, plan.cut, plan.epochs) == (1, 0.0, 1.0)


def unimax(sizes: dict[str, int], budget: float, epochs: float) -> dict[str, float]:
    """Chung et al. 2023, algorithm 1: the smallest first, each an equal part of what is left, at most its epochs."""
    given_tokens, left = {}, budget
    for place, domain in enumerate(sorted(sizes, key=lambda domain: sizes[domain])):
        given_tokens[domain] = min(left / (len(sizes) - place), epochs * sizes[domain])
        left -= given_tokens[domain]
    return given_tokens


@given(sizes_of, st.integers(1, 10**13), st.floats(0.1, 8))
def test_unimax_is_the_paper_s_algorithm(sizes, budget, epochs):
    found = allocate(sizes, shares(sizes, Config(strategy="unimax")), budget, epochs)
    assert found == pytest.approx(unimax(sizes, budget, epochs), rel=1e-9)


@given(sizes_of, st.floats(0.2, 20))
def test_temperature_flattens_and_never_reorders(sizes, temperature):
    found = shares(sizes, Config(strategy="temperature", temperature=temperature))
    total = sum(size ** (1 / temperature) for size in sizes.values())
    assert found == pytest.approx({domain: size ** (1 / temperature) / total for domain, size in sizes.items()})
    assert sum(found.values()) == pytest.approx(1)


@given(sizes_of, st.floats(0.1, 8), st.sampled_from(["natural", "temperature", "unimax"]), st.randoms())
def test_a_plan_does_not_depend_on_the_order_of_the_domains(sizes, cap, strategy, random):
    config = Config(strategy=strategy, temperature=3, max_epochs=cap, tokens=10**6)
    shuffled = random.sample(sorted(sizes), len(sizes))
    histograms = {domain: np.bincount([7], [sizes[domain]], BINS).astype(np.int64) for domain in sizes}
    one = make_plan(histograms, dict.fromkeys(sizes, 1), config)
    other = make_plan({name: histograms[name] for name in shuffled}, dict.fromkeys(shuffled, 1), config)
    assert one == other


def of_sizes(sizes: dict[str, int], config: Config, ratios: dict[str, float] | None = None) -> balance.Plan:
    histograms = {domain: np.bincount([7], [size], BINS).astype(np.int64) for domain, size in sizes.items()}
    return make_plan(histograms, dict.fromkeys(sizes, 1), config, ratios)


def test_a_domain_s_own_bytes_per_token_decide_how_many_tokens_it_has():
    config = Config(bytes_per_token={"code": 2.0, "*": 5.0}, strategy="unimax", max_epochs=4)
    plan = of_sizes({"code": 1000, "web": 1000}, config).domains
    assert (plan["code"].tokens, plan["web"].tokens) == (500, 200)
    assert plan["code"].epochs == pytest.approx(350 / 500)
    assert plan["web"].epochs == pytest.approx(350 / 200)


def test_budget_mode_by_hand():
    """A model of 100 parameters wants 2,000 tokens; 400 + 100 unique ones are there, four epochs give 2,000."""
    weights = {"web": 0.5, "books": 0.5}
    config = Config(strategy="weights", weights=weights, budget=Target(parameters=100), max_epochs=4, bytes_per_token=3)
    budget = of_sizes({"web": 1200, "books": 300}, config).budget
    assert budget is not None
    assert (budget.needed_once, budget.needed, budget.unique, budget.most) == (2000, 500, 500, 2000)
    assert budget.reached
    assert budget.missing == 0
    books, web = budget.domains["books"], budget.domains["web"]
    assert (books.asked, books.most, books.given, books.weight) == (1000, 400, 400, 0.2)
    assert (web.given, web.weight, web.epochs) == (1600, 0.8, 4)
    assert (books.missing, books.missing_bytes) == (150, 450)  # 250 unique tokens, four times, are the share
    assert web.missing == 0
    four_epochs = 1 + 15.387756 * (1 - np.exp(-3 / 15.387756))
    assert web.worth == pytest.approx(400 * four_epochs)
    assert budget.needed_worth == pytest.approx(2000 / four_epochs)
    assert budget.missing_worth == pytest.approx(2000 / four_epochs - 500)
    assert budget.largest_model == 100


@given(sizes_of, st.integers(1, 10**12), st.floats(0.3, 16), st.sampled_from(["natural", "unimax", "temperature"]))
def test_the_weights_of_a_budget_reach_it_or_all_domains_are_spent(sizes, parameters, epochs, strategy):
    config = Config(strategy=strategy, temperature=2, budget=Target(parameters=parameters), max_epochs=epochs)
    budget = of_sizes(sizes, config).budget
    assert budget is not None
    read = {domain: entry.weight * budget.given for domain, entry in budget.domains.items()}
    assert all(read[domain] <= entry.most * (1 + 1e-9) for domain, entry in budget.domains.items())
    if budget.reached:
        assert budget.given == pytest.approx(20 * parameters, rel=1e-6)
        assert budget.missing <= 1e-6 * budget.needed
    else:
        assert budget.given == pytest.approx(budget.most, rel=1e-6)
        assert epochs * (budget.unique + budget.missing) == pytest.approx(20 * parameters, rel=1e-6)
    assert budget.worth <= budget.given * (1 + 1e-9)


@given(sizes_of, st.integers(1, 10**12), st.floats(0.3, 16), st.sampled_from(["natural", "unimax", "temperature"]))
def test_with_what_is_missing_every_domain_gives_its_share(sizes, parameters, epochs, strategy):
    config = Config(strategy=strategy, temperature=2, budget=Target(parameters=parameters), max_epochs=epochs)
    budget = of_sizes(sizes, config).budget
    assert budget is not None
    full = {domain: entry.unique + entry.missing for domain, entry in budget.domains.items()}
    wanted = {domain: entry.share for domain, entry in budget.domains.items()}
    found = allocate(full, wanted, budget.needed_once, epochs)
    assert found == pytest.approx({d: entry.asked for d, entry in budget.domains.items()}, rel=1e-6)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"tokens": 5, "budget": {"parameters": 1}}, "mutually exclusive"),
        ({"tokenizer": "x", "bytes_per_token": 3}, "give one of them"),
        ({"budget": {"parameters": 0}}, "parameters"),
        ({"bytes_per_token": {"web": 0}}, "bytes_per_token"),
    ],
    ids=str,
)
def test_a_wrong_configuration_is_refused(wrong: dict, says: str):
    with pytest.raises(ValueError, match=says):
        Config(**wrong)


class BalancedRecipe(SmallRecipe):
    balance: Config


def with_tokenizer(root: Path, shard_size: int, tokenizer: Path) -> dict:
    """The ``balance.json`` of a build of digits and letters, whose tokenizer knows pairs of digits."""
    config = Config(strategy="unimax", budget=Target(parameters=10), max_epochs=2, tokenizer=str(tokenizer))  # type: ignore[arg-type]
    build = Build(str(root), BalancedRecipe(balance=config))  # type: ignore[arg-type]
    rows = [document(i, "11" * (50 + i), domain="digits") for i in range(40)]
    rows += [document(100 + i, "ab" * (50 + i), domain="letters") for i in range(40)]
    write_documents(build, rows, shard_size)
    for step in balance.steps():
        for item in step.items(build):
            step.work(build, item)
    return files.read_json(build.path("balance.json"))


def test_a_tokenizer_measures_each_domain_s_tokens_for_any_shard_size(tmp_path: Path):
    vocabulary = {"<unk>": 0, "1": 1, "a": 2, "b": 3, "11": 4}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("1", "1")], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    told = with_tokenizer(tmp_path / "one", 13, tmp_path / "tokenizer.json")
    for domain, pair in (("digits", 1), ("letters", 2)):
        tokens = sum(pair * (50 + i) + 1 for i in range(40))  # and the one that ends a document
        assert told["domains"][domain]["tokens"] == pytest.approx(tokens)
    assert told["budget"]["domains"]["digits"]["unique"] == pytest.approx(told["domains"]["digits"]["tokens"])
    other = with_tokenizer(tmp_path / "other", 80, tmp_path)
    assert other["domains"] == told["domains"]
    assert json.dumps(other["budget"]) == json.dumps(told["budget"])


def test_a_build_is_asked_about_other_models_and_epochs(tmp_path: Path):
    config = Config(strategy="unimax", bytes_per_token=2)
    build = Build(str(tmp_path), BalancedRecipe(balance=config))  # type: ignore[arg-type]
    with pytest.raises(balance.NoBudget, match=r"balance\.json: not there"):
        balance.what_if(build, 10)
    rows = [document(i, "text " * (i + 1), domain="web" if i % 3 else "news") for i in range(30)]
    write_documents(build, rows, 7)
    for step in balance.steps():
        for item in step.items(build):
            step.work(build, item)
    with pytest.raises(balance.NoBudget, match="--parameters"):
        balance.what_if(build)
    assert needs.needs(build) is None
    sizes = {d: sum(len(row["text"]) for row in rows if row["domain"] == d) for d in ("web", "news")}
    asked = Config(strategy="unimax", bytes_per_token=2, max_epochs=3, budget=Target(parameters=500))
    found = balance.what_if(build, 500, max_epochs=3)
    assert found == of_sizes(sizes, asked).budget
    told = needs.laid_out(found.asdict())
    assert "3,488 within 3 epochs" in told["verdict"]
    assert [name for name, _ in told["domains"]] == ["news", "web"]


def test_a_tokenizer_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(MillError, match=r"balance\.tokenizer: .*nowhere/tokenizer\.json is not there"):
        with_tokenizer(tmp_path, 80, tmp_path / "nowhere")
