"""The package exports its names, and loads nothing before it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from syncline import sdk
from syncline.sdk.session import Session


@pytest.mark.parametrize("name", sdk.__all__)
def test_each_name_is_that_of_its_module(name: str) -> None:
    assert getattr(sdk, name).__name__ == name
    assert getattr(sdk, name).__module__.startswith("syncline.sdk.")


def test_the_package_and_the_module_have_the_same_class() -> None:
    assert sdk.Session is Session


def test_what_it_does_not_have_is_an_import_error() -> None:
    with pytest.raises(ImportError, match="nothing_of_ours"):
        exec("from syncline.sdk import nothing_of_ours")


def test_the_package_alone_loads_nothing_of_grpc() -> None:
    program = "import sys, syncline.sdk; print('grpc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
