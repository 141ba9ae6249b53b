"""Signals of the programs that are tested as black boxes."""

import signal

# A shell script that runs the tests in the background lets them ignore SIGINT, and their programs would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
