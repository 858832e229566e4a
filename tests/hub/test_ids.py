import re
import subprocess

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from hypothesis import example, given
from hypothesis import strategies as st

from adapterhub.errors import HubIdError
from adapterhub.hub.ids import (
    Coordinate,
    Identifier,
    Page,
    Reference,
    RepositoryId,
    Revision,
    check_new_owner,
    is_place,
    skeleton,
)
from adapterhub.hub.reserved import BRANCHES, LANGUAGE_CODES

TASKS = {"sentiment", "nli", "mt", "sts"}
PIN = "0123456789abcdef0123456789abcdef01234567"
PINNED = Revision(PIN)


def repository(text: str, revision: str | None = None) -> Reference:
    return Reference(RepositoryId.parse(text), Revision(revision) if revision else None)


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ("sentiment/sst-2@ukp", [Coordinate("sentiment", "sst-2", author="ukp")]),
        ("Sentiment/SST-2@UKP", [Coordinate("sentiment", "sst-2", author="UKP")]),
        ("sentiment/sst-2", [Coordinate("sentiment", "sst-2")]),
        ("sentiment/sst-2@ukp@v2", [Coordinate("sentiment", "sst-2", author="ukp", revision=Revision("v2"))]),
        (f"sentiment/sst-2@ukp@{PIN}", [Coordinate("sentiment", "sst-2", author="ukp", revision=PINNED)]),
        (f"sentiment/sst-2@{PIN}", [Coordinate("sentiment", "sst-2", revision=PINNED)]),
        ("sentiment", [Coordinate("sentiment"), Coordinate(dataset="sentiment")]),
        ("sst-2@ukp", [Coordinate(dataset="sst-2", author="ukp")]),
        ("lang/de@ukp", [Coordinate(language="de", author="ukp")]),
        ("lang/ilo/wiki", [Coordinate(language="ilo", dataset="wiki")]),
        ("de/wiki@ukp", [Coordinate(language="de", dataset="wiki", author="ukp")]),
        ("zh_yue/wiki", [Coordinate(language="zh_yue", dataset="wiki")]),
        ("en", [Coordinate(language="en"), Coordinate(dataset="en")]),
        ("mt/wmt16", [Coordinate(language="mt", dataset="wmt16"), Coordinate("mt", "wmt16")]),  # Maltese, translation
        ("@me/name", [repository("me/name")]),
        ("@sentiment/sst-2@main", [repository("sentiment/sst-2", "main")]),
        ("me/Name.v2@refs/pr/1", [repository("me/Name.v2", "refs/pr/1")]),
        (f"me/name@{PIN}", [repository("me/name", PIN)]),
    ],
)
def test_every_form_has_its_meaning(text: str, readings: list[Coordinate | Reference]) -> None:
    found = Identifier.parse(text, TASKS, languages={"zh_yue"})
    assert list(found.readings) == readings
    assert str(found) == text


def test_what_cannot_be_told_apart_has_both_readings() -> None:
    found = Identifier.parse("qa/squad@ukp")
    assert found.coordinates == (Coordinate("qa", "squad", author="ukp"),)
    assert found.reference == repository("qa/squad", "ukp")
    assert Identifier.parse("qa/squad@ukp@main").reference is None  # two suffixes: author and revision
    assert Identifier.parse("qa/squad@main").readings == (repository("qa/squad", "main"),)  # a branch is no author
    assert Identifier.parse("qa/squad@a/b").readings == (repository("qa/squad", "a/b"),)
    assert Identifier.parse("qa/squad@ukp", tasks={"nli"}).readings == (repository("qa/squad", "ukp"),)
    assert Identifier.parse("lang/de@ukp").reference is None and Identifier.parse("de/wiki").reference is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no name of an adapter"),
        ("a/b/c", "no name of an adapter"),
        ("lang/de/wiki/more", "no name of an adapter"),
        ("a/b@", "no name of an adapter"),
        ("a//b", "no name of an adapter"),
        ("/etc/passwd", "no name of an adapter"),
        ("./folder", "no name of an adapter"),
        ("https://host/a/b", "no name of an adapter"),
        ("C:\\folder", "no name of an adapter"),
        ("@me/a@b@c", "A repository has one revision: write me/a@c"),
        ("@name", "'name' names no repository: write owner/name"),
        ("sentiment/sst-2@main", "'main' is a revision, and the author comes first: sentiment/sst-2@author@revision"),
        ("sentiment/sst--2", "'sst--2' can be no data set"),
        ("sentiment/café", "'café' can be no data set"),
        ("me/name@a b", "'a b' is no revision"),
        ("me/na\u202eme", "can be no repository name"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(HubIdError, match=re.escape(message)):
        Identifier.parse(text, TASKS)


words = st.from_regex(r"\A[a-z0-9_]([a-z0-9_.-]{0,10}[a-z0-9_])?\Z").filter(
    lambda word: not re.search(r"--|\.\.", word)
)
names = words.filter(lambda word: not re.search(r"--|\.\.|\.git$", word))
authors = names.filter(lambda name: name not in BRANCHES | LANGUAGE_CODES | {"lang"})
revisions = st.sampled_from(["main", "v1.0", "refs/pr/1", "größe", PIN]).map(Revision)
topics = st.one_of(
    st.tuples(names, names).map(lambda pair: {"task": pair[0], "dataset": pair[1]}),
    st.tuples(names, st.none() | names).map(lambda pair: {"language": pair[0], "dataset": pair[1]}),
    names.map(lambda name: {"task": name}),
    names.map(lambda name: {"dataset": name}),
)


@given(topics.filter(lambda topic: topic.get("task") != "lang"), st.none() | authors, st.none() | revisions)
def test_a_coordinate_is_read_as_it_is_written(
    topic: dict[str, str], author: str | None, revision: Revision | None
) -> None:
    coordinate = Coordinate(**topic, author=author, revision=revision if author or revision == PINNED else None)
    for tasks in (None, {topic.get("task")} - {None}):
        found = Identifier.parse(str(coordinate), tasks)
        assert coordinate in found.readings and str(found) == str(coordinate)
        assert all(str(reading) == str(coordinate) or reading.language for reading in found.coordinates)


@given(authors, names, st.none() | revisions)
def test_a_reference_is_read_as_it_is_written(owner: str, name: str, revision: Revision | None) -> None:
    reference = Reference(RepositoryId(owner, name), revision)
    assert reference in Identifier.parse(str(reference)).readings
    assert Identifier.parse(f"@{reference}").readings == (reference,)
    assert Identifier.parse(str(reference), tasks=()).readings == (reference,)


@given(st.text(max_size=20) | st.text(alphabet="ab@/.-_: \\é", max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = Identifier.parse(text)
    except HubIdError:
        return
    assert found.readings and str(found) == text and not is_place(text)


@example("a..b", "c")
@example("a", "b--c")
@example("a" * 97, "b")
@example("a", "b.git")
@example("a", "b\n")
@given(st.text(alphabet="aZ0_-.é\n/", max_size=6) | st.integers(90, 100).map("a".__mul__), st.text("ag.it", max_size=5))
def test_repositories_are_those_of_the_hugging_face_hub(owner: str, name: str) -> None:
    try:
        RepositoryId(owner, name)
    except HubIdError:
        return
    validate_repo_id(f"{owner}/{name}")  # what we take they take


@given(st.text(alphabet="aZ0_-.é\n", min_size=1, max_size=6), st.text("ag.it-", min_size=1, max_size=5))
def test_what_the_hugging_face_hub_takes_is_a_repository(owner: str, name: str) -> None:
    try:
        validate_repo_id(f"{owner}/{name}")
    except HFValidationError:
        return
    if not re.search(r"\.git$", owner):  # there only the name may not end so
        assert RepositoryId.parse(f"{owner}/{name}").key == f"{owner}/{name}".lower()


@example("a.lock")
@example("a/.b")
@example("a..b")
@example("-a")
@example("a.")
@example("a//b")
@given(st.lists(st.sampled_from([*"a.-/~^:@{\\ *[?", "..", ".lock", "é", "\x7f", "@{"]), max_size=5).map("".join))
def test_revisions_are_what_git_takes(text: str) -> None:
    git = subprocess.run(["git", "check-ref-format", "--branch", text], capture_output=True, check=False)
    try:
        Revision(text)
    except HubIdError:
        assert git.returncode or "@" in text
    else:
        assert git.returncode == 0


@pytest.mark.parametrize("text", [PIN.upper(), "a\u202eb", "e\u0301", "a" * 256, "a\u00a0b"])
def test_revisions_that_deceive_are_refused(text: str) -> None:
    with pytest.raises(HubIdError):
        Revision(text)
    assert PINNED.is_commit and not Revision("main").is_commit


@pytest.mark.parametrize("name", ["sentiment", "NLI", "de", "API", "main", "lang", "zh_yue", PIN, "a--b", "x.git"])
def test_names_that_no_owner_may_have(name: str) -> None:
    with pytest.raises(HubIdError):
        check_new_owner(name, TASKS, {"zh_yue"})


@pytest.mark.parametrize("name", ["me", "ukp", "AdapterHub", "martiansideofthemoon", "kabirahuja2431"])
def test_names_that_an_owner_may_have(name: str) -> None:
    check_new_owner(name, TASKS)


def test_names_that_look_alike_have_one_skeleton() -> None:
    for one, other in [("ukp", "UKP"), ("google", "g00gle"), ("rnlki", "mlki"), ("lohfink-rossi", "Iohfink_rossi")]:
        assert skeleton(one) == skeleton(other)
    assert skeleton("ukp") != skeleton("upk")


def test_coordinates_that_name_nothing_are_refused() -> None:
    for wrong in ({}, {"author": "ukp"}, {"task": "nli", "language": "de"}):
        with pytest.raises(HubIdError, match="A coordinate has a task or a language"):
            Coordinate(**wrong)
    with pytest.raises(HubIdError, match="Which author's v1"):
        Coordinate("nli", revision=Revision("v1"))


@pytest.mark.parametrize(
    ("address", "revision"),
    [
        ("https://hub.example.org/me/one", None),
        ("http://127.0.0.1:8400/me/one/", None),
        ("https://hub.example.org/me/one/version/v1.0", "v1.0"),
        (f"https://hub.example.org/me/one/tree/{PIN}/folder", PIN),
        ("https://hub.example.org/me/one/resolve/a%2Fb/adapter_config.json", "a/b"),
    ],
)
def test_pages_are_names(address: str, revision: str | None) -> None:
    assert Page.parse(address) == Page(address.split("/me/")[0], repository("me/one", revision))


@pytest.mark.parametrize(
    "address", ["https://hub.example.org/me", "ftp://x/me/one", "https:///me/one", "https://[/me/one", "https://x/a/-b"]
)
def test_addresses_that_are_of_no_page_are_refused(address: str) -> None:
    with pytest.raises(HubIdError):
        Page.parse(address)
