"""Prints the value that a file of settings gives a variable, as it stands there: `given.py FILE NAME`."""

import sys

from dotenv import dotenv_values

sys.stdout.write(dotenv_values(sys.argv[1], interpolate=False).get(sys.argv[2]) or "")
