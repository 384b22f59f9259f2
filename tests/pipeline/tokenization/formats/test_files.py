"""The files of every tokenizer that these tests train, opened by the programs that they are for."""

import pyarrow as pa
import pytest

from pipeline.tokenization.config import TokenizerConfig
from pipeline.tokenization.formats.folder import save
from pipeline.tokenization.training import counts, train
from tests.helpers import tokenizer_programs
from tests.pipeline.tokenization.conftest import THREE, documents
from tests.pipeline.tokenization.encoding import test_encode
from tests.pipeline.tokenization.formats import test_export

EVERY = {config.name: config for config in [*THREE, *test_encode.CONFIGS]} | {
    f"export-{name}": TokenizerConfig.model_validate({"name": name, "vocab_size": 500, **options})
    for name, options in test_export.CONFIGS.items()
}
GPT2S = {"bytes", "gpt2", "export-gpt2", "export-roberta"}
#: Reserved strings as ordinary text, inside words and alone, and characters that files cannot hold or alphabets lack.
HOSTILE = [
    "old</s>new x<s>y <pad>z</pad> </s></s> a<unk>b <|endoftext|>c [SEP]d <extra_id_0>e <0x41>f [NEW]",
    "a\x00b\x00 \x00c",
    "it </w>was</w> ##ed [MASK]",
]


@pytest.mark.parametrize("name", EVERY)
def test_every_file_gives_the_same_ids_in_its_own_program(tmp_path, name):
    config = EVERY[name]
    texts = [document["text"] for document in documents()] + HOSTILE * 60
    vocabulary = train.train(counts.count(pa.array(texts), config), config)
    save(str(tmp_path), vocabulary, config)
    found = tokenizer_programs.check(str(tmp_path), vocabulary, config, texts[:60] + HOSTILE)
    expected = set()
    if name in GPT2S:
        expected = {"vocab.json"}
    elif config.algorithm == "wordpiece" and not (config.split_digits or config.split_scripts):
        expected = {"vocab.txt"}
    elif config.algorithm == "unigram":
        expected = {"sentencepiece.model"}
    assert found == expected
