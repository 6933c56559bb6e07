"""What stands under every number."""

import re

import torch

from limbeck.evaluation.versions import versions


def test_versions_name_software_commit_hardware_and_date():
    facts = versions()
    assert facts["torch"] == torch.__version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", facts["date"])
    assert re.fullmatch(r"([0-9a-f]{12}\+?)?", facts.get("commit", ""))
    assert facts["hardware"]
    assert all(isinstance(value, str) and value for value in facts.values())
