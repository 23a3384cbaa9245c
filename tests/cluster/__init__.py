"""For the tests of the cluster: a real Redis, a false one, a world to run nodes in, and the oracle for all of them."""

import pytest

hiredis = pytest.importorskip("hiredis", reason="hiredis is not installed")
