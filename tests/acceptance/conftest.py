"""The folder of the tests of commands, and the signals of the programs that are tested as black boxes."""

import signal

import pytest

from tests.acceptance.folder import Folder

# A shell script that runs the tests in the background lets them ignore SIGINT, and their programs would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def folder(tmp_path):
    folder = Folder(tmp_path)
    yield folder
    folder.close()
