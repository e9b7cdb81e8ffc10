"""``python -m sluice`` is the program ``sluice``."""

import os
import sys

from ._program import path

program = path()
os.execv(program, [program, *sys.argv[1:]])
