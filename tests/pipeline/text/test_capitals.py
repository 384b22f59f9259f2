import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.capitals import folded

LETTERS = st.text("abzABZéÉжЖ漢@[`{ 9.", max_size=60) | st.text("aB ", min_size=30, max_size=100)


@given(st.lists(LETTERS, max_size=5))
def test_texts_of_mostly_capitals_are_in_small_letters_and_all_others_as_they_are(values: list[str]):
    wanted = [text.lower() if capitals(text) > 0 else text for text in values]
    assert folded(pa.array(values, pa.string())).to_pylist() == wanted


def capitals(text: str) -> int:
    """How many more capitals there are than small letters."""
    return sum(char.isupper() - char.islower() for char in text)
