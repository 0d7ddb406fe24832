"""The Python in the documents, run as it is written."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from tests.docs import markdown


@pytest.mark.parametrize("document", markdown.DOCUMENTS, ids=lambda document: document.name)
def test_python_examples(document: Path) -> None:
    examples = [block for block in markdown.blocks(document) if block.language == "python"]
    names: dict[str, object] = {}
    for block in examples:
        test = doctest.DocTestParser().get_doctest(block.text, names, document.name, str(document), block.line)
        assert test.examples, f"{document.name}, line {block.line}: an example without a prompt"
        runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
        said: list[str] = []
        runner.run(test, out=said.append, clear_globs=False)
        assert not runner.failures, "".join(said)
        names = test.globs
