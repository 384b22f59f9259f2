"""Personal data leaves the corpus, its placeholder takes its place, and every byte is accounted for."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.build.stage import Batch
from pipeline.curation.recipe import Recipe
from pipeline.questions import why
from pipeline.stages.pii import PLACEHOLDERS, STAGE, Config
from pipeline.store import files, ledger
from pipeline.text import spans
from tests.helpers import building

TEXTS = {
    "mail a@b.co, größer": "mail <MAIL>, größer",
    "größer: jane.doe@example.org and 93.184.216.34 漢": "größer: <MAIL> and <IP> 漢",
    "Tel: 5551234 now": "Tel: <PHONE> now",
    "pay DE89 3704 0044 0532 0130 00 by 4111 1111 1111 1111.": "pay <IBAN> by <CARD>.",
    "an müller@x.example!": "an <MAIL>!",
    "aé漢@例.公司 é😀": "<MAIL> é😀",
    "電話０３－１２３４－５６７８です": "電話<PHONE>です",
    "nothing here": "nothing here",
    "": "",
}


def test_each_kind_is_replaced_by_its_placeholder_and_counted():
    measured = STAGE.measure(Config(), Batch(pa.array(TEXTS)))
    assert {name: array.type for name, array in measured.signals.items()} == STAGE.signals
    assert measured.signals["pii_email"].to_pylist() == [1, 1, 0, 0, 1, 1, 0, 0, 0]
    assert measured.signals["pii_card"].to_pylist() == [0, 0, 0, 1, 0, 0, 0, 0, 0]
    assert measured.spans is not None
    assert measured.overwrites is not None
    written = spans.overwrite(pa.array(TEXTS), *measured.overwrites)
    assert spans.cut(written, measured.spans).to_pylist() == list(TEXTS.values())


def test_a_placeholder_is_not_longer_than_the_shortest_of_its_kind():
    shortest = {"email": "a@b.co", "ip": "20::", "phone": "5551234", "iban": "NO9386011117947", "card": "3" * 14}
    assert all(len(PLACEHOLDERS[kind]) <= len(shortest[kind]) for kind in PLACEHOLDERS)


def test_what_is_kept_stays_and_what_drops_names_its_rule():
    config = Config(email="drop", ip="keep", phone="keep")
    measured = STAGE.measure(config, Batch(pa.array(TEXTS)))
    dropped = ledger.judge(STAGE.rules(config), measured.signals, len(TEXTS)).columns()["dropped_by"].to_pylist()
    assert dropped == ["pii.email", "pii.email", None, None, "pii.email", "pii.email", *[None] * 3]
    assert measured.overwrites is not None
    assert measured.overwrites[1].to_pylist() == ["", "", "", "<IBAN><CARD>", *[""] * 5]


@pytest.fixture
def built(tmp_path):
    lines = "One line of words that ends well. Another sentence is here. A third one follows."
    texts = [f"{lines}\nWrite to jane[1].doe@example.org, please do. And so on. And more.\nno end"]
    texts += [text.replace("jane[1].doe@example.org", "bob@x.org") for text in texts[:1]]
    texts += [text.replace("jane[1].doe@example.org", "eve@y.org") for text in texts[:1]]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    recipe = Recipe.model_validate(
        {
            "name": "pii",
            "sources": [{"name": "web", "kind": "jsonl", "path": str(path), "domain": "web"}],
            "heuristics": {"c4": {}},
            "pii": {},
            "exact": {},
        }
    )
    return building.make(recipe, tmp_path / "build")[0]


def test_the_corpus_holds_the_placeholder_and_later_stages_measured_it(built):
    texts = [text for text, _, _ in building.curated(built).values()]
    assert len(texts) == 1, "documents that differ only in an address are exact duplicates once it is replaced"
    assert "Write to <MAIL>, please do." in texts[0]
    assert "@" not in texts[0]


def test_the_account_of_bytes_holds_and_why_shows_what_was_replaced(built):
    stages = {entry["stage"]: entry for entry in files.read_json(built.path("funnel.json"))["stages"]}
    first = built.documents(built.shards()[0])["id"][0].as_py()
    found = why.why(built, first)
    passage = next(passage for passage in found.passages if passage.stage == "pii")
    assert "".join(passage.cuts) == "jane.doe@example.org", "the citation mark inside was cut by C4 before"
    cut = sum(len(address) - len("<MAIL>") for address in ("jane.doe@example.org", "bob@x.org", "eve@y.org"))
    assert stages["pii"]["cut"] == {"documents": 3, "bytes": cut}


#: One of each kind, with the right check digits, and the same with a wrong one or in a form that is none.
SECRETS = ["jane.doe@mail.example.org", "93.184.216.34", "2a00:1450:4001:82a::200e", "+49 30 901820", "(212) 555-0142"]
SECRETS += ["müller@firma.example", "почта@пример.рф", "010-1234-5678", "8 (495) 123-45-67", "01 23 45 67 89"]
SECRETS += ["gb82west12345698765432", "DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432"]
SECRETS += ["4111 1111 1111 1111", "378282246310005", "０３－１２３４－５６７８", "ｊａｎｅ＠example．org"]
HARMLESS = [
    "jane.doe@mail",
    "93.184.216",
    "12:30:45",
    "2024-01-31",
    "DE88 3704 0044 0532 0130 00",
    "4111 1111 1111 1112",
]
HARMLESS += ["icon@2x.png", "git@github.com", "912 345 678 times"]
HARMLESS += ["größer", "漢字", "ไทย", "🙂", "9783161484100"]


def redacted(text: str) -> tuple[str, int]:
    """The text as the corpus would hold it, and how much was found."""
    measured = STAGE.measure(Config(), Batch(pa.array([text])))
    assert measured.spans is not None
    assert measured.overwrites is not None
    found = sum(array[0].as_py() for array in measured.signals.values())
    return spans.cut(spans.overwrite(pa.array([text]), *measured.overwrites), measured.spans)[0].as_py(), found


@given(st.lists(st.sampled_from(SECRETS + HARMLESS), max_size=12), st.sampled_from(["; ", "\n", " — ", " und ", "，"]))
def test_everything_personal_goes_nothing_else_does_and_a_second_pass_finds_nothing(pieces: list[str], between: str):
    left, found = redacted(between.join(["a", *pieces, "z"]))
    assert found == sum(piece in SECRETS for piece in pieces)
    parts = left.split(between)[1:-1]
    assert [part for part in parts if part not in PLACEHOLDERS.values()] == [p for p in pieces if p in HARMLESS]
    assert redacted(left) == (left, 0)
