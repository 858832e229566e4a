from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterhub.errors import AmbiguousAdapterError, HubError, HubIdError, HubNotFoundError
from adapterhub.hub.compatibility import Level, Verdict
from adapterhub.hub.ids import Identifier, RepositoryId, Revision
from adapterhub.hub.resolution import Candidate, Resolution, Wanted, resolve

TASKS = {"sentiment", "nli", "sts"}
HEAD, OLD = "a" * 40, "b" * 40


def adapter(author: str, place: str = "sentiment/sst-2", level: Level | None = Level.EXACT, **more: Any) -> Candidate:
    task, _, dataset = place.partition("/")
    language = task if task in ("de", "en") else None
    return Candidate(
        RepositoryId(author, f"{task}-{dataset}-{more.get('method', 'lora')}"),
        HEAD,
        author,
        None if language else task,
        dataset,
        language,
        verdict=None if level is None else Verdict(level, (f"it is {level.label} for {author}",)),
        revisions={"main": HEAD, "v1": OLD},
        commits=(OLD,),
        **more,
    )


def found(text: str, *candidates: Candidate, **wanted: Any) -> Resolution:
    return resolve(Identifier.parse(text, TASKS), candidates, Wanted(**wanted))


UKP, ME, OTHER = adapter("ukp"), adapter("me", level=Level.DERIVED), adapter("other", level=Level.INCOMPATIBLE)


@pytest.mark.parametrize(
    ("text", "author"),
    [
        ("sentiment/sst-2@ukp", "ukp"),
        ("sentiment/sst-2@me", "me"),  # though it fits worse
        ("Sentiment/SST-2@UKP", "ukp"),
        ("sst-2@me", "me"),
        ("sentiment@me", "me"),
        ("sentiment/sst-2", "ukp"),
        ("sst-2", "ukp"),
        ("me/sentiment-sst-2-lora", "me"),
        ("@ME/sentiment-sst-2-lora", "me"),
    ],
)
def test_every_form_finds_its_adapter(text: str, author: str) -> None:
    answer = found(text, UKP, ME, OTHER)
    assert answer.candidate.author == author and answer.commit == HEAD
    assert f"it is {answer.candidate.verdict.level.label} for {author}" in answer.reasons


@pytest.mark.parametrize(
    ("better", "reason"),
    [
        ({"level": Level.EXACT}, "of 3 that will do it fits best (exact)"),
        ({"config_hash": "cfg:v1:x"}, "of 3 that will do it has the configuration asked for"),
        ({"score": 0.91}, "of 3 that will do it has the best verified score, 0.91"),
        ({"curated": True}, "of 3 that will do it is the curator's default"),
    ],
)
def test_each_rule_decides_and_says_so(better: dict[str, Any], reason: str) -> None:
    same = {"level": Level.SAME_BASE, "score": None}
    candidates = [adapter("a", **same), adapter("b", **(same | better)), adapter("c", **same)]
    answer = found("sentiment/sst-2", *candidates, config_hash="cfg:v1:x")
    assert answer.candidate is candidates[1] and reason in answer.reasons
    assert answer.alternatives == (candidates[0], candidates[2])
    another = "its configuration is another one than the one asked for, which none of those that fit best has"
    assert (another in answer.reasons) == ("config_hash" not in better)


def test_rules_are_in_their_order() -> None:
    candidates = [
        adapter("a", level=Level.EXACT),
        adapter("b", level=Level.SAME_BASE, config_hash="x", score=0.99, curated=True),
    ]
    assert found("sst-2", *candidates, config_hash="x").candidate.author == "a"
    candidates = [adapter("a", config_hash="x"), adapter("b", score=0.99, curated=True)]
    assert found("sst-2", *candidates, config_hash="x").candidate.author == "a"
    assert found("sst-2", *candidates).candidate.author == "b"
    candidates = [adapter("a", score=0.9), adapter("b", score=0.8, curated=True)]
    assert found("sst-2", *candidates).candidate.author == "a"


def test_equals_are_an_error_that_lists_them() -> None:
    with pytest.raises(AmbiguousAdapterError) as error:
        found("sst-2", adapter("b", score=0.9), adapter("a", score=0.9), adapter("c", score=0.5))
    assert error.value.candidates == (
        "sentiment/sst-2@a (a/sentiment-sst-2-lora)",
        "sentiment/sst-2@b (b/sentiment-sst-2-lora)",
    )
    assert "sst-2 may be one of 2 adapters that will do equally well: sentiment/sst-2@a" in str(error.value)
    # Two of one author are no less equal.
    with pytest.raises(AmbiguousAdapterError):
        found("sst-2@a", adapter("a", method="lora"), adapter("a", method="bottleneck"))
    assert found("sst-2@a", adapter("a"), adapter("a", method="bottleneck"), method="bottleneck")


def test_scores_on_other_data_do_not_decide() -> None:
    candidates = [adapter("a", "sts/mrpc", score=0.9), adapter("b", "sts/sts-b", score=0.8)]
    with pytest.raises(AmbiguousAdapterError, match=r"sts/mrpc@a .*, sts/sts-b@b"):
        found("sts", *candidates)
    assert found("sts", adapter("a", "sts/mrpc", Level.DERIVED), candidates[1]).candidate.author == "b"
    # One adapter in two places is one adapter.
    twice = replace(candidates[0], dataset="sts-b")
    assert found("sts", candidates[0], twice).candidate.author == "a"


def test_languages_are_found_in_each_form() -> None:
    german = adapter("ukp", "de/wiki")
    for text in ("lang/de@ukp", "lang/de", "de/wiki@ukp", "lang/de/wiki", "de", "wiki"):
        assert found(text, german, adapter("ukp", "en/cc100")).candidate is german
    assert str(german).startswith("lang/de/wiki@ukp")


def test_what_does_not_fit_is_left_out_and_said() -> None:
    answer = found("sst-2", UKP, OTHER, adapter("x", level=Level.SHAPE))
    assert [one.author for one, _ in answer.left_out] == ["other", "x"]
    assert answer.left_out[0][1] == "it does not fit the base model: it is incompatible for other"
    with pytest.raises(HubNotFoundError) as error:
        found("sst-2@other", UKP, OTHER, base="roberta-base")
    assert str(error.value) == (
        "No adapter sst-2@other will do. sentiment/sst-2@other (other/sentiment-sst-2-lora): it does not fit "
        "roberta-base: it is incompatible for other. Of other authors there are sentiment/sst-2@ukp "
        "(ukp/sentiment-sst-2-lora)"
    )
    with pytest.raises(HubNotFoundError, match="does not fit"):
        found("other/sentiment-sst-2-lora", OTHER)
    with pytest.raises(HubNotFoundError, match="in shape alone, which must be allowed"):
        found("sst-2", adapter("x", level=Level.SHAPE))
    assert found("sst-2", adapter("x", level=Level.SHAPE), allow_shape=True).candidate.author == "x"
    with pytest.raises(HubNotFoundError, match="its method is lora, and ia3 is asked for"):
        found("sst-2", adapter("x", method="lora"), method="ia3")
    many = [adapter(f"x{number}", level=Level.INCOMPATIBLE) for number in range(12)]
    with pytest.raises(HubNotFoundError, match=r"; and 2 more$"):
        found("sst-2", *many)


def test_revisions_are_found_or_missed() -> None:
    assert found("sst-2@ukp@v1", UKP).commit == OLD
    assert found(f"sst-2@ukp@{OLD}", UKP).commit == OLD
    assert found(f"sst-2@{HEAD}", UKP).commit == HEAD
    assert found("ukp/sentiment-sst-2-lora@v1", UKP).commit == OLD
    assert found("sst-2", UKP, replace(ME, revisions={"v9": OLD}), revision=Revision("v9")).candidate.author == "me"
    with pytest.raises(HubNotFoundError, match="no revision v2 \\(there are: main, v1\\)"):
        found("sst-2@ukp@v2", UKP)
    with pytest.raises(HubNotFoundError, match="no revision cccc"):
        found(f"sst-2@ukp@{'c' * 40}", UKP)
    with pytest.raises(HubIdError, match="another revision than v2"):
        found("sst-2@ukp@v1", UKP, revision=Revision("v2"))


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("sentiment/sst-2@nobody", "sentiment/sst-2@me"),
        ("sentiment/imdb", "sentiment/sst-2@ukp"),
        ("sentimant/sst-2@ukp", "sentiment/sst-2@ukp"),
        ("ukp/sentiment-sst2-lora", "ukp/sentiment-sst-2-lora"),
    ],
)
def test_what_is_not_there_is_answered_by_what_is_near(text: str, near: str) -> None:
    with pytest.raises(HubNotFoundError, match="There is no adapter") as error:
        found(text, UKP, ME)
    assert near in str(error.value)
    with pytest.raises(HubNotFoundError, match=r"here$"):
        found(text)


candidates = st.builds(
    adapter,
    st.sampled_from(["ukp", "me", "x", "y"]),
    st.sampled_from(["sentiment/sst-2", "sentiment/imdb", "de/wiki"]),
    st.sampled_from([None, *Level]),
    method=st.sampled_from(["lora", "bottleneck"]),
    config_hash=st.sampled_from([None, "1", "2"]),
    score=st.sampled_from([None, 0.5, 0.9]),
    curated=st.booleans(),
)
pools = st.lists(candidates, max_size=7, unique_by=lambda one: one.repository)
texts = st.sampled_from(
    ["sentiment/sst-2", "sst-2@ukp", "sentiment", "lang/de@me", "x/sentiment-imdb-lora", "sentiment/imdb@y", "@me/a"]
)
wants = st.builds(
    Wanted,
    method=st.sampled_from([None, "lora"]),
    config_hash=st.sampled_from([None, "1"]),
    allow_shape=st.booleans(),
)


def outcome(text: str, pool: list[Candidate], wanted: Wanted) -> Resolution | tuple[type, str]:
    try:
        return resolve(Identifier.parse(text, TASKS), pool, wanted)
    except HubError as error:
        return type(error), str(error)


@given(pools, texts, wants, st.data())
def test_the_order_of_adapters_changes_nothing(
    pool: list[Candidate], text: str, wanted: Wanted, data: st.DataObject
) -> None:
    assert outcome(text, pool, wanted) == outcome(text, data.draw(st.permutations(pool)), wanted)


@given(pools, texts, wants)
def test_an_answer_is_what_was_asked_for(pool: list[Candidate], text: str, wanted: Wanted) -> None:
    identifier = Identifier.parse(text, TASKS)
    answer = outcome(text, pool, wanted)
    if isinstance(answer, tuple):
        return
    chosen = answer.candidate
    authors = {place.author for place in identifier.coordinates} - {None}
    assert not authors or chosen.author in authors
    assert identifier.reference is None or chosen.repository == identifier.reference.repository
    assert chosen.verdict is None or chosen.verdict.level is not Level.INCOMPATIBLE
    assert wanted.allow_shape or chosen.verdict is None or chosen.verdict.level is not Level.SHAPE
    assert wanted.method in (None, chosen.method)
    levels = [one.verdict.level for one in answer.alternatives if one.verdict is not None]
    assert all(level <= (chosen.verdict.level if chosen.verdict else 0) for level in levels)


@given(pools, texts, wants)
def test_what_does_not_fit_changes_no_answer(pool: list[Candidate], text: str, wanted: Wanted) -> None:
    answer = outcome(text, pool, wanted)
    if isinstance(answer, Resolution):
        out = [one.repository for one, _ in answer.left_out]
        again = outcome(text, [one for one in pool if one.repository not in out], wanted)
        assert again == replace(answer, left_out=())
