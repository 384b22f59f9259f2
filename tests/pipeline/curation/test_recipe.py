import textwrap

import pytest

from pipeline import MillError
from pipeline.build.build import Build
from pipeline.curation.recipe import Recipe, WrongRecipe, parse
from pipeline.store.model_files import ModelMissing, locate

GOOD = """\
name: mine
sources:
  - name: web
    kind: jsonl
    path: /data/*.jsonl
    domain: web
minhash:
  bands: 14
"""


def refused(text: str) -> str:
    with pytest.raises(WrongRecipe) as raised:
        parse(textwrap.dedent(text), Recipe, "mine.yaml")
    return str(raised.value)


def test_a_good_recipe_takes_defaults_for_what_it_leaves_out():
    recipe = parse(GOOD, Recipe)
    assert recipe.name == "mine"
    assert recipe.error_budget == 0.01
    assert recipe.shard_bytes == 64 << 20
    assert recipe.minhash is not None
    assert recipe.language is None


@pytest.mark.parametrize(
    ("change", "to", "message"),
    [
        ("bands: 14", "bnads: 14", "mine.yaml, line 8: minhash.bnads: unknown field; did you mean `bands`?"),
        ("bands: 14", "bands: many", "mine.yaml, line 8: minhash.bands: "),
        ("name: mine", "nmae: mine", "mine.yaml, line 1: nmae: unknown field; did you mean `name`?"),
        ("name: mine", "name: My Recipe", "mine.yaml, line 1: name: "),
        ("    kind: jsonl", "    kind: jsnol", "line 4: sources[0].kind: 'jsnol' is not known; did you mean `jsonl`?"),
        ("    path: ", "    ptah: ", "mine.yaml, line 5: sources[0].ptah: unknown field; did you mean `path`?"),
        ("minhash:", "perplexity: {}\nminhash:", "add a `language` section"),
        ("minhash:", "minhash: [", "not valid YAML"),
        ("minhash:", "exact: &a {}\nheuristics: *a\nminhash:", "YAML aliases (*a) are not allowed"),
        ("name: mine", "name: mine\nshard_bytes: 3GiB", "line 2: shard_bytes: a shard holds between 1 KiB and 1 GiB"),
    ],
)  # fmt: skip
def test_a_wrong_recipe_is_refused_with_line_field_and_remedy(change, to, message):
    assert change in GOOD
    assert message in refused(GOOD.replace(change, to))


def test_every_mistake_is_told_at_once():
    told = refused(GOOD.replace("bands", "bnads").replace("path", "ptah")).splitlines()
    assert any("bnads" in line for line in told)
    assert any("ptah" in line for line in told)
    assert any("path" in line and "required" in line for line in told)


def test_two_sources_of_one_name_are_refused():
    source = GOOD[GOOD.index("  - name") : GOOD.index("minhash")]
    assert "the name 'web' more than once" in refused(GOOD.replace(source, source + source))


def test_yaml_tags_never_make_objects():
    told = refused(GOOD.replace("name: mine", "name: !!python/object/apply:os.system [echo]"))
    assert "mine.yaml, line 1" in told


def test_no_name_in_a_recipe_leads_out_of_the_build(tmp_path):
    assert "perplexity.models" in refused(GOOD + "language: {}\nperplexity: {models: {../../x: build}}\n")
    with pytest.raises(ModelMissing, match="leads out of the build"):
        locate("build:models/../../x", str(tmp_path))
    with pytest.raises(MillError, match="leads out of the folder of the build"):
        Build(str(tmp_path), parse(GOOD, Recipe)).path("models", "../../x.arpa")
